//! Builds a program of the workspace and finds where cargo put it.

use std::process::Stdio;

use serde_json::Value;

use crate::process;
use crate::workspace::Workspace;

/// Builds what the arguments of `cargo build` select, one program, and returns its path.
///
/// # Errors
///
/// When it does not build; cargo has then said why on standard error.
pub(crate) fn build(workspace: &Workspace, selection: &[&str]) -> Result<String, String> {
    let mut arguments = vec!["build", "--locked", "--message-format=json-render-diagnostics"];
    arguments.extend(selection);
    let mut cargo = workspace.cargo(&arguments);
    cargo.stderr(Stdio::inherit());
    println!("$ {}", process::shown(&cargo));
    let what = selection.join(" ");
    let messages = process::captured(&mut cargo)
        .map_err(|_| format!("`{what}` does not build; cargo says why above"))?;
    executable(&messages).ok_or_else(|| format!("cargo did not say where the program of `{what}` is"))
}

/// The program's path in cargo's JSON messages.
fn executable(messages: &str) -> Option<String> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(str::to_owned))
        .next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_in_the_build_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\nnot json\n\
                        {\"reason\":\"compiler-artifact\",\"executable\":\"/t/debug/tinkex-testkit\"}\n\
                        {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(executable(messages), Some("/t/debug/tinkex-testkit".to_owned()));
    }
}
