//! How a ready-made transport is made.

use std::fmt;
use std::time::Duration;

use tinkex_types::InvalidInput;

use super::connections::Connections;
use super::parsed_urls::ParsedUrls;
use super::settings::{HttpVersionPolicy, Proxying, Settings};
use super::{Inner, ReqwestTransport, open_files};

/// Builds a [`ReqwestTransport`].
pub struct ReqwestTransportBuilder {
    version: HttpVersionPolicy,
    proxy: ProxyChoice,
    direct_to: String,
    connect_timeout: Duration,
    idle_timeout: Duration,
    max_idle: usize,
    #[cfg(feature = "rustls")]
    authorities: Vec<bytes::Bytes>,
}

enum ProxyChoice {
    Environment,
    Direct,
    Through(String),
}

impl Default for ReqwestTransportBuilder {
    fn default() -> Self {
        Self {
            version: HttpVersionPolicy::default(),
            proxy: ProxyChoice::Environment,
            direct_to: String::new(),
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(90),
            max_idle: open_files::idle_per_class(open_files::limit()),
            #[cfg(feature = "rustls")]
            authorities: Vec::new(),
        }
    }
}

impl ReqwestTransportBuilder {
    /// Sets which versions of HTTP are spoken. Default [`HttpVersionPolicy::Auto`].
    #[must_use]
    pub fn http_version(mut self, version: HttpVersionPolicy) -> Self {
        self.version = version;
        self
    }

    /// Sends everything through one proxy, `http://[user:password@]host:port`, whatever the environment says. Requests
    /// over TLS go through a tunnel (CONNECT), so the proxy does not see them. Default: the proxies that `HTTPS_PROXY`,
    /// `HTTP_PROXY` and `ALL_PROXY` name (in capitals or not), but for the hosts of `NO_PROXY`.
    #[must_use]
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.proxy = ProxyChoice::Through(url.into());
        self
    }

    /// Names hosts that [`proxy`](Self::proxy) is not used for, in the form of `NO_PROXY`: names (with their
    /// subdomains), addresses and address ranges, with commas between; `*` is all. Default none.
    #[must_use]
    pub fn direct_to(mut self, hosts: impl Into<String>) -> Self {
        self.direct_to = hosts.into();
        self
    }

    /// Uses no proxy, whatever the environment says.
    #[must_use]
    pub fn no_proxy(mut self) -> Self {
        self.proxy = ProxyChoice::Direct;
        self
    }

    /// Trusts further certificate authorities: one or more certificates as PEM. Default: the authorities that the
    /// platform trusts; where `SSL_CERT_FILE` or `SSL_CERT_DIR` is set, those named there instead.
    #[cfg(feature = "rustls")]
    #[must_use]
    pub fn authority(mut self, pem: impl Into<bytes::Bytes>) -> Self {
        self.authorities.push(pem.into());
        self
    }

    /// Sets the time to make a connection (finding the address, TCP, proxy and TLS), after which the attempt counts as
    /// never sent. Default 5 s (PROTOCOL 7.1).
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets how long a connection that nobody uses is kept. Default 90 s.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// Sets how many connections that nobody uses are kept per call class and host. Each holds a file
    /// descriptor and some 30 KiB of memory. Default: a 32nd of the limit of open files, at least 64 and at most 512.
    #[must_use]
    pub fn max_idle(mut self, connections: usize) -> Self {
        self.max_idle = connections;
        self
    }

    /// Builds the transport. Certificates are read here, once.
    ///
    /// # Errors
    /// Where the proxy is not a URL, or where certificates that were named, here or in `SSL_CERT_FILE` and
    /// `SSL_CERT_DIR`, cannot be read.
    pub fn build(self) -> Result<ReqwestTransport, InvalidInput> {
        let proxying = match self.proxy {
            ProxyChoice::Environment if environment_spares_all() => Proxying::Direct,
            ProxyChoice::Environment => Proxying::Environment,
            ProxyChoice::Through(_) if names_all(&self.direct_to) => Proxying::Direct,
            ProxyChoice::Direct => Proxying::Direct,
            ProxyChoice::Through(url) => Proxying::Through(Box::new(
                // The address may hold a password: it stays out of the message.
                reqwest::Proxy::all(url)
                    .map_err(|_| InvalidInput::new("proxy", "is not a URL; it should be http://host:port"))?
                    .no_proxy(reqwest::NoProxy::from_string(&self.direct_to)),
            )),
        };
        let settings = Settings {
            version: self.version,
            proxying,
            connect_timeout: self.connect_timeout,
            idle_timeout: self.idle_timeout,
            max_idle: self.max_idle,
            #[cfg(feature = "rustls")]
            tls: super::trust::tls_config(&self.authorities)?,
        };
        let connections = Connections::new(settings)
            .map_err(|e| InvalidInput::new("transport", format!("cannot be set up: {e}")))?;
        Ok(ReqwestTransport(std::sync::Arc::new(Inner { connections, urls: ParsedUrls::default() })))
    }
}

/// Whether `NO_PROXY` is for all hosts. `reqwest` takes an asterisk for all names, but not for addresses.
fn environment_spares_all() -> bool {
    ["NO_PROXY", "no_proxy"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok())
        .is_some_and(|list| names_all(&list))
}

fn names_all(hosts: &str) -> bool {
    hosts.split(',').any(|host| host.trim() == "*")
}

impl fmt::Debug for ReqwestTransportBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The proxy stays out: its address may hold a password.
        f.debug_struct("ReqwestTransportBuilder")
            .field("version", &self.version)
            .field("connect_timeout", &self.connect_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("max_idle", &self.max_idle)
            .finish_non_exhaustive()
    }
}
