//! `tinker://` paths (REST 2).

use std::fmt;
use std::str::FromStr;

use crate::InvalidInput;

/// The address of a checkpoint: `tinker://<run>/<kind>/<name>`. Open servers leave the kind out or use words
/// of their own, so the parse is generous: a scheme, a run, and at least a name (REST 2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TinkerPath {
    text: String,
    run_end: usize,
    name_start: usize,
}

/// What kind of checkpoint a path names (REST 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CheckpointKind {
    /// `weights`: a training checkpoint.
    Training,
    /// `sampler_weights`: a sampler checkpoint.
    Sampler,
    /// `external_weights`: an export.
    External,
    /// Not said, or in a server's own words.
    Other,
}

impl TinkerPath {
    const SCHEME: &'static str = "tinker://";

    /// The whole path.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The training run.
    pub fn run_id(&self) -> &str {
        &self.text[Self::SCHEME.len()..self.run_end]
    }

    /// The checkpoint's name.
    pub fn name(&self) -> &str {
        &self.text[self.name_start..]
    }

    /// The kind of checkpoint.
    pub fn kind(&self) -> CheckpointKind {
        match self.text.get(self.run_end + 1..self.name_start.saturating_sub(1)) {
            Some("weights") => CheckpointKind::Training,
            Some("sampler_weights") => CheckpointKind::Sampler,
            Some("external_weights") => CheckpointKind::External,
            _ => CheckpointKind::Other,
        }
    }
}

impl FromStr for TinkerPath {
    type Err = InvalidInput;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let problem =
            || InvalidInput::new("path", format!("must look like tinker://RUN/KIND/NAME, not {text:?}"));
        let rest = text.strip_prefix(Self::SCHEME).ok_or_else(problem)?;
        if rest.split('/').any(|segment| segment.trim().is_empty()) {
            return Err(problem());
        }
        let run_end = Self::SCHEME.len() + rest.find('/').ok_or_else(problem)?;
        let name_start = Self::SCHEME.len() + rest.rfind('/').ok_or_else(problem)? + 1;
        Ok(Self { text: text.to_owned(), run_end, name_start })
    }
}

impl fmt::Display for TinkerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_path_apart() {
        let path: TinkerPath = "tinker://s-1:train:0/sampler_weights/step-10".parse().unwrap();
        assert_eq!(
            (path.run_id(), path.kind(), path.name()),
            ("s-1:train:0", CheckpointKind::Sampler, "step-10")
        );
        let open: TinkerPath = "tinker://run/name".parse().unwrap();
        assert_eq!((open.run_id(), open.kind(), open.name()), ("run", CheckpointKind::Other, "name"));
    }

    #[test]
    fn refuses_what_is_no_path() {
        for text in [
            "",
            "s3://run/weights/a",
            "tinker://",
            "tinker://run",
            "tinker:///weights/a",
            "tinker://r//a",
            "tinker://r/w/",
        ] {
            let error = text.parse::<TinkerPath>().unwrap_err().to_string();
            assert!(error.contains("tinker://RUN/KIND/NAME"), "{text}: {error}");
        }
    }
}
