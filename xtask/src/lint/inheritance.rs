//! Members take version, edition, licence, lints and the versions of their dependencies from the root manifest.

use std::fs;

use super::manifest::{self, Entry};
use super::{member_folders, metadata, verdict};
use crate::workspace::Workspace;

/// Package fields that no member writes down itself.
const INHERITED: [&str; 4] = ["version", "edition", "rust-version", "license"];

/// Reads every member's manifest.
pub(super) fn check(workspace: &Workspace) -> Result<(), String> {
    let mut found = Vec::new();
    for folder in member_folders(&metadata(workspace)?) {
        let path = folder.join("Cargo.toml");
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let shown = path.strip_prefix(workspace.root()).unwrap_or(&path).display().to_string();
        found
            .extend(violations(&manifest::entries(&text)).into_iter().map(|what| format!("{shown}: {what}")));
    }
    verdict(found, "write `x.workspace = true` and keep the value in the root Cargo.toml")
}

/// What a member's manifest does not inherit.
fn violations(entries: &[Entry]) -> Vec<String> {
    let inherits = |table: &str, field: &str| {
        entries.iter().any(|e| e.table == table && e.key == format!("{field}.workspace") && e.value == "true")
    };
    let mut found: Vec<String> = INHERITED
        .iter()
        .filter(|field| !inherits("package", field))
        .map(|field| format!("`{field}` is not inherited"))
        .collect();
    if !entries.iter().any(|e| e.table == "lints" && e.key == "workspace" && e.value == "true") {
        found.push("the lints are not inherited".to_owned());
    }
    for entry in entries.iter().filter(|e| is_dependency_table(&e.table)) {
        let dotted = entry.key.ends_with(".workspace") && entry.value == "true";
        let inline = entry.value.replace(' ', "").contains("workspace=true");
        if !dotted && !inline {
            found.push(format!("dependency `{}` is not inherited", entry.key));
        }
    }
    // The long form, `[dependencies.name]`, is not used here: one way to write a dependency is enough.
    let mut long: Vec<&str> = entries
        .iter()
        .map(|e| e.table.as_str())
        .filter(|table| {
            let head = table.rsplit_once('.').map_or("", |(head, _)| head);
            is_dependency_table(head)
        })
        .collect();
    long.dedup();
    found.extend(long.into_iter().map(|table| format!("write [{table}] as one line")));
    found
}

fn is_dependency_table(table: &str) -> bool {
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let name = if table.starts_with("target.") { table.rsplit('.').next().unwrap_or("") } else { table };
    kinds.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[package]\nname = \"a\"\nversion.workspace = true\nedition.workspace = true\n\
                        rust-version.workspace = true\nlicense.workspace = true\n[lints]\nworkspace = true\n\
                        [dependencies]\nbytes.workspace = true\nzstd = { workspace = true, optional = true }\n";

    #[test]
    fn a_manifest_that_inherits_passes() {
        assert_eq!(violations(&manifest::entries(GOOD)), Vec::<String>::new());
    }

    #[test]
    fn every_own_value_is_named() {
        let text = GOOD
            .replace("edition.workspace = true", "edition = \"2021\"")
            .replace("[lints]\nworkspace = true\n", "")
            + "rand = \"0.9\"\n[target.'cfg(unix)'.dev-dependencies]\nlibc = { version = \"0.2\" }\n\
               [dependencies.serde]\nversion = \"1\"\n";
        assert_eq!(
            violations(&manifest::entries(&text)),
            [
                "`edition` is not inherited",
                "the lints are not inherited",
                "dependency `rand` is not inherited",
                "dependency `libc` is not inherited",
                "write [dependencies.serde] as one line",
            ]
        );
    }
}
