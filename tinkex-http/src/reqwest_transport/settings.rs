//! What all `reqwest` clients of a transport have in common, and the making of one.

use std::time::Duration;

/// Which versions of HTTP a transport speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpVersionPolicy {
    /// HTTP/2 where the server agrees to it during the TLS handshake (ALPN), else HTTP/1.1; without TLS HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1Only,
    /// HTTP/2 only, also without TLS, to servers that are known to speak it.
    Http2PriorKnowledge,
}

/// Which proxies are used.
pub(super) enum Proxying {
    Environment,
    Direct,
    Through(reqwest::Proxy),
}

/// What a `reqwest` client is made from.
pub(super) struct Settings {
    pub(super) version: HttpVersionPolicy,
    pub(super) proxying: Proxying,
    pub(super) connect_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) max_idle: usize,
    /// Shared by all clients, with its store of sessions to be resumed.
    #[cfg(feature = "rustls")]
    pub(super) tls: rustls::ClientConfig,
}

impl Settings {
    /// An HTTP/2 connection with calls in flight is asked for a sign of life this often. One that has died silently
    /// would otherwise go on taking calls, each of which would run into its time-out.
    const PING_INTERVAL: Duration = Duration::from_secs(20);
    /// And is given up where none comes within this.
    const PING_TIMEOUT: Duration = Duration::from_secs(10);

    /// A client with connections of its own. `http2_only` says that the server is known to speak it.
    pub(super) fn client(&self, http2_only: bool) -> reqwest::Result<reqwest::Client> {
        let http2_only = http2_only || self.version == HttpVersionPolicy::Http2PriorKnowledge;
        let mut builder = reqwest::Client::builder()
            .connect_timeout(self.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .pool_max_idle_per_host(self.max_idle)
            .pool_idle_timeout(self.idle_timeout)
            .http2_keep_alive_interval(Self::PING_INTERVAL)
            .http2_keep_alive_timeout(Self::PING_TIMEOUT)
            .tcp_nodelay(true);
        builder = match &self.proxying {
            Proxying::Environment => builder,
            Proxying::Direct => builder.no_proxy(),
            Proxying::Through(proxy) => builder.proxy(proxy.clone()),
        };
        if http2_only {
            builder = builder.http2_prior_knowledge();
        } else if self.version == HttpVersionPolicy::Http1Only {
            builder = builder.http1_only();
        }
        #[cfg(feature = "rustls")]
        {
            let protocols: &[&[u8]] = match self.version {
                _ if http2_only => &[b"h2"],
                HttpVersionPolicy::Http1Only => &[b"http/1.1"],
                _ => &[b"h2", b"http/1.1"],
            };
            let mut tls = self.tls.clone();
            tls.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            builder = builder.tls_backend_preconfigured(tls);
        }
        builder.build()
    }
}
