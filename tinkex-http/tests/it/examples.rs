//! The example runs, offline, and shows what it claims.

#[path = "../../examples/package_stats/busy_server.rs"]
mod busy_server;
#[path = "../../examples/package_stats/stats.rs"]
mod stats;

/// On a real socket: a 503 is followed when it says, a 502 soon, and a 404 is believed.
#[tokio::test]
async fn package_stats() {
    let mut lines = Vec::new();
    stats::run_offline(|line| lines.push(line)).await.unwrap();
    let text = lines.join("\n");
    for part in [
        "serde        9412877   after 1 attempt(s)",
        "tokio        7260131   after 3 attempt(s)",
        "no such package",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let seen: Vec<_> = lines.iter().filter_map(|line| line.trim().strip_prefix("GET /packages/")).collect();
    let expected = [
        "serde/downloads: 200 OK",
        "tokio/downloads: 503 Service Unavailable, come back in 1 s",
        "tokio/downloads: 502 Bad Gateway",
        "tokio/downloads: 200 OK",
        "left-pad/downloads: 404 Not Found",
    ];
    assert_eq!(seen, expected);
}
