//! The command line.

/// What to run against.
pub(crate) struct Arguments {
    /// A real server; none starts the embedded one.
    pub(crate) url: Option<String>,
    /// The base model to sample from.
    pub(crate) model: String,
}

const USAGE: &str = "usage: cargo xtask demo [--url URL] [--model NAME]

  --url URL     run against this server, with the key in TINKER_API_KEY; default: an embedded one
  --model NAME  the base model; default Qwen/Qwen3-8B";

impl Arguments {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self { url: None, model: "Qwen/Qwen3-8B".to_owned() };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n\n{USAGE}"));
            match word.as_str() {
                "--url" => arguments.url = Some(value()?),
                "--model" => arguments.model = value()?,
                "-h" | "--help" => return Err(USAGE.to_owned()),
                _ => return Err(format!("unknown argument {word}\n\n{USAGE}")),
            }
        }
        Ok(arguments)
    }
}
