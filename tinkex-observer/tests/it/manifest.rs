//! What the crate depends on.

/// S2-21: no logging crate was added for this, and no HTTP crate is named. (The whole tree is the lint's business.)
#[test]
fn the_dependencies_are_these() {
    let manifest = include_str!("../../Cargo.toml");
    let section = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let names: Vec<&str> = section
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|n| !n.is_empty())
        .collect();
    let expected = [
        "tinkex-metrics",
        "tinkex-types",
        "futures-core",
        "metrics",
        "metrics-exporter-prometheus",
        "tokio",
        "tracing",
    ];
    assert_eq!(names, expected);
    assert!(section.contains("tokio = { workspace = true, features = [\"time\"] }"));
    assert!(section.contains("metrics-exporter-prometheus = { workspace = true, optional = true }"));
}
