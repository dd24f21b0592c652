//! The runtime on which carried faces listen: real time, one thread for the whole process.

use std::io;
use std::sync::{Arc, LazyLock};

use tokio::runtime::{Builder, Runtime};

use crate::SocketServer;
use crate::engine::Core;

static WIRES: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("testkit-wires")
        .enable_io()
        .enable_time()
        .build()
});

/// Listens on a free port of 127.0.0.1, in real time, whatever the time of the caller.
pub(crate) fn listen(core: &Arc<Core>) -> io::Result<SocketServer> {
    let wires = WIRES.as_ref().map_err(|e| io::Error::new(e.kind(), e.to_string()))?;
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let _inside = wires.enter();
    SocketServer::on(Arc::clone(core), tokio::net::TcpListener::from_std(listener)?)
}
