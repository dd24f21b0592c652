//! Where the requests in flight are written to on a signal.

use std::path::PathBuf;

/// Where the requests in flight are written to on SIGUSR1
/// ([`ServiceClientBuilder::dump_inflight_on_signal`](crate::ServiceClientBuilder::dump_inflight_on_signal)).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DumpTarget {
    /// Standard error.
    StandardError,
    /// A file that is appended to; made where there is none. It is opened anew for each dump, so it may be moved away.
    File(PathBuf),
}

impl DumpTarget {
    /// What `TINKEX_DUMP_INFLIGHT` asks for; none where it asks for nothing.
    pub(crate) fn from_variable(value: &str) -> Option<Self> {
        match value.to_ascii_lowercase().as_str() {
            "" | "0" | "false" | "off" | "no" => None,
            "1" | "true" | "on" | "yes" | "stderr" => Some(Self::StandardError),
            _ => Some(Self::File(PathBuf::from(value))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::DumpTarget;

    /// What the guide says of the variable.
    #[test]
    fn the_variable_names_standard_error_or_a_file() {
        for words in ["1", "true", "ON", "Yes", "stderr"] {
            assert_eq!(DumpTarget::from_variable(words), Some(DumpTarget::StandardError), "{words}");
        }
        for off in ["", "0", "false", "Off", "no"] {
            assert_eq!(DumpTarget::from_variable(off), None, "{off}");
        }
        for file in ["/var/log/Dump", "2", "stderr.txt", " on"] {
            assert_eq!(DumpTarget::from_variable(file), Some(DumpTarget::File(file.into())), "{file}");
        }
    }
}
