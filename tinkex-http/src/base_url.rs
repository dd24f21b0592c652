//! Where the service is (PROTOCOL 2).

use std::fmt;
use std::str::FromStr;

use tinkex_types::InvalidInput;
use url::Url;

/// A service address: scheme, host, port and path, normalised (host in lower case, no default port, no
/// trailing slash). Request paths are appended to its path (PROTOCOL 2).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BaseUrl {
    text: String,
    host: String,
    port: u16,
}

impl BaseUrl {
    /// The production service.
    pub const PRODUCTION: &'static str = "https://tinker.thinkingmachines.dev/services/tinker-prod";
    const PRODUCTION_HOST: &'static str = "tinker.thinkingmachines.dev";

    /// The production service.
    pub fn production() -> Self {
        Self { text: Self::PRODUCTION.to_owned(), host: Self::PRODUCTION_HOST.to_owned(), port: 443 }
    }

    /// The normalised text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host, without the port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, which is the scheme's own where the address names none.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether this is the production service, which accepts only keys of its own form.
    pub fn is_production(&self) -> bool {
        self.host == Self::PRODUCTION_HOST
    }

    /// The address of `path` below the service; exactly one slash between.
    pub fn join(&self, path: &str) -> String {
        let path = path.trim_start_matches('/');
        let mut url = String::with_capacity(self.text.len() + 1 + path.len());
        url.push_str(&self.text);
        url.push('/');
        url.push_str(path);
        url
    }
}

impl FromStr for BaseUrl {
    type Err = InvalidInput;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let problem = |what: &str| InvalidInput::new("base URL", format!("{what} (got {:?})", shown(text)));
        let url = Url::parse(text.trim()).map_err(|e| problem(&format!("is not a URL: {e}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(problem("must begin with http:// or https://"));
        }
        let Some(host) = url.host_str() else {
            return Err(problem("names no host"));
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(problem("must not carry a user name or password; pass an API key instead"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(problem("must not carry a query or fragment"));
        }
        // Both schemes have a port of their own.
        let port = url.port_or_known_default().unwrap_or_default();
        Ok(Self { host: host.to_owned(), port, text: url.as_str().trim_end_matches('/').to_owned() })
    }
}

/// The text as it may be printed: without what may hold a password or a key.
fn shown(text: &str) -> String {
    let end = text.find(['?', '#']).unwrap_or(text.len());
    let (shown, cut) = text.split_at(end);
    let rest = if cut.is_empty() { "" } else { "…" };
    match (shown.rfind('@'), shown.find("://")) {
        (None, _) => format!("{shown}{rest}"),
        (Some(at), scheme) => {
            let scheme =
                scheme.filter(|colon| *colon < at).map(|colon| &shown[..colon + 3]).unwrap_or_default();
            format!("{scheme}…{}{rest}", &shown[at..])
        }
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BaseUrl({})", self.text)
    }
}
