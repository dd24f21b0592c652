//! The command line.

use std::net::SocketAddr;

use super::metrics;

/// What to run against.
pub(super) struct Arguments {
    /// A real server; none starts the embedded one.
    pub(super) url: Option<String>,
    /// The base model.
    pub(super) model: String,
    /// How far each training step goes; none leaves it to the example.
    pub(super) learning_rate: Option<f64>,
    /// Where to serve the metrics; none serves none.
    pub(super) metrics: Option<SocketAddr>,
    /// Say how to call the program, and nothing else.
    pub(super) help: bool,
}

/// How to call the program; `call` is the command without its options.
pub(super) fn usage(call: &str) -> String {
    format!(
        "usage: {call} [--url URL] [--model NAME] [--learning-rate X] [--metrics ADDRESS]

  --url URL          run against this server, with the key in TINKER_API_KEY; default: an embedded one
  --model NAME       the base model; default Qwen/Qwen3-8B
  --learning-rate X  how far a training step goes; default: large for the embedded server, else small
  --metrics ADDRESS  serve the metrics of the run there, such as 127.0.0.1:9000 (feature prometheus-listener)"
    )
}

impl Arguments {
    pub(super) fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self {
            url: None,
            model: "Qwen/Qwen3-8B".to_owned(),
            learning_rate: None,
            metrics: None,
            help: false,
        };
        let mut words = words;
        while let Some(word) = words.next() {
            let (flag, attached) = match word.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            let mut value =
                || attached.clone().or_else(|| words.next()).ok_or_else(|| format!("{flag} needs a value"));
            match flag {
                "--url" => arguments.url = Some(value()?),
                "--model" => arguments.model = value()?,
                "--learning-rate" => {
                    let text = value()?;
                    let number = text.parse().map_err(|_| format!("{flag} needs a number, not {text}"))?;
                    arguments.learning_rate = Some(number);
                }
                "--metrics" => arguments.metrics = Some(metrics::address(&value()?)?),
                "-h" | "--help" => arguments.help = true,
                _ => return Err(format!("unknown argument {word}")),
            }
        }
        Ok(arguments)
    }
}
