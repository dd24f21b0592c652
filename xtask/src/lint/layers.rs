//! Which member may depend on which: the layers of the workspace, checked over `cargo metadata`.

use serde_json::Value;

use super::{metadata, verdict};
use crate::workspace::Workspace;

/// Every member with the members it may depend on. The table is exact about members: a new crate needs a row here.
const LAYERS: &[(&str, &[&str])] = &[
    ("tinkex-types", &[]),
    // The metrics contract: what all others measure. It knows none of them.
    ("tinkex-metrics", &[]),
    ("tinkex-http", &["tinkex-types", "tinkex-metrics"]),
    ("tinkex-future", &["tinkex-types", "tinkex-metrics"]),
    ("tinkex-observer", &["tinkex-types", "tinkex-metrics"]),
    ("tinkex-testkit", &["tinkex-types", "tinkex-http"]),
    ("tinkex-client", &["tinkex-types", "tinkex-metrics", "tinkex-http", "tinkex-future", "tinkex-observer"]),
    // A program above everything that is measured; nothing depends on it.
    (
        "tinkex-bench",
        &["tinkex-types", "tinkex-metrics", "tinkex-observer", "tinkex-testkit", "tinkex-client"],
    ),
    // Looks at metrics from outside, as Prometheus does.
    ("tinkex-dashboard", &[]),
    ("xtask", &[]),
];

/// Compares the members' dependencies with the table.
pub(super) fn check(workspace: &Workspace) -> Result<(), String> {
    verdict(
        violations(&metadata(workspace)?, LAYERS),
        "dependencies point down to tinkex-types only; the table is in xtask/src/lint/layers.rs",
    )
}

/// Everything in the metadata that the table does not allow.
///
/// Normal and build dependencies count. Dev-dependencies are free, except for `xtask`, which has no member at all.
fn violations(metadata: &Value, layers: &[(&str, &[&str])]) -> Vec<String> {
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_member = |name: &str| packages.iter().any(|package| package["name"] == name);
    let mut found = Vec::new();
    for (name, _) in layers {
        if !is_member(name) {
            found.push(format!("{name} is missing from the workspace"));
        }
    }
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = layers.iter().find(|(known, _)| *known == name) else {
            found.push(format!("{name} has no row in the table of layers"));
            continue;
        };
        for dependency in package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let target = dependency["name"].as_str().unwrap_or_default();
            let free = dependency["kind"] == "dev" && name != "xtask";
            if is_member(target) && !free && !allowed.contains(&target) {
                found.push(format!("{name} depends on {target}"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SMALL: &[(&str, &[&str])] = &[("types", &[]), ("http", &["types"]), ("xtask", &[])];

    fn dependency(name: &str, kind: Option<&str>) -> Value {
        json!({ "name": name, "kind": kind })
    }

    fn workspace(http: Vec<Value>, types: Vec<Value>, xtask: Vec<Value>) -> Value {
        json!({ "packages": [
            { "name": "types", "dependencies": types },
            { "name": "http", "dependencies": http },
            { "name": "xtask", "dependencies": xtask },
        ]})
    }

    #[test]
    fn allowed_edges_foreign_crates_and_dev_dependencies_pass() {
        let fake = workspace(
            vec![dependency("types", None), dependency("bytes", None)],
            vec![dependency("http", Some("dev"))],
            vec![dependency("serde_json", None)],
        );
        assert_eq!(violations(&fake, SMALL), Vec::<String>::new());
    }

    #[test]
    fn an_upward_edge_is_named_whatever_its_kind() {
        let fake = workspace(vec![], vec![dependency("http", None)], vec![]);
        assert_eq!(violations(&fake, SMALL), ["types depends on http"]);
        let fake = workspace(vec![], vec![dependency("http", Some("build"))], vec![]);
        assert_eq!(violations(&fake, SMALL), ["types depends on http"]);
    }

    #[test]
    fn the_task_runner_depends_on_no_member_not_even_for_tests() {
        let fake = workspace(vec![], vec![], vec![dependency("types", Some("dev"))]);
        assert_eq!(violations(&fake, SMALL), ["xtask depends on types"]);
    }

    #[test]
    fn members_and_table_must_agree() {
        let fake = json!({ "packages": [
            { "name": "types", "dependencies": [] },
            { "name": "xtask", "dependencies": [] },
            { "name": "new", "dependencies": [] },
        ]});
        assert_eq!(
            violations(&fake, SMALL),
            ["http is missing from the workspace", "new has no row in the table of layers"]
        );
    }
}
