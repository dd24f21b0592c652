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
    line: Option<Arc<Line>>,
}

impl Abandon {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the call up, on whatever thread it is.
    pub(crate) fn abandon(&self) {
        let mut state = self.state();
        state.abandoned = true;
        let line = state.line.take();
        drop(state);
        if let Some(line) = line {
            line.shut_down_for(self);
        }
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.state().abandoned
    }

    /// Whether any byte of the request may have been sent.
    pub(crate) fn began(&self) -> bool {
        self.state().began
    }

    /// Runs the call on this thread.
    pub(crate) fn during<T>(&self, call: impl FnOnce() -> T) -> T {
        CURRENT.with(|current| current.replace(Some(self.clone())));
        let result = call();
        CURRENT.with(|current| current.replace(None));
        self.state().line = None;
        result
    }

    /// The call of this thread.
    fn current() -> Option<Self> {
        CURRENT.with(|current| current.borrow().clone())
    }
}

/// A connection and the call that uses it. Connections outlive their calls in the pool, and a call that has just ended
/// may still be given up: that must not touch the next one.
#[derive(Default)]
struct Line {
    socket: Option<Weak<dyn ShutdownHandle>>,
    user: Mutex<Option<Abandon>>,
}

impl Line {
    fn user(&self) -> MutexGuard<'_, Option<Abandon>> {
        self.user.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the connection to the call of this thread.
    fn take(self: &Arc<Self>) -> Option<Abandon> {
        let call = Abandon::current()?;
        call.state().line = Some(Arc::clone(self));
        *self.user() = Some(call.clone());
        Some(call)
    }

    /// Hands it over, and notes that bytes are about to travel.
    fn begin(self: &Arc<Self>) -> Result<(), Error> {
        let Some(call) = self.take() else { return Ok(()) };
        let mut state = call.state();
        if state.abandoned {
            return Err(Error::Io(io::Error::new(io::ErrorKind::ConnectionAborted, "given up")));
        }
        state.began = true;
        Ok(())
    }

    fn shut_down_for(&self, call: &Abandon) {
        let user = self.user();
        if user.as_ref().is_some_and(|user| Arc::ptr_eq(&user.0, &call.0))
            && let Some(socket) = self.socket.as_ref().and_then(Weak::upgrade)
        {
            socket.shutdown();
        }
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
        let line = Arc::new(Line { socket, user: Mutex::default() });
        Ok(connected.map(|tcp| AbandonTransport { tcp, line }))
    }
}

/// A connection that tells the call that uses it.
pub(crate) struct AbandonTransport {
    tcp: <TcpConnector as Connector>::Out,
    line: Arc<Line>,
}

impl Transport for AbandonTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.tcp.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.line.begin()?;
        self.tcp.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.line.begin()?;
        self.tcp.await_input(timeout)
    }

    /// Asked when the pool hands the connection out: from here on the call before has no power over it, and if it was
    /// shut down earlier, that shows now.
    fn is_open(&mut self) -> bool {
        self.line.take();
        self.tcp.is_open()
    }
}

impl std::fmt::Debug for AbandonTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AbandonTransport")
    }
}
