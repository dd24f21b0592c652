//! The environment variables the client reads, all in one place (PROTOCOL 9). `docs/configuration.md` says what each does.
//!
//! [`ServiceClientBuilder::from_env`](crate::ServiceClientBuilder::from_env) takes from it what a client needs and was not
//! given. What a program does for itself is asked here: where its log goes and whether telemetry is wanted.
//!
//! A variable that is set but empty counts as unset, but for `TINKER_TAGS` and `TINKER_TELEMETRY`. So does one that is not
//! Unicode.

use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue};
use tinkex_types::InvalidInput;
use tracing::Level;

use crate::DumpTarget;

/// The log level that `TINKER_LOG` asks for: `debug` or `info`, in any case. None where it is unset or says anything else.
///
/// The SDK only emits events; which of them are shown, and where, is up to the program:
///
/// ```no_run
/// let level = tinkex_client::environment::log_level().unwrap_or(tracing::Level::WARN);
/// tracing_subscriber::fmt().with_max_level(level).init();
/// ```
pub fn log_level() -> Option<Level> {
    log_level_from(process)
}

/// Whether `TINKER_TELEMETRY` allows telemetry: yes where it is unset; else if it is `1`, `true`, `yes` or `on`, in any
/// case.
///
/// [`ServiceClientBuilder::from_env`](crate::ServiceClientBuilder::from_env) heeds it too.
pub fn telemetry_enabled() -> bool {
    telemetry_enabled_from(process)
}

fn log_level_from(lookup: impl Fn(&str) -> Option<String>) -> Option<Level> {
    match lookup("TINKER_LOG")?.to_ascii_lowercase().as_str() {
        "debug" => Some(Level::DEBUG),
        "info" => Some(Level::INFO),
        _ => None,
    }
}

fn telemetry_enabled_from(lookup: impl Fn(&str) -> Option<String>) -> bool {
    lookup("TINKER_TELEMETRY")
        .is_none_or(|value| ["1", "true", "yes", "on"].contains(&value.to_ascii_lowercase().as_str()))
}

fn process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A folder that a variable names.
#[cfg(feature = "tokenizers")]
pub(crate) fn folder(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// What the environment says to a client. Taken once.
#[derive(Default)]
pub(crate) struct Environment {
    pub(crate) api_key: Option<String>,
    pub(crate) credential_command: Option<String>,
    pub(crate) credentials_file: Option<PathBuf>,
    pub(crate) base_url: Option<String>,
    pub(crate) project_id: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) dump_target: Option<DumpTarget>,
    /// The variable says that nothing is to be reported.
    pub(crate) telemetry_off: bool,
    cloudflare: [Option<String>; 2],
}

impl Environment {
    /// Reads the process's variables.
    pub(crate) fn read() -> Self {
        Self::from_lookup(process)
    }

    /// Reads variables from anywhere.
    pub(crate) fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| lookup(name).filter(|value| !value.is_empty());
        let mut tags: Vec<String> = lookup("TINKER_TAGS")
            .map(|tags| tags.split(',').map(str::to_owned).collect())
            .unwrap_or_default();
        tags.sort_unstable();
        tags.dedup();
        let (home, profile) = (set("HOME"), set("USERPROFILE"));
        let home = if cfg!(windows) { profile } else { home };
        Self {
            api_key: set("TINKER_API_KEY"),
            credential_command: set("TINKER_CREDENTIAL_CMD"),
            credentials_file: home.map(|home| Path::new(&home).join(".tinker").join("credentials.json")),
            base_url: set("TINKER_BASE_URL"),
            project_id: set("TINKER_PROJECT_ID"),
            tags,
            dump_target: set("TINKEX_DUMP_INFLIGHT").and_then(|value| DumpTarget::from_variable(&value)),
            telemetry_off: !telemetry_enabled_from(&lookup),
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
    use std::cell::RefCell;
    use std::collections::BTreeSet;

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
        assert_eq!(environment(&[("TINKER_TAGS", " a,,a")]).tags, ["", " a", "a"]);
        assert!(environment(&[]).tags.is_empty());
    }

    #[test]
    fn cloudflare_headers_are_secrets() {
        let headers = environment(&[("CLOUDFLARE_ACCESS_CLIENT_SECRET", "s3cret")]).headers().unwrap();
        assert_eq!(headers.len(), 1);
        assert!(headers["cf-access-client-secret"].is_sensitive());
    }

    /// PROTOCOL 9: `TINKER_TELEMETRY` is on by default, and on for four words only.
    #[test]
    fn telemetry_is_on_for_four_words() {
        let enabled = |value: Option<&str>| telemetry_enabled_from(|_| value.map(str::to_owned));
        for on in [None, Some("1"), Some("true"), Some("YES"), Some("On")] {
            assert!(enabled(on), "{on:?}");
        }
        for off in ["", "0", "false", "no", "off", "2", " on", "enabled"] {
            assert!(!enabled(Some(off)), "{off:?}");
        }
    }

    #[test]
    fn the_log_level_is_debug_or_info() {
        let level = |value: Option<&str>| log_level_from(|_| value.map(str::to_owned));
        assert_eq!(level(Some("debug")), Some(Level::DEBUG));
        assert_eq!(level(Some("INFO")), Some(Level::INFO));
        for other in [None, Some(""), Some("warn"), Some("trace"), Some("info,debug")] {
            assert_eq!(level(other), None, "{other:?}");
        }
    }

    /// The variables in the first column of a table of the guide, under its heading.
    fn documented(heading: &str) -> BTreeSet<String> {
        let guide = include_str!("../../docs/configuration.md");
        let section = guide.split(&format!("\n{heading}\n")).nth(1).unwrap_or_default();
        let section = section.split("\n#").next().unwrap_or_default();
        let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
        cells.flat_map(|cell| cell.split(", ")).map(|name| name.trim_matches('`').to_owned()).collect()
    }

    /// What the code looks up is what the guide names, and nothing else (PROTOCOL 9).
    #[test]
    fn the_guide_names_every_variable() {
        let read = RefCell::new(BTreeSet::new());
        let lookup = |name: &str| {
            read.borrow_mut().insert(name.to_owned());
            None
        };
        Environment::from_lookup(lookup);
        log_level_from(lookup);
        telemetry_enabled_from(lookup);
        assert_eq!(documented("### Read by the client"), read.into_inner());
    }

    /// As above, of those that find the hub cache.
    #[cfg(feature = "tokenizers")]
    #[test]
    fn the_guide_names_every_variable_of_the_hub_cache() {
        let read = RefCell::new(BTreeSet::new());
        crate::hf_tokenizer::hub_cache_from(|name| {
            read.borrow_mut().insert(name.to_owned());
            None
        });
        assert_eq!(documented("### Read to find tokenizers"), read.into_inner());
    }
}
