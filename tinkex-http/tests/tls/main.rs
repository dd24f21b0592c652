//! TLS, HTTP/2 by agreement (ALPN) and proxies, with a real TLS server and a real CONNECT proxy. In a binary of its own,
//! since a TLS stack is slow to build and no other test needs one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // in helpers, a failed step is a failed test
#![allow(clippy::print_stdout, reason = "a child tells its parent what it saw")]

mod child;
mod proxies;
mod proxy;
mod support;
mod trust;
mod versions;
