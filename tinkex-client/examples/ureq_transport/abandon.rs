//! Giving a blocking call up: its socket is shut down, which ends the read or write that it blocks in.

use std::cell::RefCell;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, ShutdownHandle, TcpConnector, Transport,
};

thread_local! {
    /// The call that this thread makes.
    static CURRENT: RefCell<Option<Abandon>> = const { RefCell::new(None) };
}

/// A call that can be given up. Clones are the same call.
#[derive(Clone, Default)]
pub(crate) struct Abandon(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    abandoned: bool,
    began: bool,
    socket: Option<Weak<dyn ShutdownHandle>>,
}

impl Abandon {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the call up, on whatever thread it is.
    pub(crate) fn abandon(&self) {
        let mut state = self.state();
        state.abandoned = true;
        if let Some(socket) = state.socket.take().and_then(|socket| socket.upgrade()) {
            socket.shutdown();
        }
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.state().abandoned
    }

    /// Whether any byte of the request may have been sent.
    pub(crate) fn began(&self) -> bool {
        self.state().began
    }

    /// Runs the call on this thread. Afterwards its socket is not shut down any more: it may serve another call.
    pub(crate) fn during<T>(&self, call: impl FnOnce() -> T) -> T {
        CURRENT.with(|current| current.replace(Some(self.clone())));
        let result = call();
        CURRENT.with(|current| current.replace(None));
        self.state().socket = None;
        result
    }

    /// Notes that the call of this thread is about to use a socket.
    fn uses(socket: &Weak<dyn ShutdownHandle>) -> Result<(), Error> {
        CURRENT.with(|current| {
            let current = current.borrow();
            let Some(call) = current.as_ref() else { return Ok(()) };
            let mut state = call.state();
            if state.abandoned {
                return Err(Error::Io(io::Error::new(io::ErrorKind::ConnectionAborted, "given up")));
            }
            state.began = true;
            state.socket = Some(Weak::clone(socket));
            Ok(())
        })
    }
}

/// Makes TCP connections whose calls can be given up.
#[derive(Debug, Default)]
pub(crate) struct AbandonConnector(TcpConnector);

impl Connector for AbandonConnector {
    type Out = AbandonTransport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        let shared = Arc::new(Mutex::new(None));
        let (slot, register) = (Arc::clone(&shared), Arc::clone(&details.register_shutdown));
        let watched = ConnectionDetails {
            uri: details.uri,
            addrs: details.addrs.clone(),
            config: details.config,
            request_level: details.request_level,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: Arc::clone(&details.current_time),
            run_connector: Arc::clone(&details.run_connector),
            register_shutdown: Arc::new(move |socket: Weak<dyn ShutdownHandle>| {
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(Weak::clone(&socket));
                register(socket)
            }),
        };
        let connected = self.0.connect(&watched, chained)?;
        let socket = shared.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(connected.map(|tcp| AbandonTransport { tcp, socket }))
    }
}

/// A connection that tells the call that uses it.
pub(crate) struct AbandonTransport {
    tcp: <TcpConnector as Connector>::Out,
    socket: Option<Weak<dyn ShutdownHandle>>,
}

impl AbandonTransport {
    fn used(&self) -> Result<(), Error> {
        self.socket.as_ref().map_or(Ok(()), Abandon::uses)
    }
}

impl Transport for AbandonTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.tcp.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.used()?;
        self.tcp.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.used()?;
        self.tcp.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.tcp.is_open()
    }
}

impl std::fmt::Debug for AbandonTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AbandonTransport")
    }
}
