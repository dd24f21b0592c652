//! Rules about source text that no compiler lint covers.
//!
//! * Every file under `src` opens with a `//!` paragraph that says what it is about (generated code excepted).
//! * No test and no doctest is switched off, and nothing is left to be done.
//! * Files stay short enough to hold one subject; a long one is only reported.

use std::fs;
use std::path::{Path, PathBuf};

use super::{member_folders, metadata, verdict};
use crate::workspace::Workspace;

/// More lines than this are worth a second look.
const LONG_FILE: usize = 600;

/// What one file violates.
#[derive(Debug, Default, PartialEq, Eq)]
struct Findings {
    errors: Vec<String>,
    warnings: Vec<String>,
}

/// Reads every source file of the members and the documents in the root.
pub(super) fn check(workspace: &Workspace) -> Result<(), String> {
    let mut files = Vec::new();
    for folder in member_folders(&metadata(workspace)?) {
        collect(&folder, &mut files)?;
    }
    for entry in read_dir(workspace.root())? {
        if entry.extension().is_some_and(|extension| extension == "md") {
            files.push(entry);
        }
    }
    files.sort();
    let mut errors = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let shown = path.strip_prefix(workspace.root()).unwrap_or(&path).to_path_buf();
        let findings = examine(&shown, &text);
        errors.extend(findings.errors);
        for warning in findings.warnings {
            print!("[{warning}] ");
        }
    }
    verdict(errors, "the rules are in xtask/src/lint/sources.rs")
}

/// All `.rs` and `.md` files below a folder.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    for path in read_dir(folder)? {
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "md") {
            files.push(path);
        }
    }
    Ok(())
}

fn read_dir(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(|e| e.to_string())).collect()
}

/// Applies the rules to one file; `path` is relative to the root.
fn examine(path: &Path, text: &str) -> Findings {
    let mut findings = Findings::default();
    let shown = path.display();
    let part = |name: &str| path.components().any(|component| component.as_os_str() == name);
    let is_rust = path.extension().is_some_and(|extension| extension == "rs");
    let generated = part("generated");

    if is_rust && part("src") && !generated && !text.starts_with("//!") {
        findings.errors.push(format!("{shown}:1: begins without a `//!` paragraph"));
    }
    for (at, line) in text.lines().enumerate() {
        let code = line.trim_start();
        let comment = code.trim_start_matches(['/', '!', ' ']);
        let mut report = |what: &str| findings.errors.push(format!("{shown}:{}: {what}", at + 1));
        // A fence that opens a code block, in a doc comment or in a document.
        if (code.starts_with("//") || !is_rust) && comment.starts_with("```") && fence_is_ignored(comment) {
            report("a code block that is never compiled");
        }
        if is_rust && code.starts_with(concat!("#[ign", "ore")) {
            report("a test that is switched off");
        }
        if is_rust && !code.starts_with("//") && code.contains(concat!("to", "do!(")) {
            report("something left to be done");
        }
    }
    let length = text.lines().count();
    if is_rust && !generated && length > LONG_FILE {
        findings.warnings.push(format!("{shown} has {length} lines"));
    }
    findings
}

/// Whether the words behind an opening fence contain `ignore`, alone or for one target.
fn fence_is_ignored(fence: &str) -> bool {
    fence
        .trim_start_matches('`')
        .split([',', ' '])
        .any(|word| word.trim() == "ignore" || word.starts_with("ignore-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(path: &str, text: &str) -> Vec<String> {
        examine(Path::new(path), text).errors
    }

    #[test]
    fn a_source_file_needs_its_paragraph_but_tests_and_generated_code_do_not() {
        assert_eq!(errors("a/src/lib.rs", "//! What it is.\n"), Vec::<String>::new());
        assert_eq!(errors("a/src/lib.rs", "use b;\n"), ["a/src/lib.rs:1: begins without a `//!` paragraph"]);
        assert_eq!(errors("a/tests/it/main.rs", "mod b;\n"), Vec::<String>::new());
        assert_eq!(errors("a/src/proto/generated/a.rs", "// made\n"), Vec::<String>::new());
    }

    #[test]
    fn switched_off_tests_and_blocks_are_found() {
        let text = concat!(
            "//! A\n#[ign",
            "ore]\nfn a() { to",
            "do!() }\n/// ```ignore\n/// ```rust,ignore-windows\n"
        );
        assert_eq!(
            errors("a/src/lib.rs", text),
            [
                "a/src/lib.rs:2: a test that is switched off",
                "a/src/lib.rs:3: something left to be done",
                "a/src/lib.rs:4: a code block that is never compiled",
                "a/src/lib.rs:5: a code block that is never compiled",
            ]
        );
        assert_eq!(
            errors("README.md", "```rust,ignore\n"),
            ["README.md:1: a code block that is never compiled"]
        );
    }

    #[test]
    fn ordinary_text_about_these_words_is_fine() {
        let text = "//! A\n/// ```no_run\n/// ```text\n// ignore the rest\nlet a = \"```ignore\";\n";
        assert_eq!(errors("a/src/lib.rs", text), Vec::<String>::new());
    }

    #[test]
    fn a_long_file_is_a_warning() {
        let findings = examine(Path::new("a/src/lib.rs"), &format!("//! A\n{}", "\n".repeat(LONG_FILE)));
        assert!(findings.errors.is_empty());
        assert_eq!(findings.warnings, ["a/src/lib.rs has 601 lines"]);
    }
}
