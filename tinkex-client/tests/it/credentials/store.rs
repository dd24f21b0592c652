//! The file of stored keys (PROTOCOL 3.3).

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use secrecy::ExposeSecret as _;
use tinkex_client::{CredentialStore, CredentialStoreError, KeyDetails, StoredKey};

use super::vectors;

fn details() -> KeyDetails {
    KeyDetails { organization: "Org".to_owned(), email: "u@example.com".to_owned() }
}

/// The store of the vectors.
fn recorded(path: &Path) -> CredentialStore {
    let mut store = CredentialStore::load(path).unwrap();
    store.add("id-1", StoredKey::manual("tml-1", "laptop").note("n").details(details()));
    store.add("id-2", StoredKey::generated("tml-2", "cli", details()));
    store.add("id-3", StoredKey::manual("tml-3", "bare"));
    store.set_default("id-2").unwrap();
    store
}

/// `vectors/credentials`, `credentials_file`: the text, to the byte, before and after the default is removed.
#[test]
fn the_text_is_the_recorded_one() {
    let vectors = vectors();
    let file = &vectors["credentials_file"];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credentials.json");
    let mut store = recorded(&path);
    store.save().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), file["written_text"].as_str().unwrap());
    let removed = store.remove("id-2").unwrap();
    assert!(removed.is_generated() && removed.owner() == Some(&details()));
    assert_eq!((store.default_id(), store.keys().count()), (None, 2));
    store.save().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), file["after_deleting_default"].as_str().unwrap());
}

/// What is read, and what is malformed. A missing file is an empty store, an empty file is not.
#[test]
fn every_form() {
    let vectors = vectors();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credentials.json");
    assert_eq!(CredentialStore::load(&path).unwrap().keys().count(), 0);
    for case in vectors["credentials_file"]["parse_cases"].as_array().unwrap() {
        fs::write(&path, case["content"].as_str().unwrap()).unwrap();
        match (case["result"].get("default_key"), CredentialStore::load(&path)) {
            (Some(key), Ok(store)) => {
                let found = store.default_key().map(|key| key.key().expose_secret());
                assert_eq!(found, key.as_str(), "{case}");
                assert_eq!(store.default_id().is_some(), found.is_some(), "{case}");
            }
            (None, Err(CredentialStoreError::Malformed { path: named, .. })) => assert_eq!(named, path),
            (_, outcome) => panic!("{case}: {outcome:?}"),
        }
    }
}

/// Neither errors nor Debug quote the file: a key may stand where it does not belong.
#[test]
fn a_key_in_the_wrong_place_is_not_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credentials.json");
    for text in [
        r#"{"version": "tml-secret"}"#,
        r#"{"keys": "tml-secret"}"#,
        r#"{"keys": {"a": "tml-secret"}}"#,
        r#"{"keys": {"a": {"type": "tml-secret"}}}"#,
        r#""tml-secret""#,
        "tml-secret",
    ] {
        fs::write(&path, text).unwrap();
        let error = CredentialStore::load(&path).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("credentials.json") && !shown.contains("tml-secret"), "{shown}");
    }
    let store = recorded(&folder.path().join("other.json"));
    assert!(!format!("{store:?}").contains("tml-"), "{store:?}");
}

/// The file is its owner's alone, and so is a directory that had to be made; whatever was there before.
#[cfg(unix)]
#[test]
fn the_modes() {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("deep").join(".tinker");
    let path = own.join("credentials.json");
    recorded(&path).save().unwrap();
    assert_eq!((mode(&path), mode(&own)), (0o600, 0o700));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
    recorded(&path).save().unwrap();
    assert_eq!((mode(&path), mode(&own)), (0o600, 0o755), "a directory that is there is left alone");
}

/// Readers see a whole file at any time while several programs write it, and no temporary file is left.
#[test]
fn writers_at_the_same_time_do_not_lose_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credentials.json");
    recorded(&path).save().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let path = &path;
            scope.spawn(move || {
                for n in 0..25 {
                    let mut store = CredentialStore::load(path).unwrap();
                    store.add(format!("w-{writer}-{n}"), StoredKey::manual("tml-w", "x".repeat(n * 40)));
                    store.save().unwrap();
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..200 {
                let store = CredentialStore::load(&path).unwrap();
                assert_eq!(store.default_id(), Some("id-2"));
            }
        });
    });
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["credentials.json"]);
}

/// A save that fails says which file, leaves nothing behind and the old file as it was.
#[test]
fn a_failed_save() {
    let folder = tempfile::tempdir().unwrap();
    let in_the_way = folder.path().join("file");
    fs::write(&in_the_way, "x").unwrap();
    let error = recorded_at_new(&in_the_way.join("credentials.json")).save().unwrap_err();
    assert!(matches!(error, CredentialStoreError::Write { .. }), "{error:?}");
    // A directory stands where the file should be: all is written, and the rename fails.
    let taken = folder.path().join("taken");
    fs::create_dir_all(taken.join("inside")).unwrap();
    let error = recorded_at_new(&taken).save().unwrap_err();
    assert!(error.to_string().contains("taken cannot be written"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    assert_eq!(fs::read_to_string(in_the_way).unwrap(), "x");
}

/// A store whose file was not there when it was loaded, saved somewhere else.
fn recorded_at_new(path: &Path) -> CredentialStore {
    let mut store = match CredentialStore::load(path) {
        Ok(store) => store,
        // Below a file, or a directory: neither is "not found" on every system.
        Err(_) => return moved(path),
    };
    store.add("a", StoredKey::manual("tml-a", "a"));
    store
}

/// A store of which the file has since been replaced by something in the way.
fn moved(path: &Path) -> CredentialStore {
    let folder = tempfile::tempdir().unwrap();
    let away = folder.path().join("away");
    let obstacle = path.ancestors().find(|part| part.exists()).unwrap().to_owned();
    fs::rename(&obstacle, &away).unwrap();
    let mut store = CredentialStore::load(path).unwrap();
    fs::rename(&away, &obstacle).unwrap();
    store.add("a", StoredKey::manual("tml-a", "a"));
    store
}

/// No default without its key.
#[test]
fn the_default_is_one_of_the_keys() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = recorded(&folder.path().join("credentials.json"));
    let error = store.set_default("id-9").unwrap_err();
    assert_eq!(error.to_string(), "there is no stored key with the id \"id-9\"");
    assert_eq!(store.default_id(), Some("id-2"));
    assert_eq!(store.get("id-1").and_then(StoredKey::note_text), Some("n"));
    let before = store.add("id-2", StoredKey::manual("tml-new", "cli")).unwrap();
    assert_eq!(before.key().expose_secret(), "tml-2");
    assert_eq!(store.default_key().map(|key| key.key().expose_secret()), Some("tml-new"));
    store.clear_default();
    assert_eq!(store.default_id(), None);
}

fn stored_key() -> impl Strategy<Value = StoredKey> {
    let details = any::<Option<(String, String)>>()
        .prop_map(|parts| parts.map(|(organization, email)| KeyDetails { organization, email }));
    (any::<bool>(), any::<String>(), any::<String>(), any::<Option<String>>(), details).prop_map(
        |(generated, key, name, note, details)| match (generated, details) {
            (true, Some(details)) => StoredKey::generated(key, name, details),
            (_, details) => {
                let key = StoredKey::manual(key, name);
                let key = note.into_iter().fold(key, StoredKey::note);
                details.into_iter().fold(key, StoredKey::details)
            }
        },
    )
}

fn as_told(key: &StoredKey) -> (String, String, Option<String>, bool, Option<KeyDetails>) {
    let text = key.key().expose_secret().to_owned();
    let note = key.note_text().map(str::to_owned);
    (text, key.name().to_owned(), note, key.is_generated(), key.owner().cloned())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is saved is loaded again.
    #[test]
    fn round_trip(
        keys in proptest::collection::btree_map(any::<String>(), stored_key(), 0..6),
        default in any::<proptest::sample::Index>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = CredentialStore::load(folder.path().join("credentials.json")).unwrap();
        for (id, key) in &keys {
            store.add(id, key.clone());
        }
        let chosen = (!keys.is_empty()).then(|| keys.keys().nth(default.index(keys.len())).unwrap());
        if let Some(id) = chosen {
            store.set_default(id).unwrap();
        }
        store.save().unwrap();
        let loaded = CredentialStore::load(store.path()).unwrap();
        prop_assert_eq!(loaded.default_id(), chosen.map(String::as_str));
        let told = |store: &CredentialStore| -> Vec<_> {
            store.keys().map(|(id, key)| (id.to_owned(), as_told(key))).collect()
        };
        prop_assert_eq!(told(&loaded), told(&store));
    }
}
