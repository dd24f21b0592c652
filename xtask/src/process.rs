//! Runs child programs: shown as typed, timed, with their output passed on, watched or captured.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let mut words = vec!["cargo".to_owned()];
    let program = command.get_program().to_string_lossy().into_owned();
    if !program.ends_with("cargo") && !program.ends_with("cargo.exe") {
        words[0] = program;
    }
    words.extend(command.get_args().map(|word| {
        let word = word.to_string_lossy();
        if word.is_empty() || word.contains([' ', '"', '*', '&', ';']) {
            format!("'{word}'")
        } else {
            word.into_owned()
        }
    }));
    words.join(" ")
}

/// Seconds with one decimal, for summaries.
pub(crate) fn seconds(elapsed: Duration) -> String {
    format!("{:.1} s", elapsed.as_secs_f64())
}

/// Runs a command that inherits the terminal.
///
/// # Errors
///
/// When the program cannot be started or does not exit with success.
pub(crate) fn run(command: &mut Command) -> Result<Duration, String> {
    println!("$ {}", shown(command));
    let start = Instant::now();
    let status = command.status().map_err(|e| format!("cannot start `{}`: {e}", shown(command)))?;
    if status.success() {
        Ok(start.elapsed())
    } else {
        Err(format!("`{}` failed ({status})", shown(command)))
    }
}

/// Runs a command, passes its standard output on line by line and shows every line to `watch` as well.
///
/// # Errors
///
/// When the program cannot be started or does not exit with success.
pub(crate) fn run_watched(command: &mut Command, mut watch: impl FnMut(&str)) -> Result<(), String> {
    println!("$ {}", shown(command));
    let name = shown(command);
    let mut child =
        command.stdout(Stdio::piped()).spawn().map_err(|e| format!("cannot start `{name}`: {e}"))?;
    if let Some(output) = child.stdout.take() {
        let mut reader = BufReader::new(output);
        let mut line = Vec::new();
        // Bytes, not text: a test may print anything.
        while reader.read_until(b'\n', &mut line).map_err(|e| format!("cannot read from `{name}`: {e}"))? > 0
        {
            let text = String::from_utf8_lossy(&line).into_owned();
            print!("{text}");
            watch(text.trim_end());
            line.clear();
        }
    }
    let status = child.wait().map_err(|e| format!("cannot wait for `{name}`: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{name}` failed ({status})")) }
}

/// Runs a command silently and returns its standard output.
///
/// # Errors
///
/// When the program cannot be started, or with everything it printed when it does not exit with success.
pub(crate) fn captured(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|e| format!("cannot start `{}`: {e}", shown(command)))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("$ {}\n{}{}", shown(command), text, errors).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_a_person_would_type_it() {
        let mut command = Command::new("/somewhere/bin/cargo");
        command.args(["test", "--", "two words"]);
        assert_eq!(shown(&command), "cargo test -- 'two words'");
    }
}
