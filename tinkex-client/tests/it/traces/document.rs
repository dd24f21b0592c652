//! `docs/traces.md` lists the spans as they are.

use std::collections::BTreeSet;

use tinkex_client::ErrorKind;

use crate::harness;
use crate::trace_capture::TraceCapture;

const DOCUMENT: &str = include_str!("../../../../docs/traces.md");

/// The first column of the table below a heading.
fn listed(heading: &str) -> Vec<&'static str> {
    let (_, section) = DOCUMENT.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect()
}

/// Both directions: every field declared is listed, and every field listed is declared.
#[tokio::test(start_paused = true)]
async fn the_tables_are_what_is_declared() {
    let (capture, _guard) = TraceCapture::start();
    let server = tinkex_testkit::FakeServer::new();
    let (_service, sampler) = harness::sampler(&server).await;
    sampler.sample(harness::request(&[1])).await.unwrap();
    for (heading, name) in [("Operations", "operation"), ("Attempts", "http_request")] {
        let spans = capture.spans(name);
        assert!(spans.len() > 1);
        for span in spans {
            assert_eq!(span.declared, listed(heading), "{name}");
            let level = format!("level {}", span.level);
            assert!(DOCUMENT.contains(&format!("`{name}`, target `{}`, {level}", span.target)), "{name}");
        }
    }
}

/// The kinds of errors are listed as they are spelt.
#[test]
fn the_kinds_are_listed() {
    let (_, list) = DOCUMENT.split_once("is the `ErrorKind` of the error:").unwrap();
    let list = list.split(". ").next().unwrap();
    let listed: BTreeSet<_> = list.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let kinds = [
        ErrorKind::InvalidInput,
        ErrorKind::Auth,
        ErrorKind::Connection,
        ErrorKind::Timeout,
        ErrorKind::Status,
        ErrorKind::RequestFailed,
        ErrorKind::SequenceConflict,
        ErrorKind::CustomLoss,
        ErrorKind::Poisoned,
        ErrorKind::Expired,
        ErrorKind::Stuck,
        ErrorKind::Decode,
        ErrorKind::Closed,
        ErrorKind::TaskEnded,
    ];
    let spelt = kinds.map(|kind| {
        let name = format!("{kind:?}");
        let words = name.char_indices().map(|(at, letter)| match letter.is_ascii_uppercase() && at > 0 {
            true => format!("_{}", letter.to_ascii_lowercase()),
            false => letter.to_ascii_lowercase().to_string(),
        });
        words.collect::<String>()
    });
    assert_eq!(listed, BTreeSet::from(spelt));
}
