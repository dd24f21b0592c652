//! `cargo xtask demo`: the example program of `tinkex-client`, on this terminal.

use crate::process;
use crate::test::CLIENT_FEATURES;
use crate::workspace::Workspace;

/// Runs the demo with the user's arguments.
///
/// # Errors
///
/// When the program does not build or does not exit with success.
pub(crate) fn run(workspace: &Workspace, extra: &[String]) -> Result<(), String> {
    let mut command = workspace.cargo(&["run", "--locked", "-p", "tinkex-client", "--example", "demo"]);
    if !needs_tls(extra) {
        // The embedded server speaks plain HTTP: leave the TLS stack out of a first build.
        command.args(["--no-default-features", "--features", CLIENT_FEATURES]);
    }
    if extra.iter().any(|word| word == "--metrics" || word.starts_with("--metrics=")) {
        command.args(["--features", "prometheus-listener"]);
    }
    command.arg("--").args(extra);
    // The program has said what went wrong; the long command line would bury it.
    process::run(&mut command)
        .map(|_| ())
        .map_err(|_| "the demo did not succeed; what happened is said above".to_owned())
}

/// Whether `--url` names a server that speaks TLS.
fn needs_tls(extra: &[String]) -> bool {
    let mut words = extra.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let url = if word == "--url" { words.next() } else { word.strip_prefix("--url=") };
        if url.is_some_and(|url| url.trim_start().to_ascii_lowercase().starts_with("https:")) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::needs_tls;

    #[test]
    fn only_an_https_url_brings_tls_in() {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert!(needs_tls(&words("--url https://tinker.example")));
        assert!(needs_tls(&words("--model NAME --url=HTTPS://tinker.example")));
        assert!(!needs_tls(&words("--url http://127.0.0.1:8000")));
        assert!(!needs_tls(&words("--url")));
        assert!(!needs_tls(&words("")));
    }
}
