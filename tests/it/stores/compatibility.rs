//! Compatibility with 0.1.0: a state file that it wrote is read without loss.

use std::path::Path;

use quotaflow::kernel::{Ledger, Ledgers};
use quotaflow::stores::{QuotaStore, SqliteStore};

/// A copy of the state file, in a folder of its own.
fn copied() -> (tempfile::TempDir, std::path::PathBuf) {
    let written =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compatibility/0.1.0/state.sqlite");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.sqlite");
    std::fs::copy(written, &path).unwrap();
    (folder, path)
}

fn rows(path: &Path) -> Vec<(String, String)> {
    let connection = rusqlite::Connection::open(path).unwrap();
    let mut rows = connection.prepare("SELECT name, state FROM ledgers ORDER BY name").unwrap();
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn every_ledger_is_written_again_as_it_was() {
    let (_folder, path) = copied();
    let rows = rows(&path);
    assert!(rows.len() > 10, "{}", rows.len());
    for (name, state) in rows {
        let ledger: Ledger = serde_json::from_str(&state).unwrap();
        assert_eq!(serde_json::to_string(&ledger).unwrap(), state, "{name}");
    }
}

#[test]
fn the_store_lists_and_finds_every_ledger() {
    let (_folder, path) = copied();
    let names: Vec<String> = rows(&path).into_iter().map(|(name, _)| name).collect();
    let store = SqliteStore::open(&path, "another salt").unwrap();
    let ids = store.ids().unwrap();
    let mut listed: Vec<String> = ids.iter().map(|id| id.as_str().to_owned()).collect();
    listed.sort();
    assert_eq!(listed, names);
    assert_ne!(store.salt(), "another salt", "the file's salt names its keys");
    let mut sent = 0;
    let mut act = |ledgers: &mut Ledgers<'_>| {
        sent = (0..ids.len()).map(|place| ledgers.get(place).totals().sent).sum();
    };
    store.update(&ids, &mut act).unwrap();
    assert!(sent >= 20, "{sent}");
}
