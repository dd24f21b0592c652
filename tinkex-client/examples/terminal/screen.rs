//! Lines and a progress bar.

use std::io;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tinkex_client::environment;
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::debug_fn;

/// Lines above a progress bar. Log lines go there too.
#[derive(Clone)]
pub(crate) struct Screen(MultiProgress);

impl Screen {
    /// Takes over the terminal, and shows the SDK's log as it comes: warnings, or more where `TINKER_LOG` asks for it.
    pub(crate) fn install() -> Self {
        let screen = Self(MultiProgress::new());
        let log = tracing_subscriber::fmt()
            .with_max_level(environment::log_level().unwrap_or(Level::WARN))
            .with_writer(screen.clone())
            .without_time()
            .with_target(false)
            .with_ansi(false)
            .fmt_fields(debug_fn(|writer, field, value| match field.name() {
                "message" => write!(writer, "{value:?}"),
                _ => Ok(()),
            }))
            .finish();
        // A second installation would be a second screen; the first one stays.
        let _ = tracing::subscriber::set_global_default(log);
        screen
    }

    /// Shows text above the bar. Line by line, since the bar is drawn anew after each.
    pub(crate) fn line(&self, text: &str) {
        for line in text.split('\n') {
            // An empty line would be swallowed.
            let line = if line.is_empty() { " " } else { line };
            if self.0.is_hidden() || self.0.println(line).is_err() {
                println!("{line}");
            }
        }
    }

    pub(crate) fn bar(&self, length: usize) -> ProgressBar {
        let style = ProgressStyle::with_template("  [{bar:20}] {pos}/{len} {elapsed} {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        self.0.add(ProgressBar::new(length as u64).with_style(style.progress_chars("=> ")))
    }
}

/// One log line on its way to the screen.
pub(crate) struct LogLine {
    screen: Screen,
    text: Vec<u8>,
}

impl io::Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.text);
        if !text.trim().is_empty() {
            self.screen.line(&format!("  {}", text.trim()));
        }
    }
}

impl<'a> MakeWriter<'a> for Screen {
    type Writer = LogLine;

    fn make_writer(&'a self) -> LogLine {
        LogLine { screen: self.clone(), text: Vec::new() }
    }
}
