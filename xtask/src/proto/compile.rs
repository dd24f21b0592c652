//! The compiler proper: only built with the feature `proto`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::ADVICE;
use crate::workspace::Workspace;

const SCHEMA: &str = "tinkex-types/proto/tinker_public.proto";
const GENERATED: &str = "tinkex-types/src/proto/generated";

/// Compiles the schema into the source tree; with `check`, into the build folder, and compares.
pub(super) fn run(workspace: &Workspace, check: bool) -> Result<(), String> {
    let checked_in = workspace.root().join(GENERATED);
    if !check {
        compile(workspace.root(), &checked_in)?;
        println!("{GENERATED} is up to date with {SCHEMA}");
        return Ok(());
    }
    let fresh = workspace.target_dir().join("xtask-proto");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).map_err(|e| format!("{}: {e}", fresh.display()))?;
    }
    fs::create_dir_all(&fresh).map_err(|e| format!("{}: {e}", fresh.display()))?;
    compile(workspace.root(), &fresh)?;
    let (expected, found) = (files(&fresh)?, files(&checked_in)?);
    for name in expected.keys().chain(found.keys()) {
        if expected.get(name) != found.get(name) {
            return Err(format!("{GENERATED}/{name} differs from what {SCHEMA} compiles to: {ADVICE}"));
        }
    }
    Ok(())
}

/// Compiles the schema into `out`, one file per package.
fn compile(root: &Path, out: &Path) -> Result<(), String> {
    let schema = root.join(SCHEMA);
    let include = schema.parent().ok_or("the schema has no folder")?;
    let set = protox::compile([&schema], [include]).map_err(|e| format!("{e:?}"))?;
    prost_build::Config::new()
        .bytes(["."])
        .btree_map(["."])
        .out_dir(out)
        .compile_fds(set)
        .map_err(|e| e.to_string())
}

/// Name and content of every file in a folder.
fn files(folder: &Path) -> Result<BTreeMap<String, String>, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))? {
        let path = entry.map_err(|e| e.to_string())?.path();
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        found.insert(name, text);
    }
    Ok(found)
}
