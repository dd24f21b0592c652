//! The fixtures are what was recorded.

use std::fs;
use std::path::{Path, PathBuf};

/// The originals, where they lie beside the repository or beside the folder of its working trees.
fn originals() -> Option<PathBuf> {
    let up = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().skip(2).take(3);
    up.map(|parent| parent.join("shared/protocol")).find(|folder| folder.is_dir())
}

/// The copies are their originals. Silent where the originals are not at hand.
#[test]
fn copies_have_not_drifted() {
    let Some(originals) = originals() else { return };
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")).unwrap() {
        let copy = entry.unwrap().path();
        let name = copy.file_name().unwrap().to_str().unwrap();
        if name == "README.md" {
            continue;
        }
        let original = match name.strip_prefix("classic_") {
            Some(name) => originals.join("golden/classic_0_7_0").join(name),
            None => {
                let parts = ["golden/scenarios", "golden/vectors", "golden-rest"];
                let places = parts.map(|part| originals.join(part).join(name));
                places
                    .into_iter()
                    .find(|file| file.is_file())
                    .unwrap_or_else(|| panic!("{name}: no original"))
            }
        };
        assert!(fs::read(&copy).unwrap() == fs::read(original).unwrap(), "{name} differs from its original");
    }
}
