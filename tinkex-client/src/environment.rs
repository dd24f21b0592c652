//! The environment variables the client reads, all in one place (PROTOCOL 9).
//!
//! | variable | meaning |
//! |---|---|
//! | `TINKER_API_KEY` | the API key |
//! | `TINKER_CREDENTIAL_CMD` | a command for the shell that prints a credential |
//! | `HOME` (on Windows `USERPROFILE`) | where `.tinker/credentials.json`, the file of stored keys, is |
//! | `TINKER_BASE_URL` | the service; default the production service |
//! | `TINKER_PROJECT_ID` | the project of new sessions |
//! | `TINKER_TAGS` | comma-separated tags of new sessions |
//! | `CLOUDFLARE_ACCESS_CLIENT_ID`, `CLOUDFLARE_ACCESS_CLIENT_SECRET` | sent as `CF-Access-Client-*` headers |
//!
//! A variable that is set but empty counts as unset, but for `TINKER_TAGS`.

use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue};
use tinkex_types::InvalidInput;

/// What the environment says. Taken once; no other module reads variables.
#[derive(Default)]
pub(crate) struct Environment {
    pub(crate) api_key: Option<String>,
    pub(crate) credential_command: Option<String>,
    pub(crate) credentials_file: Option<PathBuf>,
    pub(crate) base_url: Option<String>,
    pub(crate) project_id: Option<String>,
    pub(crate) tags: Vec<String>,
    cloudflare: [Option<String>; 2],
}

impl Environment {
    /// Reads the process's variables.
    pub(crate) fn read() -> Self {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// Reads variables from anywhere.
    pub(crate) fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| lookup(name).filter(|value| !value.is_empty());
        let mut tags: Vec<String> = lookup("TINKER_TAGS")
            .map(|tags| tags.split(',').map(str::to_owned).collect())
            .unwrap_or_default();
        tags.sort_unstable();
        tags.dedup();
        let home = set(if cfg!(windows) { "USERPROFILE" } else { "HOME" });
        Self {
            api_key: set("TINKER_API_KEY"),
            credential_command: set("TINKER_CREDENTIAL_CMD"),
            credentials_file: home.map(|home| Path::new(&home).join(".tinker").join("credentials.json")),
            base_url: set("TINKER_BASE_URL"),
            project_id: set("TINKER_PROJECT_ID"),
            tags,
            cloudflare: [set("CLOUDFLARE_ACCESS_CLIENT_ID"), set("CLOUDFLARE_ACCESS_CLIENT_SECRET")],
        }
    }

    /// The headers that variables ask for; their values are secrets.
    pub(crate) fn headers(&self) -> Result<HeaderMap, InvalidInput> {
        const NAMES: [&str; 2] = ["cf-access-client-id", "cf-access-client-secret"];
        let mut headers = HeaderMap::new();
        for (name, value) in NAMES.iter().zip(&self.cloudflare) {
            let Some(value) = value else { continue };
            let mut value = HeaderValue::from_str(value)
                .map_err(|_| InvalidInput::new("CLOUDFLARE_ACCESS_CLIENT_*", "cannot be sent as a header"))?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(name), value);
        }
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::from_lookup(|name| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        })
    }

    /// PROTOCOL 9: empty counts as unset, tags are de-duplicated and not trimmed, set-but-empty tags are one empty tag.
    #[test]
    fn reads_variables_as_the_protocol_says() {
        let env =
            environment(&[("TINKER_API_KEY", ""), ("TINKER_TAGS", "b,a,b"), ("TINKER_PROJECT_ID", "p")]);
        assert_eq!(env.api_key, None);
        assert_eq!(env.tags, ["a", "b"]);
        assert_eq!(env.project_id.as_deref(), Some("p"));
        assert_eq!(environment(&[("TINKER_TAGS", "")]).tags, [""]);
        assert!(environment(&[]).tags.is_empty());
    }

    #[test]
    fn cloudflare_headers_are_secrets() {
        let headers = environment(&[("CLOUDFLARE_ACCESS_CLIENT_SECRET", "s3cret")]).headers().unwrap();
        assert_eq!(headers.len(), 1);
        assert!(headers["cf-access-client-secret"].is_sensitive());
    }
}
