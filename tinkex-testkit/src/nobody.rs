//! An address where connecting is refused.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// A port of 127.0.0.1 that is taken, so that nobody else listens there, and on which nobody listens.
pub(crate) struct Nobody {
    address: SocketAddr,
    _socket: Socket,
}

impl Nobody {
    pub(crate) fn new() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let address = socket.local_addr()?.as_socket();
        let address = address.ok_or_else(|| io::Error::other("the socket has no address"))?;
        Ok(Self { address, _socket: socket })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}
