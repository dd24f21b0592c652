//! How a service client is made.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;
use serde_json::Value;
use tinkex_future::PollPolicy;
use tinkex_http::{
    AuthProvider, BaseUrl, HttpClient, HttpClientBuilder, Jitter, NoAuth, RetryPolicy, SharedTransport,
    TraceContext, Transport, WallClock,
};
use tinkex_observer::{ObserverSet, QueueLog};
use tinkex_types::{
    CreateSessionRequest, InvalidInput, PROTOCOL_SDK_VERSION, QueueStateObserver, SamplerHandle,
};
use tokio::runtime::Handle;

use crate::configuration::DynamicFlags;
use crate::connection_places::ConnectionPlaces;
use crate::credentials::{CredentialSources, HolderCredentials};
use crate::environment::Environment;
use crate::holder::{Holder, HolderSettings};
#[cfg(unix)]
use crate::inflight::DumpOnSignal;
use crate::operation_span::OperationSpan;
use crate::telemetry::TelemetrySettings;
use crate::{DumpTarget, Error, SamplingClient, ServiceClient, sampling};

/// Builds a [`ServiceClient`]. Setters never fail; everything is checked in [`build`](Self::build).
#[derive(Default)]
pub struct ServiceClientBuilder {
    api_key: Option<Credential>,
    credential_command: Option<String>,
    credentials_file: Option<PathBuf>,
    wall_clock: WallClock,
    base_url: Option<String>,
    transport: Option<SharedTransport>,
    headers: Vec<(String, String)>,
    project_id: Option<String>,
    tags: Vec<String>,
    user_metadata: BTreeMap<String, Value>,
    display_name: Option<String>,
    observers: Vec<Arc<dyn QueueStateObserver>>,
    queue_log: QueueLog,
    retry_policy: Option<RetryPolicy>,
    sampling_policy: Option<RetryPolicy>,
    training_policy: Option<RetryPolicy>,
    poll_policy: Option<PollPolicy>,
    seed: Option<u64>,
    dump_target: Option<DumpTarget>,
    trace_context: Option<Arc<dyn TraceContext>>,
    lazy: bool,
    without_telemetry: bool,
    environment: Environment,
}

enum Credential {
    Text(String),
    None,
    Provider(Arc<dyn AuthProvider>),
}

impl ServiceClientBuilder {
    /// Takes what is not set here from the environment. [`crate`] lists the variables. The file of stored keys is part of
    /// it: [`CredentialStore::default_path`](crate::CredentialStore::default_path).
    #[must_use]
    pub fn from_env(mut self) -> Self {
        self.environment = Environment::read();
        self
    }

    /// Sets the API key, or a JWT that serves as one. Empty text counts as unset. Keys for the production service begin
    /// with `tml-`, those of other servers are of any form.
    ///
    /// A key goes before a credential command, and a command before the stored default key, wherever each comes from
    /// (PROTOCOL 3.2): the builder, else, with [`from_env`](Self::from_env), the environment. There are two exceptions. A
    /// server may demand the command, and then only a JWT goes before it. And where a key does not have the form the
    /// production service wants, the command is used if there is one.
    #[must_use]
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.api_key = Some(key.into()).filter(|key| !key.trim().is_empty()).map(Credential::Text);
        self
    }

    /// Sets a command for the shell that prints a credential. It is run whenever one is needed (so it should be fast, or
    /// keep what it gets) without input, for 60 s at most; its exit status and its standard error are ignored. Empty text
    /// counts as unset. [`api_key`](Self::api_key) says in which order credentials are used.
    ///
    /// The production service takes what a command prints only in exchange for its own tokens. It says so in its flags.
    #[must_use]
    pub fn credential_command(mut self, command: impl Into<String>) -> Self {
        self.credential_command = Some(command.into()).filter(|command| !command.is_empty());
        self
    }

    /// Sets the file of stored keys, whose default key is used where there is neither a key nor a command. A file that does
    /// not exist holds no key; one that is malformed is an error where its turn comes. See
    /// [`CredentialStore`](crate::CredentialStore).
    #[must_use]
    pub fn credentials_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.credentials_file = Some(path.into());
        self
    }

    /// Sets the wall clock, by which tokens expire and dates in the server's hints are understood. Default: the system's.
    #[must_use]
    pub fn wall_clock(mut self, clock: WallClock) -> Self {
        self.wall_clock = clock;
        self
    }

    /// Sends no API key, for servers that want none.
    #[must_use]
    pub fn without_api_key(mut self) -> Self {
        self.api_key = Some(Credential::None);
        self
    }

    /// Asks `auth` for the credential of every attempt, or for the one to exchange where the server exchanges credentials
    /// for tokens (PROTOCOL 3.4).
    #[must_use]
    pub fn auth(mut self, auth: Arc<dyn AuthProvider>) -> Self {
        self.api_key = Some(Credential::Provider(auth));
        self
    }

    /// Sets the service. Empty text counts as unset. Default: the production service.
    #[must_use]
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into()).filter(|url| !url.is_empty());
        self
    }

    /// Sends requests over `transport` instead of the ready-made one. Samples in flight are then not bounded by the
    /// process's limit of open files, as they are over the ready-made one.
    #[must_use]
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(SharedTransport::new(transport));
        self
    }

    /// Adds a header to every request. It wins over the built-in ones.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the project of the session.
    #[must_use]
    pub fn project_id(mut self, project_id: impl Into<String>) -> Self {
        self.project_id = Some(project_id.into());
        self
    }

    /// Adds a tag to the session.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Adds an entry to the session's metadata. Observations of queue states are never affected by it (F-27).
    #[must_use]
    pub fn user_metadata(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.user_metadata.insert(key.into(), value.into());
        self
    }

    /// Names the session for people.
    #[must_use]
    pub fn display_name(mut self, name: impl Into<String>) -> Self {
        self.display_name = Some(name.into());
        self
    }

    /// Adds an observer of queue states, for every client of this service. The built-in pause log stays
    /// ([`queue_log`](Self::queue_log) turns it off). Observers run apart from the polls, behind a bounded queue.
    #[must_use]
    pub fn queue_state_observer(mut self, observer: impl QueueStateObserver + 'static) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// Sets the policy of the built-in pause log, or turns it off. Default: one line a minute per client.
    #[must_use]
    pub fn queue_log(mut self, log: impl Into<QueueLog>) -> Self {
        self.queue_log = log.into();
        self
    }

    /// Sets how calls are repeated. Default: 10 retries within 5 minutes; for samples and the operations of training
    /// clients, without a limit of count until a failure has lasted 30 minutes. [`RetryPolicy::none`] makes every call,
    /// those submissions included, a single attempt; results are still polled for ([`poll_policy`](Self::poll_policy)).
    /// A policy set here also overrides the server's limit on billing pauses, and its count caps how often a lost sample
    /// is submitted anew.
    #[must_use]
    pub fn retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.sampling_policy = Some(policy.clone());
        self.training_policy = Some(policy.clone());
        self.retry_policy = Some(policy);
        self
    }

    /// Sets how submissions of samples are repeated, apart from other calls. The default waits out a billing pause
    /// as long as the server's flags say, else an hour.
    #[must_use]
    pub fn sampling_retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.sampling_policy = Some(policy);
        self
    }

    /// Sets how long results are waited for, and how long outages and billing pauses are sat out. Default: no
    /// deadline; 30 minutes; as long as the server's flags say, else an hour.
    #[must_use]
    pub fn poll_policy(mut self, policy: PollPolicy) -> Self {
        self.poll_policy = Some(policy);
        self
    }

    /// Writes what is in flight to `target` whenever the process gets SIGUSR1:
    /// [`ServiceClient::dump_inflight`]. Each service client of the process that was told to writes its own. With
    /// [`from_env`](Self::from_env), `TINKEX_DUMP_INFLIGHT` does the same. Default: off.
    ///
    /// From [`build`](Self::build) on the signal does not end the process any more, even when the client is gone. `build`
    /// fails where the file cannot be written, or the runtime has no I/O enabled. On systems without that signal a warning
    /// is logged, and nothing is ever written.
    #[must_use]
    pub fn dump_inflight_on_signal(mut self, target: DumpTarget) -> Self {
        self.dump_target = Some(target);
        self
    }

    /// Seeds the jitter of delays, for repeatable tests. Default: random.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Tells the service to which trace each attempt belongs: `context` writes headers, usually `traceparent`, that name
    /// the span it is given. Nothing of it reaches another origin. Default: nothing of traces is sent.
    #[must_use]
    pub fn trace_context(mut self, context: impl TraceContext + 'static) -> Self {
        self.trace_context = Some(Arc::new(context));
        self
    }

    /// Sends nothing in [`build`](Self::build): the first operation that needs the session creates it.
    #[must_use]
    pub fn connect_lazily(mut self) -> Self {
        self.lazy = true;
        self
    }

    /// Reports nothing to the service of how the session goes. Default: its beginning and end and the failures of its
    /// operations are reported, without credentials, prompts or data (PROTOCOL 20; `docs/configuration.md` lists them). The
    /// words of the server's errors are among them, with what the server may quote there, but not those of a 422. With
    /// [`from_env`](Self::from_env), `TINKER_TELEMETRY` turns it off too. Reporting never delays a call and never fails
    /// one; only [`close`](ServiceClient::close) waits for it, 5 s at most.
    #[must_use]
    pub fn without_telemetry(mut self) -> Self {
        self.without_telemetry = true;
        self
    }

    /// Checks everything, then connects: fetches the flags and creates the session.
    ///
    /// Must run inside a tokio runtime; the client's tasks run there.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) before anything is sent where a setting is unusable; what the
    /// requests say otherwise.
    pub async fn build(self) -> Result<ServiceClient, Error> {
        let lazy = self.lazy;
        let holder = self.holder()?;
        if !lazy {
            let span = OperationSpan::open("ServiceClient.build", None, None);
            let connection = span.cover(Box::pin(holder.connection())).await?;
            span.client_id(connection.session.id());
        }
        Ok(ServiceClient::new(holder))
    }

    /// Opens a sampler that another client (or process) described with
    /// [`SamplingClient::handle`](crate::SamplingClient::handle). The handle says where the service is; the
    /// credential comes from this builder. Neither flags nor a session are asked for: they are in the handle. The
    /// opened sampler draws its sequence ids from a block of its own (PROTOCOL 15.7).
    ///
    /// The credential is sent to whatever service the handle names, so open only handles you trust. Where its flags demand
    /// it, the credential is exchanged for tokens as in [`build`](Self::build).
    ///
    /// The sampler reports its failures under the session of the handle, unless told not to
    /// ([`without_telemetry`](Self::without_telemetry)); the beginning and the end of that session are not its to report.
    /// [`SamplingClient::close`](crate::SamplingClient::close) sends what is left of its reports, 5 s at most; dropping it
    /// loses them.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub async fn open_sampler(mut self, handle: &SamplerHandle) -> Result<SamplingClient, Error> {
        self.base_url = Some(handle.holder.base_url.clone());
        for (name, value) in &handle.holder.default_headers_overrides {
            self.headers.push((name.clone(), value.clone()));
        }
        let holder = self.holder()?;
        let flags = DynamicFlags::new(handle.holder.client_dynamic_config.clone());
        holder.join(handle.holder.client_config.clone(), flags, handle.session_id.as_str().into())?;
        let id = handle.sampling_session_id.as_str();
        let span = OperationSpan::open("ServiceClient.open_sampler", None, Some(id));
        span.cover(Box::pin(sampling::open(holder, handle))).await
    }

    fn holder(self) -> Result<Arc<Holder>, Error> {
        let runtime = Handle::try_current().map_err(|_| {
            InvalidInput::new("runtime", "is missing: build the client inside a tokio runtime")
        })?;
        let base_url: BaseUrl = match self.base_url.or(self.environment.base_url.clone()) {
            Some(url) => url.parse()?,
            None => BaseUrl::production(),
        };
        let mut headers = self.environment.headers()?;
        let mut overrides = BTreeMap::new();
        for (name, value) in self.headers {
            insert_header(&mut headers, &name, &value)?;
            overrides.insert(name, value);
        }
        let telemetry = (!self.without_telemetry && !self.environment.telemetry_off)
            .then(|| TelemetrySettings { clock: self.wall_clock.clone(), secrets: header_values(&headers) });
        let given = |auth| HolderCredentials::given(auth, self.wall_clock.clone(), self.seed);
        let sources = |key: Option<String>| CredentialSources {
            key: key.or(self.environment.api_key),
            command: self.credential_command.or(self.environment.credential_command),
            file: self.credentials_file.or(self.environment.credentials_file),
            production: base_url.is_production(),
            clock: self.wall_clock.clone(),
        };
        let credentials = Arc::new(match self.api_key {
            Some(Credential::Provider(auth)) => given(auth),
            Some(Credential::None) => given(Arc::new(NoAuth)),
            Some(Credential::Text(key)) => HolderCredentials::from_sources(sources(Some(key)), self.seed)?,
            None => HolderCredentials::from_sources(sources(None), self.seed)?,
        });
        let (transport, connection_places) = match self.transport {
            Some(transport) => (transport, None),
            None => default_transport()?,
        };
        let jitter = self.seed.map(Jitter::seeded).unwrap_or_default();
        let http = HttpClient::builder(base_url, transport)
            .auth(Arc::clone(&credentials) as _)
            .headers(headers)
            .policy(self.retry_policy.unwrap_or_default())
            .jitter(jitter)
            .clock(self.wall_clock);
        let http = self.trace_context.into_iter().fold(http, HttpClientBuilder::trace_context).build()?;
        let observers =
            self.observers.into_iter().fold(ObserverSet::new(self.queue_log), ObserverSet::with_observer);
        let mut session_request = CreateSessionRequest::new(PROTOCOL_SDK_VERSION);
        session_request.tags = if self.tags.is_empty() { self.environment.tags } else { self.tags };
        session_request.user_metadata = self.user_metadata;
        session_request.project_id = self.project_id.or(self.environment.project_id);
        session_request.display_name = self.display_name;
        let dump_target = self.dump_target.or(self.environment.dump_target);
        let holder = Holder::new(
            http,
            credentials,
            runtime,
            HolderSettings {
                session_request,
                observers,
                sampling_policy: self.sampling_policy,
                training_policy: self.training_policy,
                poll_policy: self.poll_policy,
                seed: self.seed,
                connection_places,
                header_overrides: overrides,
                telemetry,
            },
        );
        if let Some(target) = dump_target {
            dump_on_signal(&holder, target)?;
        }
        Ok(holder)
    }
}

#[cfg(unix)]
fn dump_on_signal(holder: &Arc<Holder>, target: DumpTarget) -> Result<(), InvalidInput> {
    holder.own_dumps(DumpOnSignal::listen(target)?.begin(holder));
    Ok(())
}

#[cfg(not(unix))]
fn dump_on_signal(_: &Arc<Holder>, target: DumpTarget) -> Result<(), InvalidInput> {
    tracing::warn!(?target, "requests in flight are never dumped here: this system has no SIGUSR1");
    Ok(())
}

fn insert_header(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), InvalidInput> {
    let header = HeaderName::try_from(name)
        .map_err(|_| InvalidInput::new("header", format!("{name:?} is not a header name")))?;
    // The value is left out of the message: it may be a secret.
    let value = HeaderValue::try_from(value)
        .map_err(|_| InvalidInput::new("header", format!("{name} has a value that cannot be sent")))?;
    headers.insert(header, value);
    Ok(())
}

/// The values of headers, any of which may be a secret.
fn header_values(headers: &HeaderMap) -> Vec<SecretString> {
    headers.values().filter_map(|value| value.to_str().ok()).map(SecretString::from).collect()
}

#[cfg(feature = "reqwest")]
fn default_transport() -> Result<(SharedTransport, Option<ConnectionPlaces>), InvalidInput> {
    let transport = tinkex_http::ReqwestTransport::new()?;
    let places = ConnectionPlaces::of_process(transport.clone());
    Ok((SharedTransport::new(transport), places))
}

#[cfg(not(feature = "reqwest"))]
fn default_transport() -> Result<(SharedTransport, Option<ConnectionPlaces>), InvalidInput> {
    Err(InvalidInput::new("transport", "is missing: pass transport(..), or turn on the feature `reqwest`"))
}

impl fmt::Debug for ServiceClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceClientBuilder").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}
