//! Hugging Face tokenizers from local files (feature `tokenizers`). Nothing is downloaded.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use tinkex_types::{SpecialTokens, Tokenizer, TokenizerError};

/// A tokenizer loaded from a `tokenizer.json`.
///
/// Encoding adds the special tokens that the file's post-processor asks for, and decoding keeps special tokens, as
/// Hugging Face's own defaults are; [`add_special_tokens`](Self::add_special_tokens) changes the former.
pub struct HfTokenizer {
    tokenizer: tokenizers::Tokenizer,
    special: SpecialTokens,
    add_special_tokens: bool,
}

impl HfTokenizer {
    /// Loads a `tokenizer.json`. Special tokens are read from a `tokenizer_config.json` beside it, where there is one.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        let path = path.as_ref();
        let tokenizer = tokenizers::Tokenizer::from_file(path).map_err(|e| {
            TokenizerError::new(format!("cannot load the tokenizer {}", path.display())).with_source(e)
        })?;
        let special = special_tokens(&tokenizer, &path.with_file_name("tokenizer_config.json"))?;
        Ok(Self { tokenizer, special, add_special_tokens: true })
    }

    /// Loads the tokenizer of a model from the local hub cache. See [`TokenizerName::of`] for which one that is.
    ///
    /// # Errors
    /// Where the cache does not hold it; the message says what to download and to where.
    pub fn for_model(base_model: &str, server_tokenizer_id: Option<&str>) -> Result<Self, TokenizerError> {
        Self::from_hub_cache(&hub_cache_folder(), &TokenizerName::of(base_model, server_tokenizer_id))
    }

    /// Loads a tokenizer from a hub cache folder, the one that holds `models--…` folders.
    ///
    /// # Errors
    /// Where the cache does not hold it.
    pub fn from_hub_cache(cache: &Path, name: &TokenizerName) -> Result<Self, TokenizerError> {
        let repository = cache.join(format!("models--{}", name.repository.replace('/', "--")));
        let revision = name.revision.as_deref().unwrap_or("main");
        // A reference names a commit; a revision that is a commit itself has no reference file.
        let commit = std::fs::read_to_string(repository.join("refs").join(revision));
        let commit = commit.as_deref().map_or(revision, str::trim);
        let file = repository.join("snapshots").join(commit).join("tokenizer.json");
        if !file.is_file() {
            return Err(TokenizerError::new(format!(
                "the tokenizer {name} is not in the hub cache; download its tokenizer.json to {}, or load a file with \
                 HfTokenizer::from_file",
                file.display()
            )));
        }
        Self::from_file(file)
    }

    /// Sets whether encoding adds special tokens. Default true.
    #[must_use]
    pub fn add_special_tokens(mut self, add: bool) -> Self {
        self.add_special_tokens = add;
        self
    }
}

impl Tokenizer for HfTokenizer {
    fn encode(&self, text: &str) -> Result<Vec<i32>, TokenizerError> {
        let encoding = self
            .tokenizer
            .encode_fast(text, self.add_special_tokens)
            .map_err(|e| TokenizerError::new("cannot encode the text").with_source(e))?;
        encoding.get_ids().iter().map(|id| to_token(*id)).collect()
    }

    fn decode(&self, tokens: &[i32]) -> Result<String, TokenizerError> {
        let ids: Result<Vec<u32>, _> = tokens
            .iter()
            .map(|token| {
                u32::try_from(*token)
                    .ok()
                    .filter(|id| self.tokenizer.id_to_token(*id).is_some())
                    .ok_or_else(|| TokenizerError::new(format!("token {token} is not in the vocabulary")))
            })
            .collect();
        self.tokenizer
            .decode(&ids?, false)
            .map_err(|e| TokenizerError::new("cannot decode the tokens").with_source(e))
    }

    fn special_tokens(&self) -> SpecialTokens {
        self.special
    }
}

impl fmt::Debug for HfTokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HfTokenizer({} tokens)", self.tokenizer.get_vocab_size(true))
    }
}

fn to_token(id: u32) -> Result<i32, TokenizerError> {
    i32::try_from(id).map_err(|_| TokenizerError::new(format!("token id {id} is too large for the wire")))
}

#[derive(Default, Deserialize)]
struct TokenizerConfig {
    bos_token: Option<Value>,
    eos_token: Option<Value>,
    pad_token: Option<Value>,
}

fn special_tokens(tokenizer: &tokenizers::Tokenizer, config: &Path) -> Result<SpecialTokens, TokenizerError> {
    let config = match std::fs::read(config) {
        Ok(text) => serde_json::from_slice(&text).map_err(|e| {
            TokenizerError::new(format!("{} is not a tokenizer configuration", config.display()))
                .with_source(e)
        })?,
        Err(_) => TokenizerConfig::default(),
    };
    // A special token is written as text, or as an object with the text in `content`.
    let id = |token: Option<Value>| -> Result<Option<i32>, TokenizerError> {
        let Some(token) = token else { return Ok(None) };
        let text = token.as_str().or_else(|| token.get("content").and_then(Value::as_str));
        text.and_then(|text| tokenizer.token_to_id(text)).map(to_token).transpose()
    };
    Ok(SpecialTokens::new(id(config.bos_token)?, id(config.eos_token)?, id(config.pad_token)?))
}

/// Which tokenizer belongs to a model: a hub repository and perhaps a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizerName {
    repository: String,
    revision: Option<String>,
}

impl TokenizerName {
    /// The rules: an id that the server gives wins, cut at the first `:`. Otherwise it is the base model's own, of
    /// which a `:revision` and a third path part are cut; models named `meta-llama/Llama-3…` share
    /// `thinkingmachineslabinc/meta-llama-3-tokenizer`.
    pub fn of(base_model: &str, server_tokenizer_id: Option<&str>) -> Self {
        if let Some(id) = server_tokenizer_id.map(str::trim).filter(|id| !id.is_empty()) {
            return Self::new(id.split(':').next().unwrap_or(id));
        }
        let name = base_model.split(':').next().unwrap_or(base_model);
        if name.starts_with("meta-llama/Llama-3") {
            return Self::new("thinkingmachineslabinc/meta-llama-3-tokenizer");
        }
        let parts: Vec<&str> = name.splitn(3, '/').collect();
        Self::new(parts[..parts.len().min(2)].join("/"))
    }

    /// A repository, such as `Qwen/Qwen3-8B`, at its main revision.
    pub fn new(repository: impl Into<String>) -> Self {
        Self { repository: repository.into(), revision: None }
    }

    /// Sets the revision: a branch, a tag or a commit.
    #[must_use]
    pub fn revision(mut self, revision: impl Into<String>) -> Self {
        self.revision = Some(revision.into());
        self
    }
}

impl fmt::Display for TokenizerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        self.revision.iter().try_for_each(|revision| write!(f, " at {revision}"))
    }
}

/// The hub cache as Hugging Face's tools find it.
fn hub_cache_folder() -> PathBuf {
    hub_cache_from(crate::environment::folder)
}

pub(crate) fn hub_cache_from(variable: impl Fn(&str) -> Option<PathBuf>) -> PathBuf {
    if let Some(cache) = variable("HF_HUB_CACHE") {
        return cache;
    }
    let home = variable("HF_HOME").or_else(|| Some(variable("XDG_CACHE_HOME")?.join("huggingface")));
    let home =
        home.unwrap_or_else(|| variable("HOME").unwrap_or_default().join(".cache").join("huggingface"));
    home.join("hub")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// REQUIREMENTS 4: the name rules.
    #[test]
    fn a_model_names_its_tokenizer() {
        for (model, server, expected) in [
            ("Qwen/Qwen3-8B", None, "Qwen/Qwen3-8B"),
            ("Qwen/Qwen3-8B:abc", None, "Qwen/Qwen3-8B"),
            ("Qwen/Qwen3-8B/tuned", None, "Qwen/Qwen3-8B"),
            ("meta-llama/Llama-3.1-8B", None, "thinkingmachineslabinc/meta-llama-3-tokenizer"),
            ("meta-llama/Llama-3.1-8B", Some("other/tokenizer:v2"), "other/tokenizer"),
            ("Qwen/Qwen3-8B", Some(""), "Qwen/Qwen3-8B"),
            ("gpt2", None, "gpt2"),
        ] {
            assert_eq!(TokenizerName::of(model, server), TokenizerName::new(expected), "{model} {server:?}");
        }
    }

    #[test]
    fn the_cache_is_found_as_the_hub_tools_find_it() {
        let folder = |set: &[(&str, &str)]| {
            hub_cache_from(|name| set.iter().find(|(n, _)| *n == name).map(|(_, value)| PathBuf::from(value)))
        };
        assert_eq!(folder(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/h")]), Path::new("/c"));
        assert_eq!(folder(&[("HF_HOME", "/h"), ("HOME", "/u")]), Path::new("/h/hub"));
        assert_eq!(folder(&[("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(folder(&[("HOME", "/u")]), Path::new("/u/.cache/huggingface/hub"));
    }
}
