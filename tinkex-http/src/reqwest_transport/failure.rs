//! What a failure of `reqwest` means for a retry, and in plain words.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use crate::{TransportError, TransportErrorKind};

/// What went wrong with an exchange.
pub(super) fn of(error: reqwest::Error, connect_timeout: Duration) -> TransportError {
    if error.is_connect() {
        return no_connection(error, connect_timeout);
    }
    if error.is_timeout() {
        return failure(error, TransportErrorKind::Timeout, "the connection timed out");
    }
    let not_http =
        causes(&error).any(|cause| cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse));
    if not_http {
        return failure(error, TransportErrorKind::Decode, "the server's answer is not HTTP");
    }
    failure(error, TransportErrorKind::Interrupted, "the connection broke before the response was complete")
}

/// The address is none.
pub(super) fn of_url(error: url::ParseError) -> TransportError {
    TransportError::new(TransportErrorKind::Decode, format!("the request cannot be sent: {error}"))
        .with_source(error)
}

fn no_connection(error: reqwest::Error, connect_timeout: Duration) -> TransportError {
    let address = address(&error).unwrap_or_else(|| "the server".to_owned());
    let over_tls = error.url().is_some_and(|url| url.scheme() == "https");
    let error = error.without_url();
    let root = root_cause(&error);
    let (cause, permanent) = if over_tls && !cfg!(feature = "rustls") {
        ("this build does not speak TLS; turn on the feature `rustls`".to_owned(), true)
    } else if let Some(tls) = tls_failure(&error) {
        tls
    } else if error.is_timeout() {
        (format!("no connection within {} s", connect_timeout.as_secs_f64()), false)
    } else if error.is_dns() {
        (format!("cannot resolve the name: {root}"), false)
    } else if causes(&error).any(|cause| is_io(cause, io::ErrorKind::ConnectionRefused)) {
        ("connection refused".to_owned(), false)
    } else if root.contains("proxy authorization required") {
        ("the proxy wants a user name and password, or others than it was given".to_owned(), true)
    } else if root.starts_with("tunnel error") {
        (format!("the proxy makes no connection: {root}"), false)
    } else {
        (root, false)
    };
    let failure =
        TransportError::new(TransportErrorKind::Connect, format!("cannot connect to {address}: {cause}"))
            .with_source(error);
    if permanent { failure.permanent() } else { failure }
}

/// What is wrong where a TLS handshake failed, and whether it would be wrong again: a certificate that is not trusted
/// now is not trusted in a second.
#[cfg(feature = "rustls")]
fn tls_failure(error: &reqwest::Error) -> Option<(String, bool)> {
    use rustls::{CertificateError, Error as TlsError};

    let tls = causes(error).find_map(|cause| cause.downcast_ref::<TlsError>())?;
    let TlsError::InvalidCertificate(certificate) = tls else {
        return Some((format!("TLS handshake failed: {tls}"), false));
    };
    let what = match certificate {
        CertificateError::UnknownIssuer => {
            "its certificate comes from an authority that is not trusted here; if that is a private authority or a \
             proxy that looks into TLS, name the authority's certificate in SSL_CERT_FILE"
                .to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired, or the clock here is wrong".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet, or the clock here is wrong".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("its certificate is for another name, so this may not be the right server ({certificate})")
        }
        other => {
            format!("its certificate is not accepted ({other}); SSL_CERT_FILE names the authorities to be trusted")
        }
    };
    Some((format!("TLS handshake failed: {what}"), true))
}

#[cfg(not(feature = "rustls"))]
fn tls_failure(_: &reqwest::Error) -> Option<(String, bool)> {
    None
}

/// Host and port that the request was for; nothing else of its URL.
fn address(error: &reqwest::Error) -> Option<String> {
    let url = error.url()?;
    let host = url.host_str()?;
    Some(url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// The error and its causes, outermost first. An I/O error shows what it was made from only when asked in its own way.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    std::iter::from_fn(move || {
        let current = next?;
        let inner = current.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => current.source(),
        };
        Some(current)
    })
}

fn is_io(cause: &(dyn StdError + 'static), kind: io::ErrorKind) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == kind)
}

/// The innermost cause makes the message: "connection refused" helps, "error sending request" does not.
fn root_cause(error: &reqwest::Error) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

fn failure(error: reqwest::Error, kind: TransportErrorKind, what: &str) -> TransportError {
    let error = error.without_url();
    let root = root_cause(&error);
    // The message has the cause, so the error has no source: whoever prints the whole chain shall not read it twice.
    TransportError::new(kind, format!("{what}: {root}"))
}
