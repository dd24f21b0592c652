//! Hugging Face tokenizers, over a small file made here.

use std::fs;
use std::path::{Path, PathBuf};

use tinkex_client::{HfTokenizer, ModelInput, SpecialTokens, Tokenizer, TokenizerName};

const TOKENIZER: &str = r#"{
  "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "decoder": null,
  "added_tokens": [{"id": 3, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true}],
  "pre_tokenizer": {"type": "Whitespace"},
  "post_processor": {"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [3], "tokens": ["<s>"]}}},
  "model": {"type": "WordLevel", "vocab": {"hello": 0, "world": 1, "[UNK]": 2, "<s>": 3}, "unk_token": "[UNK]"}
}"#;

/// A folder of this test's own, empty.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// S1-19: text becomes a prompt and comes back, with and without special tokens.
#[test]
fn a_file_encodes_and_decodes() {
    let folder = folder("file");
    fs::write(folder.join("tokenizer.json"), TOKENIZER).unwrap();
    let config = r#"{"bos_token": {"content": "<s>"}, "eos_token": "[UNK]", "pad_token": null}"#;
    fs::write(folder.join("tokenizer_config.json"), config).unwrap();
    let tokenizer = HfTokenizer::from_file(folder.join("tokenizer.json")).unwrap();

    assert_eq!(tokenizer.encode("hello world").unwrap(), [3, 0, 1]);
    assert_eq!(tokenizer.decode(&[0, 1]).unwrap(), "hello world");
    assert_eq!(tokenizer.special_tokens(), SpecialTokens::new(Some(3), Some(2), None));
    let error = tokenizer.decode(&[99]).unwrap_err().to_string();
    assert_eq!(error, "token 99 is not in the vocabulary");

    let plain = tokenizer.add_special_tokens(false);
    let prompt = ModelInput::from_text("hello hello", &plain).unwrap();
    assert_eq!(prompt.tokens().collect::<Vec<_>>(), [0, 0]);
}

#[test]
fn the_hub_cache_is_read_by_reference_and_by_commit() {
    let cache = folder("cache");
    let repository = cache.join("models--Qwen--Qwen3-8B");
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::create_dir_all(repository.join("snapshots/c0ffee")).unwrap();
    fs::write(repository.join("refs/main"), "c0ffee\n").unwrap();
    fs::write(repository.join("snapshots/c0ffee/tokenizer.json"), TOKENIZER).unwrap();

    let name = TokenizerName::of("Qwen/Qwen3-8B:latest", None);
    let by_reference = HfTokenizer::from_hub_cache(&cache, &name).unwrap();
    assert_eq!(by_reference.encode("world").unwrap(), [3, 1]);
    HfTokenizer::from_hub_cache(&cache, &name.clone().revision("c0ffee")).unwrap();

    let missing = HfTokenizer::from_hub_cache(&cache, &name.revision("v2")).unwrap_err().to_string();
    assert!(missing.contains("Qwen/Qwen3-8B at v2 is not in the hub cache"), "{missing}");
    assert!(missing.contains("HfTokenizer::from_file"), "{missing}");
}

#[test]
fn a_broken_file_is_an_error_that_names_it() {
    let folder = folder("broken");
    let file = folder.join("tokenizer.json");
    fs::write(&file, "{}").unwrap();
    let error = HfTokenizer::from_file(&file).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json"), "{error}");
}
