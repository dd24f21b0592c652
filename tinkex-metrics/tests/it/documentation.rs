//! `docs/metrics.md` shows the contract. `TINKEX_BLESS=1` writes its table anew.

use std::fs;
use std::path::Path;

const BEGIN: &str = "<!-- begin of the table, written by a test -->\n\n";
const END: &str = "\n<!-- end of the table -->";

#[test]
fn the_documented_table_is_the_contract() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let document = fs::read_to_string(&path).expect("docs/metrics.md can be read");
    let (before, rest) = document.split_once(BEGIN).expect("the table has a beginning");
    let (table, after) = rest.split_once(END).expect("the table has an end");
    let contract = tinkex_metrics::table::markdown();
    if std::env::var_os("TINKEX_BLESS").is_some() {
        let document = format!("{before}{BEGIN}{contract}{END}{after}");
        fs::write(&path, document).expect("docs/metrics.md can be written");
        return;
    }
    assert_eq!(table, contract, "docs/metrics.md is out of date: run this test with TINKEX_BLESS=1");
}

#[test]
fn the_documented_buckets_are_those_of_the_histograms() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let document = fs::read_to_string(&path).expect("docs/metrics.md can be read");
    let buckets: Vec<_> = tinkex_metrics::DURATION_BUCKETS.iter().map(ToString::to_string).collect();
    let line = buckets.join(", ");
    assert!(document.contains(&line), "docs/metrics.md does not name the buckets {line}");
}
