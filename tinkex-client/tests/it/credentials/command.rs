//! The credential command (PROTOCOL 3.2), in real time: a process does not wait for virtual time.

use std::fs;
use std::time::Duration;

use tinkex_client::{Error, ErrorKind, ServiceClient};
use tinkex_testkit::FakeServer;

use super::{filled, keys, vectors};

async fn connect(server: &FakeServer, command: &str) -> Result<ServiceClient, Error> {
    let builder = ServiceClient::builder().base_url(server.url()).transport(server.transport());
    builder.credential_command(command).build().await
}

/// `vectors/credentials`, `credential_cmd`: what is made of the output, the exit status and standard error apart.
#[tokio::test]
async fn every_output() {
    let vectors = vectors();
    for case in vectors["credential_cmd"].as_array().unwrap() {
        let server = FakeServer::new();
        let outcome = connect(&server, &filled(case["command"].as_str().unwrap())).await;
        match case["result"]["token"].as_str() {
            Some(_) => {
                outcome.unwrap();
                let expected = filled(case["stdout"].as_str().unwrap());
                assert!(keys(&server, "**").iter().all(|sent| sent == expected.trim()), "{case}");
            }
            None => {
                let error = outcome.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Auth, "{case}: {error}");
                assert_eq!(server.count("**"), 0, "{case}");
            }
        }
    }
}

/// It is run at every use, and nothing is kept between.
#[tokio::test]
async fn it_runs_at_every_use() {
    let folder = tempfile::tempdir().unwrap();
    let count = folder.path().join("count");
    let command = format!("echo x >> '{0}'; echo key-$(wc -l < '{0}')", count.display());
    let server = FakeServer::new();
    connect(&server, &command).await.unwrap();
    let sent: Vec<_> = keys(&server, "**").iter().map(|key| key.replace(' ', "")).collect();
    assert_eq!(sent, ["key-1", "key-2", "key-3"]);
    assert_eq!(fs::read_to_string(count).unwrap().lines().count(), 3);
}

/// What cannot be used is said in words that tell what to do, and do not quote it.
#[tokio::test]
async fn errors_say_what_to_do() {
    let cases = [
        ("true", "printed nothing; run it by hand to see why"),
        ("echo tml-a tml-b", "must be printable ASCII"),
        ("printf 'tml-\\377'", "it is no text"),
        ("head -c 70000 /dev/zero", "it printed more than 65536 bytes"),
        ("echo eyJhbGci-secret", "its claims cannot be read"),
    ];
    for (command, says) in cases {
        let server = FakeServer::new();
        let error = connect(&server, command).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains(says), "{command}: {text}");
        assert!(!text.contains("tml-") && !text.contains("secret"), "{text}");
        assert_eq!(server.count("**"), 0);
    }
}

/// A command that does not end is given up after 60 s. (Virtual time passes at once where only timers are waited for, so
/// here the limit comes first.)
#[tokio::test(start_paused = true)]
async fn it_has_sixty_seconds() {
    let began = tokio::time::Instant::now();
    let error = connect(&FakeServer::new(), "sleep 600").await.unwrap_err();
    assert!(error.to_string().contains("did not end within 60 s"), "{error}");
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(60) && took < Duration::from_secs(61), "{took:?}");
}

/// In a runtime without the driver that processes need, the call fails and nothing panics through it.
#[test]
fn a_runtime_without_its_driver() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let error = runtime.block_on(connect(&FakeServer::new(), "echo tml-a")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth);
    assert!(error.to_string().contains("enable_all()"), "{error}");
}

/// Whoever stops waiting kills it.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_command_nobody_waits_for_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let server = FakeServer::new();
    let command = format!("echo $$ > '{}'; exec sleep 600", file.display());
    let pid = tokio::select! {
        _ = connect(&server, &command) => panic!("it does not end"),
        pid = async {
            loop {
                match fs::read_to_string(&file) {
                    Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
                    _ => tokio::task::yield_now().await,
                }
            }
        } => pid,
    };
    // Gone, or dead and not yet buried.
    let alive = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()).is_some_and(|state| state != 'Z')
    };
    let gone = async {
        while alive() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("it still runs");
}
