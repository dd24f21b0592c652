//! The example reads its own recording, and the recordings of the tests.

#[path = "../../examples/read_recording/recording.rs"]
mod recording;
#[path = "../../examples/read_recording/words.rs"]
mod words;

use std::path::Path;

use recording::Recording;

#[test]
fn read_recording() {
    let text = words::tell(&[Recording::own().unwrap()]).unwrap();
    for part in [
        "flags: sample_max_concurrent_requests = 500",
        "a prompt of 5 tokens, promised as req-00000001",
        "req-00000001: sampled 6 tokens (length), 6 tokens (length)",
        "408 retrieve_future              req-00000002: not yet; paused_capacity (all replicas are busy)",
        "req-00000002: sampled 8 tokens (length)",
        "404 asample                      refused; at fault: user",
        "14 exchanges, 1 of them polls of a paused queue.",
        "9 tokens of prompts.",
        "20 tokens were sampled in sequences that ended by: length",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

/// Recorded traffic of the reference SDK is read too.
#[test]
fn other_recordings() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut read = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        if text.contains("\"request\": {") && text.contains("\"sdk_version\": \"0.38.0\"") {
            let told = words::tell(&[Recording::from_file(&path).unwrap()]);
            assert!(told.is_ok_and(|text| text.lines().count() >= 4), "{}", path.display());
            read += 1;
        }
    }
    assert!(read > 20, "{read} recordings");
}

/// A file that is missing or is no recording says so by its name.
#[test]
fn recordings_that_cannot_be_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, problem) in [("missing.json", "missing.json: "), ("Cargo.toml", "Cargo.toml: expected")] {
        let error = Recording::from_file(folder.join(name)).err().unwrap().to_string();
        assert!(error.contains(problem), "{error}");
    }
}
