//! Foreign, damaged or too new state files: left as they are, and named.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quotaflow::stores::{SqliteStore, StoreError, StoreTrouble};
use rusqlite::Connection;

use crate::stores::{a_day, id, look, sent, sqlite, take, used};

/// Every file of a folder with its content.
fn everything_in(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Opens a file that must be refused and checks that the refusal changed nothing and is worth reading.
fn refused(file: &Path, trouble: StoreTrouble, words: &str, hint: &str) {
    let before = everything_in(file.parent().unwrap());
    let Err(error) = SqliteStore::open(file, "salt") else { panic!("{words}: it was opened") };
    assert_is(&error, trouble, file, words, hint);
    assert!(before == everything_in(file.parent().unwrap()), "{words}: files were changed");
}

fn assert_is(error: &StoreError, trouble: StoreTrouble, file: &Path, words: &str, hint: &str) {
    let text = error.to_string();
    assert_eq!(error.trouble, trouble, "{text}");
    assert!(text.starts_with(&format!("the state file {} ", file.display())), "{text}");
    assert!(text.contains(words), "{text}");
    assert!(error.hint().contains(hint), "{}", error.hint());
}

const DAMAGED: &str = "is damaged or is not a quotaflow state file";

/// A folder with a state file in which one request is counted.
fn real_state() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.db");
    assert!(take(&*sqlite(&file), "group", &a_day(10)).unwrap());
    (folder, file)
}

#[test]
fn what_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.db");
    let random: Vec<u8> =
        (0..20_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let text = b"quota: none of this is a database\n".repeat(40);
    for content in [&random[..], &random[..1], &random[..99], &text, &[0; 8_192]] {
        std::fs::write(&file, content).unwrap();
        refused(&file, StoreTrouble::Corrupt, DAMAGED, "move the file away");
    }
}

#[test]
fn an_empty_file_is_a_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.db");
    std::fs::write(&file, b"").unwrap();
    assert!(take(&*sqlite(&file), "group", &a_day(1)).unwrap());
    assert_eq!(sent(&*sqlite(&file), "group"), 1);
}

#[test]
fn a_file_that_was_cut_off_is_refused_wherever_it_was_cut() {
    let (folder, file) = real_state();
    let whole = std::fs::read(&file).unwrap();
    assert!(whole.len() >= 3 * 4_096, "{} bytes", whole.len());
    for length in [1, 15, 16, 18, 99, 100, 511, 512, 4_095, 4_096, 4_097, whole.len() - 4_096] {
        std::fs::write(&file, &whole[..length]).unwrap();
        refused(&file, StoreTrouble::Corrupt, DAMAGED, "move the file away");
    }
    std::fs::write(&file, &whole).unwrap();
    assert_eq!(sent(&*sqlite(&file), "group"), 1);
    drop(folder);
}

#[test]
fn a_damaged_page_is_noticed_when_it_is_read() {
    let (_folder, file) = real_state();
    let mut content = std::fs::read(&file).unwrap();
    content[4_096..].fill(0xA5);
    std::fs::write(&file, &content).unwrap();
    refused(&file, StoreTrouble::Corrupt, DAMAGED, "move the file away");
}

#[test]
fn a_damaged_ledger_is_said_and_kept_and_the_others_serve() {
    let (_folder, file) = real_state();
    let store = sqlite(&file);
    assert!(take(&*store, "other", &a_day(10)).unwrap());
    let raw = Connection::open(&file).unwrap();
    let state: String = raw
        .query_row("SELECT state FROM ledgers WHERE name = ?1", [id("group").as_str()], |row| {
            row.get(0)
        })
        .unwrap();
    let write = |text: &str| {
        let name = id("group");
        raw.execute("UPDATE ledgers SET state = ?2 WHERE name = ?1", [name.as_str(), text]).unwrap()
    };
    write("{\"meters\": 7}");
    let error = take(&*store, "group", &a_day(10)).unwrap_err();
    assert_is(&error, StoreTrouble::Corrupt, &file, DAMAGED, "move the file away");
    assert!(take(&*store, "other", &a_day(10)).unwrap());
    // An update that names both changes neither.
    let both = store.update(&[id("other"), id("group")], &mut |ledgers| {
        ledgers.get_mut(0).join("lost");
    });
    assert_eq!(both.unwrap_err().trouble, StoreTrouble::Corrupt);
    assert_eq!(look(&*store, "other", |ledger| ledger.member_of().map(str::to_owned)), None);
    write(&state);
    assert_eq!(used(&*store, "group", &a_day(10)), [1]);
}

#[test]
fn a_call_that_ends_while_its_ledger_cannot_be_read_has_ended() {
    let (_folder, file) = real_state();
    let store = sqlite(&file);
    let raw = Connection::open(&file).unwrap();
    for name in ["group", "group", "other"] {
        assert!(take(&*store, name, &a_day(10)).unwrap());
    }
    raw.execute_batch("CREATE TABLE kept AS SELECT * FROM ledgers; UPDATE ledgers SET state = ''")
        .unwrap();
    let settled =
        store.update(&[id("group")], &mut |ledgers| ledgers.get_mut(0).ended(crate::stores::NOW));
    assert_eq!(settled.unwrap_err().trouble, StoreTrouble::Corrupt);
    assert!(take(&*store, "group", &a_day(10)).is_err());
    raw.execute_batch("DELETE FROM ledgers; INSERT INTO ledgers SELECT * FROM kept").unwrap();
    let in_flight = |name| look(&*store, name, |ledger| ledger.in_flight());
    assert_eq!((in_flight("group"), in_flight("other")), (1, 1));
    assert_eq!(used(&*store, "group", &a_day(10)), [3]);
}

#[test]
fn a_file_of_a_newer_quotaflow_is_left_to_it() {
    let (_folder, file) = real_state();
    Connection::open(&file).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    let newer = "was written by a newer quotaflow (its schema is 99, this version knows 2)";
    refused(&file, StoreTrouble::NewerSchema, newer, "upgrade quotaflow");
    Connection::open(&file).unwrap().execute_batch("PRAGMA user_version = 1").unwrap();
    assert_eq!(sent(&*sqlite(&file), "group"), 1);
}

#[test]
fn the_database_of_another_program_is_left_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.db");
    let theirs = "CREATE TABLE facts (name TEXT, value TEXT); INSERT INTO facts VALUES ('a', 'b')";
    Connection::open(&file).unwrap().execute_batch(theirs).unwrap();
    refused(&file, StoreTrouble::Corrupt, "belongs to another program", "move the file away");
}

#[test]
fn what_is_no_file_cannot_be_opened() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    std::fs::write(&file, "text").unwrap();
    for place in [folder.path().to_owned(), file.join("state.db")] {
        let Err(error) = SqliteStore::open(&place, "salt") else { panic!("it became a file") };
        let hint = "choose another file";
        assert_is(&error, StoreTrouble::CannotOpen, &place, "cannot be opened", hint);
    }
    assert_eq!(everything_in(folder.path()).len(), 1);
}
