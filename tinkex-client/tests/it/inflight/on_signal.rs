//! The dump on SIGUSR1. Signals belong to a process, so each test runs in one of its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tinkex_client::{DumpTarget, ErrorKind, ServiceClient};
use tinkex_testkit::{FakeServer, Step};

use crate::environment::{self, in_environment};
use crate::harness::{self, MODEL};

/// How long something real is waited for. Reached only where something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);
const VARIABLE: &str = "TINKEX_DUMP_INFLIGHT";

/// Sends SIGUSR1 to this process.
fn signal() {
    let kill = format!("kill -USR1 {}", std::process::id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

/// What is in a file, once `count` dumps are.
async fn dumps_in(file: &Path, count: usize) -> Vec<String> {
    for _ in 0..PATIENCE.as_millis() / 5 {
        let text = std::fs::read_to_string(file).unwrap();
        let dumps: Vec<_> = text.split_inclusive("\n\n").map(str::to_owned).collect();
        if dumps.len() >= count && text.ends_with("\n\n") {
            return dumps;
        }
        // In real time: virtual time stands still while a thread is busy, and a signal takes none of it.
        let nap = tokio::task::spawn_blocking(|| std::thread::park_timeout(Duration::from_millis(5)));
        nap.await.unwrap();
    }
    panic!("no {count} dumps: {:?}", std::fs::read_to_string(file));
}

async fn dumping(server: &FakeServer, file: &Path) -> ServiceClient {
    let target = DumpTarget::File(file.to_owned());
    harness::builder(server).dump_inflight_on_signal(target).build().await.unwrap()
}

/// Each service of the process writes its own, from the variable or the builder; one that is gone does not, and the
/// signal does not end the process even when all are.
#[test]
fn every_service_dumps_into_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("from the environment");
    let name = "inflight::on_signal::every_service_dumps_into_its_file";
    if !in_environment(name, &[(VARIABLE, file.to_str().unwrap())]) {
        return;
    }
    let from_environment = std::path::PathBuf::from(std::env::var_os(VARIABLE).unwrap());
    let other = from_environment.with_file_name("from the builder");
    std::fs::write(&other, "what was there before\n\n").unwrap();
    virtual_time(async {
        let server = FakeServer::new();
        let first = harness::builder(&server).from_env().build().await.unwrap();
        let second = dumping(&server, &other).await;
        assert_eq!(std::fs::read_to_string(&from_environment).unwrap(), "", "it can be written to");
        let sampler = second.sampling_client().base_model(MODEL).create().await.unwrap();
        server.script("asample", [Step::hang()]).then_behave();
        let sample = sampler.sample(harness::request(&[1]));
        server.wait_for("asample", 1).await;
        tokio::time::advance(Duration::from_secs(45)).await;

        signal();
        let session = |service: &ServiceClient| service.session_id().unwrap();
        let head = |service, slots| {
            format!(
                "--- tinkex, 45.0 s after the service was built: session {}, not in backoff, {slots} free dispatch \
                 slots\n",
                session(service)
            )
        };
        let of_first = format!("{}nothing in flight\n\n", head(&first, 400));
        assert_eq!(dumps_in(&from_environment, 1).await, std::slice::from_ref(&of_first));
        let of_second = dumps_in(&other, 2).await;
        assert_eq!(of_second[0], "what was there before\n\n", "it is appended to");
        assert!(of_second[1].starts_with(&head(&second, 399)), "{of_second:?}");
        let line = format!("\n0  Sample   submitting  45.0 s  {}", sampler.sampling_session_id());
        assert!(of_second[1].contains(&line), "{of_second:?}");

        drop((second, sampler, sample));
        // The attempt on the wire ends, and with it the last holder of the service.
        tokio::time::sleep(Duration::from_secs(120)).await;
        signal();
        let again = dumps_in(&from_environment, 2).await;
        assert!(again.len() == 2 && again[0] == of_first && again[1].ends_with("nothing in flight\n\n"));
        assert_eq!(dumps_in(&other, 2).await.len(), 2, "the service is gone");

        drop(first);
        signal();
        tokio::task::yield_now().await;
        assert_eq!(dumps_in(&from_environment, 2).await.len(), 2);
    });
}

/// The variable without a file writes to standard error, as often as the signal comes.
#[test]
fn the_variable_alone_writes_to_standard_error() {
    let name = "inflight::on_signal::the_variable_alone_writes_to_standard_error";
    if environment::is_in(name) {
        virtual_time(async {
            let server = FakeServer::new();
            let service = harness::builder(&server).from_env().build().await.unwrap();
            for _ in 0..2 {
                signal();
                // A line when this dump has been read. Virtual time stands still meanwhile.
                let read = tokio::task::spawn_blocking(|| std::io::stdin().lines().next());
                read.await.unwrap().unwrap().unwrap();
            }
            drop(service);
        });
        return;
    }
    let mut child = environment::command(name, &[(VARIABLE, "1")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut orders, stderr) = (child.stdin.take().unwrap(), child.stderr.take().unwrap());
    let (sender, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines() {
            let _ = sender.send(line.unwrap());
        }
    });
    for _ in 0..2 {
        let dump: Result<Vec<_>, _> = (0..3).map(|_| lines.recv_timeout(PATIENCE)).collect();
        if dump.is_err() {
            child.kill().unwrap();
        }
        let dump = dump.unwrap();
        assert!(dump[0].starts_with("--- tinkex, 0.0 s after the service was built: session "), "{dump:?}");
        assert_eq!(dump[1..], ["nothing in flight", ""]);
        orders.write_all(b"go on\n").unwrap();
    }
    assert!(child.wait().unwrap().success());
    reader.join().unwrap();
    assert_eq!(lines.try_recv().ok(), None, "nothing else is written");
}

/// What cannot work is refused by `build()`, before anything is sent: a file that cannot be written, a runtime without I/O.
#[test]
fn what_cannot_be_written_is_refused() {
    let refused = |target: DumpTarget, runtime: &mut tokio::runtime::Builder| {
        runtime.build().unwrap().block_on(async {
            let server = FakeServer::new();
            let error = harness::builder(&server).dump_inflight_on_signal(target).build().await.unwrap_err();
            assert_eq!((error.kind(), server.count("*")), (ErrorKind::InvalidInput, 0), "{error}");
            error.to_string()
        })
    };
    let folder = tempfile::tempdir().unwrap();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let missing = DumpTarget::File(folder.path().join("missing").join("file"));
    let error = refused(missing, runtime.enable_all());
    assert!(error.contains("dump_inflight_on_signal") && error.contains("missing"), "{error}");
    let mut without_io = tokio::runtime::Builder::new_current_thread();
    let error = refused(DumpTarget::StandardError, without_io.enable_time());
    assert!(error.contains("a runtime with I/O enabled"), "{error}");
}

fn virtual_time(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(test);
}
