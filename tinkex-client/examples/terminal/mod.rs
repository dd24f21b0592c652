//! What the examples share: the command line, the server to talk to, and lines, bars and curves for a person.
//!
//! Nothing here is about training or sampling. An example includes this folder by its path.

mod arguments;
mod connection;
mod curve;
mod metrics;
mod screen;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use tinkex_testkit::FakeServer;

use ::metrics::{NoopRecorder, Recorder};
use arguments::Arguments;
pub(crate) use connection::Connection;
pub(crate) use curve::curve;
pub(crate) use screen::Screen;

/// How long the metrics are served after the end.
const LAST_SCRAPE: Duration = Duration::from_secs(2);

/// How an example fails: with any error that can say what went wrong.
pub(crate) type Failure = Box<dyn Error>;

/// Runs an example against the server that the command line asks for; without one, against `embedded`. `call` is how
/// a person starts the example.
///
/// The exit code is 0 where the example succeeds, 1 where it fails, and 2 where it was called wrongly.
#[allow(dead_code, reason = "the demo calls the other one")]
pub(crate) async fn run(
    call: &str,
    embedded: &FakeServer,
    example: impl AsyncFnOnce(&Connection, &Screen) -> Result<(), Failure>,
) -> ExitCode {
    run_measured(call, embedded, NoopRecorder, example).await
}

/// As [`run`], for an example that has a recorder of metrics of its own: it sees what `--metrics` shows.
pub(crate) async fn run_measured(
    call: &str,
    embedded: &FakeServer,
    recorder: impl Recorder + Send + Sync + 'static,
    example: impl AsyncFnOnce(&Connection, &Screen) -> Result<(), Failure>,
) -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) if arguments.help => {
            println!("{}", arguments::usage(call));
            return ExitCode::SUCCESS;
        }
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}\n\n{}", arguments::usage(call));
            return ExitCode::from(2);
        }
    };
    let screen = Screen::install();
    let outcome: Result<(), Failure> = async {
        let _served = metrics::install(recorder, arguments.metrics, &screen)?;
        let connection = Connection::open(arguments, embedded, &screen).await?;
        Box::pin(example(&connection, &screen)).await?;
        if connection.is_measured() {
            screen.line("\nStaying for a last scrape.");
            tokio::time::sleep(LAST_SCRAPE).await;
        }
        Ok(())
    }
    .await;
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nThat failed: {failure}");
            let mut cause = failure.source();
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}
