//! Serves the metrics over HTTP (feature `prometheus-listener`).
//!
//! The exporter's own server does the work. It is given a thread with a runtime of its own: scrapes are answered while
//! the application's runtime is busy, and the listener, its connections and its upkeep all end with that runtime.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;

use metrics_exporter_prometheus::{BuildError, PrometheusHandle, PrometheusRecorder};
use tokio::runtime::{self, Runtime};
use tokio::sync::oneshot;

use super::{builder, described};

/// How often another free port is looked for, where one is taken between the finding and the binding.
const ATTEMPTS: usize = 16;

/// Installs the recorder for the whole process and serves it at `http://ADDRESS/metrics`. Port 0 stands for any free
/// one; [`Listening::address`] says which.
///
/// Needs no runtime: the listener brings a thread and a runtime of its own, which also runs the recorder's upkeep every
/// five seconds. Whoever reaches the address can read the metrics; there is no authentication, so think twice about
/// addresses other than those of the loopback interface.
///
/// # Errors
///
/// [`ListenError`]. Where it fails, nothing is installed and nothing listens.
pub fn install_with_listener(address: SocketAddr) -> Result<Listening, ListenError> {
    let (recorder, listening) = listening_recorder(address)?;
    metrics::set_global_recorder(recorder).map_err(|_| ListenError::RecorderInstalled)?;
    Ok(listening)
}

/// As [`install_with_listener`], without installing the recorder: for programs that combine recorders.
///
/// # Errors
///
/// [`ListenError`], but never [`ListenError::RecorderInstalled`].
pub fn listening_recorder(address: SocketAddr) -> Result<(PrometheusRecorder, Listening), ListenError> {
    let (runtime, recorder, exporter, address) = bind(address)?;
    let handle = recorder.handle();
    let (stop, stopped) = oneshot::channel::<()>();
    let (alive, ended) = oneshot::channel::<()>();
    let serve = move || {
        runtime.block_on(async {
            tokio::select! {
                // Only a socket that does not listen any more would end it.
                _ = exporter => {}
                _ = stopped => {}
            }
        });
        // With the runtime go the connections and the upkeep; only then is it told.
        drop(runtime);
        drop(alive);
    };
    thread::Builder::new().name("tinkex-metrics".to_owned()).spawn(serve).map_err(ListenError::Runtime)?;
    Ok((described(recorder), Listening { address, handle, _stop: stop, ended }))
}

type Bound<F> = (Runtime, PrometheusRecorder, F, SocketAddr);

/// Binds the exporter, which does not tell its address and whose errors are text. So the address is bound here first,
/// for the port and for the error, and let go again; where somebody else takes a free port in between, another is found.
fn bind(address: SocketAddr) -> Result<Bound<impl Future<Output = impl Sized>>, ListenError> {
    let mut attempts = if address.port() == 0 { ATTEMPTS } else { 1 };
    loop {
        let refused = |source| ListenError::Bind { address, source };
        let probe = TcpListener::bind(address).map_err(refused)?;
        let found = probe.local_addr().map_err(refused)?;
        drop(probe);
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(ListenError::Runtime)?;
        let built = {
            let _entered = runtime.enter();
            builder().and_then(|builder| builder.with_http_listener(found).build())
        };
        attempts -= 1;
        match built {
            Ok((recorder, exporter)) => return Ok((runtime, recorder, exporter, found)),
            Err(BuildError::FailedToCreateHTTPListener(_)) if attempts > 0 => {}
            Err(BuildError::FailedToCreateHTTPListener(text)) => return Err(refused(io::Error::other(text))),
            Err(error) => return Err(ListenError::Exporter(error)),
        }
    }
}

/// The metrics are being served. Dropping this ends it without waiting; [`Listening::close`] waits. The recorder stays
/// installed, since that cannot be undone: from then on somebody else has to call [`PrometheusHandle::run_upkeep`].
#[must_use = "the metrics are served until this is dropped"]
pub struct Listening {
    address: SocketAddr,
    handle: PrometheusHandle,
    /// Dropping it is what ends the thread.
    _stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl Listening {
    /// Where it listens, with the port that was found for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the metrics, such as `http://127.0.0.1:9000/metrics`. (The exporter answers every other path but
    /// `/health` with the metrics too.)
    pub fn url(&self) -> String {
        format!("http://{}/metrics", self.address)
    }

    /// Renders the same text.
    pub fn handle(&self) -> &PrometheusHandle {
        &self.handle
    }

    /// Stops serving: scrapes under way are cut off, and the address is free when this resolves. Dropping the future
    /// stops it all the same.
    pub async fn close(self) {
        let Self { _stop: stop, ended, .. } = self;
        drop(stop);
        // The error is the news: the thread has let go of its end.
        let _ = ended.await;
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Why the metrics are not served.
#[derive(Debug)]
#[non_exhaustive]
pub enum ListenError {
    /// The address cannot be listened at: it is in use, not of this machine, or not allowed.
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the operating system says. Its kind is [`AddrInUse`](io::ErrorKind::AddrInUse) where another program has
        /// the port.
        source: io::Error,
    },
    /// The process has a recorder already.
    RecorderInstalled,
    /// The listener's thread or its runtime cannot be started.
    Runtime(io::Error),
    /// The exporter refuses its configuration.
    Exporter(BuildError),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { address, source } if source.kind() == io::ErrorKind::AddrInUse => {
                write!(f, "the metrics cannot be served at {address}: the address is in use")
            }
            Self::Bind { address, .. } => write!(f, "the metrics cannot be served at {address}"),
            Self::RecorderInstalled => f.write_str("this process has a metrics recorder already"),
            Self::Runtime(_) => f.write_str("the thread that serves the metrics cannot be started"),
            Self::Exporter(_) => f.write_str("the Prometheus exporter cannot be built"),
        }
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind { source, .. } | Self::Runtime(source) => Some(source),
            Self::RecorderInstalled => None,
            Self::Exporter(error) => Some(error),
        }
    }
}
