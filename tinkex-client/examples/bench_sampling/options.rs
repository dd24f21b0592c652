//! The command line, for the person and for the processes the bench starts itself.

/// What this process is.
pub(crate) enum Role {
    /// The one a person started.
    Parent,
    /// The server.
    Serve,
    /// The client under test, against a URL.
    Tinkex(String),
    /// The bare loop, against a URL.
    Bare(String),
}

/// What to measure.
pub(crate) struct Options {
    pub(crate) role: Role,
    pub(crate) samples: usize,
    pub(crate) in_flight: usize,
    pub(crate) prompt_tokens: usize,
    pub(crate) pairs: usize,
}

const USAGE: &str =
    "usage: cargo xtask bench sampling [--samples N] [--in-flight N] [--prompt-tokens N] [--pairs N]";

impl Options {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options =
            Self { role: Role::Parent, samples: 20_000, in_flight: 64, prompt_tokens: 512, pairs: 10 };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n{USAGE}"));
            let number =
                |text: String| text.parse().map_err(|_| format!("{text:?} is not a number\n{USAGE}"));
            match word.as_str() {
                "--serve" => options.role = Role::Serve,
                "--tinkex" => options.role = Role::Tinkex(value()?),
                "--bare" => options.role = Role::Bare(value()?),
                "--samples" => options.samples = number(value()?)?,
                "--in-flight" => options.in_flight = number(value()?)?,
                "--prompt-tokens" => options.prompt_tokens = number(value()?)?,
                "--pairs" => options.pairs = number(value()?)?,
                _ => return Err(format!("unknown argument {word}\n{USAGE}")),
            }
        }
        Ok(options)
    }

    /// The same measurement, for a client process.
    pub(crate) fn words(&self) -> [String; 6] {
        [
            "--samples".to_owned(),
            self.samples.to_string(),
            "--in-flight".to_owned(),
            self.in_flight.to_string(),
            "--prompt-tokens".to_owned(),
            self.prompt_tokens.to_string(),
        ]
    }

    pub(crate) fn prompt(&self) -> Vec<i32> {
        (0..self.prompt_tokens).map(|i| (i as i32).wrapping_mul(7919) % 150_000).collect()
    }
}
