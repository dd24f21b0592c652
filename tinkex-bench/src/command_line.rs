//! The command line, for the person and for the processes the program starts itself.

use std::path::PathBuf;

use crate::cell::{Cell, Http};
use crate::contender::Contender;

/// What this process is.
#[derive(Debug)]
pub(crate) enum Role {
    /// The one a person started.
    Lead(Options),
    /// The server.
    Serve,
    /// A contender.
    Work { contender: Contender, url: String, cell: Cell },
    /// The program whose instructions are counted.
    Count { operation: String, repetitions: usize },
}

/// What to measure.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Options {
    /// One part; all where there is none.
    pub(crate) part: Option<Part>,
    pub(crate) size: Size,
    pub(crate) rounds: Option<usize>,
    pub(crate) samples: Option<usize>,
    pub(crate) in_flight: Option<usize>,
    pub(crate) prompt_tokens: Option<usize>,
    pub(crate) http: Http,
    /// An interpreter that has the official SDK.
    pub(crate) python: Option<PathBuf>,
    /// The folder for the report; none where it is only printed.
    pub(crate) out: Option<PathBuf>,
}

/// A part of the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Samples as fast as they go.
    Sampling,
    /// Thousands of samples in flight that take seconds.
    Inflight,
    /// What recording metrics costs.
    Metrics,
    /// Encoding and decoding.
    Wire,
    /// Instruction counts.
    Instructions,
}

/// How much is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Size {
    /// Seconds, to see that everything works; the figures mean nothing.
    Smoke,
    /// A minute or two.
    Quick,
    /// A quarter of an hour; enough to judge all targets.
    #[default]
    Usual,
    /// Hours: every prompt at every number of samples in flight.
    Full,
}

const USAGE: &str = "usage: cargo xtask bench [sampling|inflight|metrics|wire|instructions] [--quick|--full|--smoke] [--http1|--http2] \
                     [--rounds N] [--samples N] [--in-flight N] [--prompt-tokens N] [--python PATH] [--out FOLDER]";

/// Reads the arguments after the program's name.
///
/// # Errors
///
/// A sentence for the person.
pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Role, String> {
    let mut words = words.into_iter().peekable();
    match words.peek().map(String::as_str) {
        Some("serve") => return Ok(Role::Serve),
        Some("work") => {
            let [_, contender, url, cell] = exactly(words)?;
            let contender = Contender::named(&contender).ok_or("unknown contender")?;
            let cell = serde_json::from_str(&cell).map_err(|e| format!("not a cell: {e}"))?;
            return Ok(Role::Work { contender, url, cell });
        }
        Some("count") => {
            let [_, operation, repetitions] = exactly(words)?;
            return Ok(Role::Count { operation, repetitions: number(&repetitions)? });
        }
        _ => {}
    }
    let mut options = Options::default();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n{USAGE}"));
        match word.as_str() {
            "sampling" => options.part = Some(Part::Sampling),
            "inflight" => options.part = Some(Part::Inflight),
            "metrics" => options.part = Some(Part::Metrics),
            "wire" => options.part = Some(Part::Wire),
            "instructions" => options.part = Some(Part::Instructions),
            "--smoke" => options.size = Size::Smoke,
            "--quick" => options.size = Size::Quick,
            "--full" => options.size = Size::Full,
            "--http1" => options.http = Http::One,
            "--http2" => options.http = Http::Two,
            "--rounds" => options.rounds = Some(number(&value()?)?),
            "--samples" => options.samples = Some(number(&value()?)?),
            "--in-flight" => options.in_flight = Some(number(&value()?)?),
            "--prompt-tokens" => options.prompt_tokens = Some(number(&value()?)?),
            "--python" => options.python = Some(value()?.into()),
            "--out" => options.out = Some(value()?.into()),
            _ => return Err(format!("unknown argument {word}\n{USAGE}")),
        }
    }
    Ok(Role::Lead(options))
}

fn exactly<const N: usize>(words: impl Iterator<Item = String>) -> Result<[String; N], String> {
    let words: Vec<String> = words.collect();
    words.try_into().map_err(|words: Vec<String>| format!("{} words, not {N}", words.len()))
}

fn number(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{text:?} is not a number above 0\n{USAGE}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Options, String> {
        match parse(line.split_whitespace().map(str::to_owned))? {
            Role::Lead(options) => Ok(options),
            role => Err(format!("{role:?}")),
        }
    }

    #[test]
    fn parts_sizes_and_numbers_are_read() {
        let wanted = Options {
            part: Some(Part::Sampling),
            size: Size::Quick,
            rounds: Some(5),
            in_flight: Some(64),
            http: Http::Two,
            ..Options::default()
        };
        assert_eq!(options("sampling --quick --rounds 5 --in-flight 64 --http2"), Ok(wanted));
        assert_eq!(options(""), Ok(Options::default()));
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for line in ["--rounds 0", "--rounds many", "--rounds", "everything"] {
            assert!(options(line).unwrap_err().contains("usage:"), "{line}");
        }
    }
}
