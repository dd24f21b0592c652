//! The guide to configuration says what the code does (PROTOCOL 4, 9).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use tinkex_client::{ClientConfig, DynamicConfig};

const GUIDE: &str = include_str!("../../../docs/configuration.md");

/// The names and defaults in the table below a heading.
fn documented(heading: &str) -> BTreeMap<String, Value> {
    let section = GUIDE.split(&format!("\n{heading}\n")).nth(1).unwrap();
    let section = section.split("\n#").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | `"));
    rows.map(|(name, rest)| {
        let default = rest.split_once("` |").unwrap().0;
        (name.to_owned(), serde_json::from_str(default).unwrap())
    })
    .collect()
}

fn known(flags: impl serde::Serialize) -> BTreeMap<String, Value> {
    serde_json::from_value(serde_json::to_value(flags).unwrap()).unwrap()
}

#[test]
fn the_guide_names_every_flag_with_its_default() {
    assert_eq!(documented("### Start-up flags"), known(ClientConfig::default()));
    assert_eq!(documented("### Dynamic flags"), known(DynamicConfig::default()));
}

/// One file of the client reads variables, and the guide's tables are compared with what it reads.
#[test]
fn one_file_reads_the_environment() {
    let mut readers = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if fs::read_to_string(&path).unwrap().contains("env::var") {
                readers.push(path.file_name().unwrap().to_owned());
            }
        }
    }
    assert_eq!(readers, ["environment.rs"]);
}
