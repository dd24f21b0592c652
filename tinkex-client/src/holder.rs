//! What the clients of one service share: the HTTP client, the flags, one session, the limits, the table of requests
//! in flight. PROTOCOL 1 calls it the holder.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tinkex_future::{ByteBudget, PollPolicy};
use tinkex_http::{BackoffGate, HttpClient, RetryPolicy};
use tinkex_observer::ObserverSet;
use tinkex_types::{ClientConfig, CreateSessionRequest, FinishReason, FinishSessionRequest};
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::cancellation::CancelQueue;
use crate::closing::Closing;
use crate::configuration::{self, DynamicFlags};
use crate::connection_places::ConnectionPlaces;
use crate::credentials::HolderCredentials;
use crate::custom_loss::CustomLosses;
use crate::dispatch::SampleDispatch;
use crate::inflight::InflightTable;
use crate::owned_task::OwnedTask;
use crate::sampling::Sampler;
use crate::session::{self, Session};
use crate::telemetry::{ReportedSession, Reporter, Telemetry, TelemetrySettings};
use crate::training::{Trainer, TrainingDispatch};
use crate::{Error, endpoints};

/// What does not change while a holder lives.
pub(crate) struct HolderSettings {
    pub(crate) session_request: CreateSessionRequest,
    pub(crate) observers: ObserverSet,
    /// What the user set; without it the server's flags have a say.
    pub(crate) sampling_policy: Option<RetryPolicy>,
    pub(crate) training_policy: Option<RetryPolicy>,
    pub(crate) poll_policy: Option<PollPolicy>,
    pub(crate) seed: Option<u64>,
    /// Where connections are bounded by the limit of open files.
    pub(crate) connection_places: Option<ConnectionPlaces>,
    /// Headers the user added, told to those who open a sampler handle.
    pub(crate) header_overrides: std::collections::BTreeMap<String, String>,
    /// None where nothing is reported.
    pub(crate) telemetry: Option<TelemetrySettings>,
}

pub(crate) struct Holder {
    pub(crate) http: HttpClient,
    /// What `http` sends; the server's flags have a say.
    credentials: Arc<HolderCredentials>,
    pub(crate) runtime: Handle,
    pub(crate) settings: HolderSettings,
    pub(crate) inflight: Arc<InflightTable>,
    pub(crate) built: Instant,
    /// Writes the requests in flight on a signal, where that is asked for.
    #[cfg(unix)]
    dumps: std::sync::OnceLock<OwnedTask>,
    connection: OnceCell<Connection>,
    /// The samplers made from it, so that closing reaches them.
    samplers: Mutex<Vec<Weak<Sampler>>>,
    /// The training clients made from it, whose operations are waited for.
    trainers: Mutex<Vec<Weak<Trainer>>>,
    pub(crate) closing: Arc<Closing>,
    /// Whether the server has been told of the end; held while it is.
    finished: tokio::sync::Mutex<bool>,
}

/// What exists once the service has been reached.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) config: ClientConfig,
    pub(crate) flags: DynamicFlags,
    pub(crate) session: Session,
    pub(crate) dispatch: Arc<SampleDispatch>,
    pub(crate) payload_budget: Arc<ByteBudget>,
    pub(crate) cancellations: CancelQueue,
    pub(crate) training: Arc<TrainingDispatch>,
    pub(crate) custom_losses: CustomLosses,
    refresh: Option<OwnedTask>,
    reporter: Reporter,
}

impl Holder {
    pub(crate) fn new(
        http: HttpClient,
        credentials: Arc<HolderCredentials>,
        runtime: Handle,
        settings: HolderSettings,
    ) -> Arc<Self> {
        Arc::new(Self {
            http,
            credentials,
            runtime,
            settings,
            inflight: Arc::default(),
            built: Instant::now(),
            #[cfg(unix)]
            dumps: std::sync::OnceLock::new(),
            connection: OnceCell::new(),
            samplers: Mutex::default(),
            trainers: Mutex::default(),
            closing: Arc::default(),
            finished: tokio::sync::Mutex::new(false),
        })
    }

    /// The connection, made by the first caller in the order of PROTOCOL 4.3; everybody else waits for it.
    pub(crate) async fn connection(&self) -> Result<&Connection, Error> {
        self.check_open()?;
        let connection = self
            .connection
            .get_or_try_init(|| async {
                // With the credential itself, also where an earlier try has come as far as exchanging it.
                let first = self.http.with_auth(self.credentials.first());
                let config = endpoints::client_config(&first).await?;
                self.go_by(config.as_ref())?;
                let dynamic = endpoints::dynamic_config(&self.http, true).await?;
                let refreshes = dynamic.is_some();
                let flags = DynamicFlags::new(dynamic.unwrap_or_default());
                // Closed meanwhile: a session would only have to be finished again.
                self.check_open()?;
                let created = endpoints::create_session(&self.http, &self.settings.session_request).await?;
                session::announce(&created);
                let session_id = created.session_id.into();
                Ok::<_, Error>(self.connect(config, flags, refreshes, session_id, ReportedSession::Own))
            })
            .await?;
        if let Err(closed) = self.check_open() {
            // A `close` that did not wait for this connection must not leave a heartbeat behind.
            self.end_tasks(connection);
            return Err(closed);
        }
        Ok(connection)
    }

    /// Sends from now on what the flags demand; none where the server has none.
    fn go_by(&self, config: Option<&ClientConfig>) -> Result<(), Error> {
        let none = ClientConfig::default();
        self.credentials
            .adopt(config.unwrap_or(&none), &self.http, &self.runtime)
            .map_err(Error::no_credential)
    }

    /// Joins a session that another process created: flags and session id are known (PROTOCOL 15.7).
    pub(crate) fn join(
        &self,
        config: ClientConfig,
        flags: DynamicFlags,
        session_id: Arc<str>,
    ) -> Result<(), Error> {
        self.go_by(Some(&config))?;
        // A fresh holder has no connection yet, so this cannot fail.
        let connection = self.connect(Some(config), flags, true, session_id, ReportedSession::Joined);
        let _ = self.connection.set(connection);
        Ok(())
    }

    fn connect(
        &self,
        sent: Option<ClientConfig>,
        flags: DynamicFlags,
        refreshes: bool,
        session_id: Arc<str>,
        reported: ReportedSession,
    ) -> Connection {
        // Where the server says nothing, nothing says that it takes the chunks of a batch in any order.
        let any_order = sent.as_ref().is_some_and(|config| config.parallel_fwdbwd_chunks);
        let config = sent.unwrap_or_default();
        let http = &self.http;
        let gate = BackoffGate::for_key(&http.gate_key());
        let settings = self.settings.telemetry.as_ref();
        Connection {
            reporter: Reporter::start(
                settings,
                reported,
                &session_id,
                http,
                &self.credentials,
                &self.runtime,
            ),
            session: Session::keep_alive(session_id, http.clone(), &self.runtime),
            dispatch: SampleDispatch::new(gate, config.sample_dispatch_bytes_semaphore_size),
            payload_budget: Arc::new(ByteBudget::new(config.inflight_response_bytes_semaphore_size)),
            training: TrainingDispatch::new(any_order),
            custom_losses: CustomLosses::default(),
            cancellations: CancelQueue::new(http.clone(), flags.clone(), self.runtime.clone()),
            refresh: refreshes.then(|| {
                OwnedTask::spawn(&self.runtime, configuration::refresh(http.clone(), flags.clone()))
            }),
            config,
            flags,
        }
    }

    /// The connection, where there is one already.
    pub(crate) fn connected(&self) -> Option<&Connection> {
        self.connection.get()
    }

    /// Where failures are told; nowhere, as long as there is no session.
    pub(crate) fn telemetry(&self) -> &Telemetry {
        static OFF: Telemetry = Telemetry::OFF;
        self.connected().map_or(&OFF, |connection| connection.reporter.telemetry())
    }

    /// Where the session is that of another process: sends what is still to be reported, and reports nothing any more.
    pub(crate) async fn end_joined_telemetry(&self) {
        if let Some(connection) = self.connected() {
            connection.reporter.close_if_joined().await;
        }
    }

    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if self.closing.has_begun() { Err(Error::closed("service")) } else { Ok(()) }
    }

    /// Takes a task that dumps the requests in flight, to end it with this holder.
    #[cfg(unix)]
    pub(crate) fn own_dumps(&self, task: OwnedTask) {
        // A holder is given one at its making, so there is none yet.
        let _ = self.dumps.set(task);
    }

    /// Takes note of a sampler, to be closed with the service.
    pub(crate) fn register(&self, sampler: &Arc<Sampler>) {
        let mut samplers = self.samplers.lock().unwrap_or_else(PoisonError::into_inner);
        samplers.retain(|sampler| sampler.strong_count() > 0);
        samplers.push(Arc::downgrade(sampler));
    }

    /// Takes note of a trainer, whose operations are submitted before the service is closed.
    pub(crate) fn register_trainer(&self, trainer: &Arc<Trainer>) {
        let mut trainers = self.trainers.lock().unwrap_or_else(PoisonError::into_inner);
        trainers.retain(|trainer| trainer.strong_count() > 0);
        trainers.push(Arc::downgrade(trainer));
    }

    /// Refuses new requests, waits until the training operations called before are submitted or their time is over,
    /// sends what cancellations are queued and the last acknowledgements, ends the heartbeat and the refresh of the flags,
    /// finishes the session, and sends what telemetry is queued (PROTOCOL 10.3). What a call could not finish, because it
    /// was dropped or the server did not answer, the next one does.
    pub(crate) async fn close(&self, reason: FinishReason, detail: Option<String>) -> Result<(), Error> {
        const FLUSH_LIMIT: Duration = Duration::from_secs(5);
        /// How long a connection that is just being made is waited for.
        const CONNECTING_LIMIT: Duration = Duration::from_secs(10);
        self.closing.begin();
        let mut finished = self.finished.lock().await;
        if *finished {
            return Ok(());
        }
        // A connection that is just being made is waited for, since its session is to be finished too; none is begun.
        let connected = self.connection.get_or_try_init(|| async { Err(Error::closed("service")) });
        let connection = match tokio::time::timeout(CONNECTING_LIMIT, connected).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err(Error::still_connecting(CONNECTING_LIMIT)),
        };
        let trainers: Vec<_> = {
            let trainers = self.trainers.lock().unwrap_or_else(PoisonError::into_inner);
            trainers.iter().filter_map(Weak::upgrade).collect()
        };
        join_all(trainers.iter().map(|trainer| trainer.turns.finish())).await;
        // They stay in the list, so that a call that is dropped here leaves them to the next one.
        let samplers: Vec<_> = {
            let samplers = self.samplers.lock().unwrap_or_else(PoisonError::into_inner);
            samplers.iter().filter_map(Weak::upgrade).collect()
        };
        join_all(samplers.iter().map(|sampler| sampler.close())).await;
        connection.cancellations.flush(FLUSH_LIMIT).await;
        self.end_tasks(connection);
        let body = FinishSessionRequest { reason, detail };
        let told = endpoints::finish_session(&self.http, connection.session.id(), &body).await;
        // Last, and also where the server could not be told: it may take the telemetry all the same.
        connection.reporter.close().await;
        told?;
        *finished = true;
        Ok(())
    }

    /// Ends the heartbeat, the refresh of the flags, and that of the token.
    fn end_tasks(&self, connection: &Connection) {
        connection.end_tasks();
        self.credentials.end();
    }
}

impl Connection {
    /// How long a billing pause is waited out, by the server's flags.
    pub(crate) fn billing_pause(&self) -> Duration {
        Duration::from_secs(self.config.billing_exception_max_pause_duration_sec)
    }

    /// Ends the heartbeat and the refresh of the flags.
    fn end_tasks(&self) {
        self.session.end();
        if let Some(refresh) = &self.refresh {
            refresh.abort();
        }
    }
}

/// Names the service only: settings hold header values and metadata, which may be secrets.
impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let session = self.connected().map(|connection| connection.session.id());
        f.debug_struct("Holder").field("http", &self.http).field("session", &session).finish_non_exhaustive()
    }
}
