//! The command line.

/// What to run against.
pub(super) struct Arguments {
    /// A real server; none starts the embedded one.
    pub(super) url: Option<String>,
    /// The base model.
    pub(super) model: String,
    /// Say how to call the program, and nothing else.
    pub(super) help: bool,
}

/// How to call the program; `call` is the command without its options.
pub(super) fn usage(call: &str) -> String {
    format!(
        "usage: {call} [--url URL] [--model NAME]

  --url URL     run against this server, with the key in TINKER_API_KEY; default: an embedded one
  --model NAME  the base model; default Qwen/Qwen3-8B"
    )
}

impl Arguments {
    pub(super) fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self { url: None, model: "Qwen/Qwen3-8B".to_owned(), help: false };
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
                "-h" | "--help" => arguments.help = true,
                _ => return Err(format!("unknown argument {word}")),
            }
        }
        Ok(arguments)
    }
}
