//! Which certificate authorities are trusted.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::load_certs_from_paths;
use tinkex_types::InvalidInput;

/// The platform's judgement of certificates, or where `SSL_CERT_FILE` or `SSL_CERT_DIR` names authorities, theirs only;
/// and in both cases the extra ones, given as PEM.
pub(super) fn tls_config(extra: &[Bytes]) -> Result<ClientConfig, InvalidInput> {
    let provider =
        CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()));
    let extra = certificates(extra)?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| InvalidInput::new("TLS", format!("cannot be set up: {e}")))?;
    let config = match named()? {
        Some(named) => builder.with_root_certificates(store(named.into_iter().chain(extra))?),
        None => {
            match rustls_platform_verifier::Verifier::new_with_extra_roots(extra, provider) {
                Ok(verifier) => builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)),
                // A system without authorities, such as a bare container. Plain HTTP works there, and a TLS handshake
                // says that the authority is unknown.
                Err(error) => {
                    tracing::warn!(
                        "no certificate authorities were found on this system ({error}): connections over TLS will \
                         fail; install them (often the package ca-certificates), or name a file in SSL_CERT_FILE"
                    );
                    builder.with_root_certificates(RootCertStore::empty())
                }
            }
        }
    };
    Ok(config.with_no_client_auth())
}

/// The authorities that the environment names; none where it names no place. Unlike the platform's own store these are
/// a choice somebody made, so a mistake in it is told.
fn named() -> Result<Option<Vec<CertificateDer<'static>>>, InvalidInput> {
    let place = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    let (file, directories) = (place("SSL_CERT_FILE"), place("SSL_CERT_DIR"));
    if file.is_none() && directories.is_none() {
        return Ok(None);
    }
    let mut found = Vec::new();
    if let Some(file) = &file {
        let loaded = load_certs_from_paths(Some(Path::new(file)), None);
        if let Some(error) = loaded.errors.first() {
            return Err(InvalidInput::new("SSL_CERT_FILE", format!("cannot be used: {error}")));
        }
        if loaded.certs.is_empty() {
            return Err(InvalidInput::new(
                "SSL_CERT_FILE",
                "names a file without a certificate in PEM format",
            ));
        }
        found.extend(loaded.certs);
    }
    for directory in directories.iter().flat_map(std::env::split_paths) {
        let loaded = load_certs_from_paths(None, Some(&directory));
        if let Some(error) = loaded.errors.first() {
            return Err(InvalidInput::new("SSL_CERT_DIR", format!("cannot be used: {error}")));
        }
        found.extend(loaded.certs);
    }
    Ok(Some(found))
}

fn certificates(pems: &[Bytes]) -> Result<Vec<CertificateDer<'static>>, InvalidInput> {
    let unusable = || InvalidInput::new("authority", "is not one or more certificates in PEM format");
    let mut all = Vec::new();
    for pem in pems {
        let before = all.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            all.push(certificate.map_err(|_| unusable())?);
        }
        if all.len() == before {
            return Err(unusable());
        }
    }
    Ok(all)
}

fn store(certificates: impl Iterator<Item = CertificateDer<'static>>) -> Result<RootCertStore, InvalidInput> {
    let mut store = RootCertStore::empty();
    for certificate in certificates {
        store
            .add(certificate)
            .map_err(|e| InvalidInput::new("certificate authority", format!("is not usable as one: {e}")))?;
    }
    Ok(store)
}
