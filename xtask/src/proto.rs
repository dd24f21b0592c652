//! Compiles the protobuf schema into checked-in Rust code (`cargo xtask proto`).

use std::path::Path;

const SCHEMA: &str = "tinkex-types/proto/tinker_public.proto";
const GENERATED: &str = "tinkex-types/src/proto/generated";

/// Compiles the schema into `out`, one file per package.
pub(crate) fn compile(root: &Path, out: &Path) -> Result<(), String> {
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

/// Where the checked-in code stands.
pub(crate) fn checked_in(root: &Path) -> std::path::PathBuf {
    root.join(GENERATED)
}
