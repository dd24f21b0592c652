//! TLS on the socket face: a certificate authority made for the occasion, and a server certificate signed by it.

use std::io;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, version};

/// What a TLS server shows its clients. The default is a certificate that is in order for `localhost` and 127.0.0.1,
/// and an offer of HTTP/2 and HTTP/1.1.
#[derive(Clone, Debug)]
pub struct Tls {
    names: Vec<String>,
    expired: bool,
    protocols: Vec<&'static str>,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            expired: false,
            protocols: vec!["h2", "http/1.1"],
        }
    }
}

impl Tls {
    /// Offers HTTP/1.1 only (ALPN), as servers and proxies do that know no HTTP/2.
    #[must_use]
    pub fn http1_only(mut self) -> Self {
        self.protocols = vec!["http/1.1"];
        self
    }

    /// A certificate for one other name (or address) instead, so that whoever asks for 127.0.0.1 finds it wrong.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.names = vec![name.to_owned()];
        self
    }

    /// A certificate that ran out in 2001.
    #[must_use]
    pub fn expired(mut self) -> Self {
        self.expired = true;
        self
    }

    /// Makes the authority and the certificate. Returns what takes connections, and the authority as PEM.
    pub(crate) fn make(&self) -> io::Result<(TlsAcceptor, String)> {
        let mut authority = CertificateParams::new([]).map_err(io::Error::other)?;
        authority.distinguished_name.push(DnType::CommonName, "Tinkex test authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().map_err(io::Error::other)?)
            .map_err(io::Error::other)?;

        let mut server = CertificateParams::new(self.names.clone()).map_err(io::Error::other)?;
        if self.expired {
            server.not_before = rcgen::date_time_ymd(2000, 1, 1);
            server.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = server.signed_by(&key, &issuer).map_err(io::Error::other)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));

        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .map_err(io::Error::other)?;
        config.alpn_protocols = self.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok((TlsAcceptor::from(Arc::new(config)), issuer.pem()))
    }
}
