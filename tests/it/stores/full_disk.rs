//! Full disks: nothing counted is lost, at whichever write they fill up.
//!
//! SQLite lets its system calls be replaced, as its own tests do. Here each write of a thread whose disk is full goes to
//! `/dev/full` instead, so that the kernel itself answers ENOSPC.

#![allow(unsafe_code, reason = "SQLite takes replacements of its system calls through C only")]

use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::OnceLock;

use quotaflow::stores::{QuotaStore, SqliteStore, StoreError, StoreTrouble};
use rusqlite::ffi::{self, sqlite3_syscall_ptr};

use crate::stores::{a_day, id, look, sent, sqlite, take, used};

thread_local! {
    /// How many more writes of this thread find room.
    static ROOM: Cell<Option<u32>> = const { Cell::new(None) };
}

type Write = unsafe extern "C" fn(c_int, *const c_void, usize, i64) -> isize;

struct Calls {
    write: Write,
    full: File,
}

static CALLS: OnceLock<Calls> = OnceLock::new();

unsafe extern "C" fn write_if_there_is_room(
    file: c_int,
    data: *const c_void,
    length: usize,
    at: i64,
) -> isize {
    let calls = CALLS.get().expect("replaced before it is called");
    let room = ROOM.get();
    ROOM.set(room.map(|left| left.saturating_sub(1)));
    let file = if room == Some(0) { calls.full.as_raw_fd() } else { file };
    // SAFETY: the arguments are SQLite's own for this very call; only the file may be another open one.
    unsafe { (calls.write)(file, data, length, at) }
}

/// Puts the replacement in place, once for the process; threads with a disk that is not full do not notice.
fn replace_writes() {
    CALLS.get_or_init(|| {
        // SAFETY: the default VFS lives as long as the process; `write_if_there_is_room` has the type of `pwrite`, under
        // either of the names SQLite knows it by (both take a 64-bit offset on Linux with large files).
        unsafe {
            let vfs = ffi::sqlite3_vfs_find(std::ptr::null());
            let (get, set) = ((*vfs).xGetSystemCall.unwrap(), (*vfs).xSetSystemCall.unwrap());
            let found = [c"pwrite64", c"pwrite"]
                .into_iter()
                .find_map(|name: &CStr| Some((name, get(vfs, name.as_ptr())?)));
            let (name, write) = found.expect("SQLite writes with pwrite");
            let replacement: sqlite3_syscall_ptr =
                Some(std::mem::transmute::<Write, unsafe extern "C" fn()>(write_if_there_is_room));
            let calls = Calls {
                write: std::mem::transmute::<unsafe extern "C" fn(), Write>(write),
                full: File::options().write(true).open("/dev/full").unwrap(),
            };
            let replaced = set(vfs, name.as_ptr(), replacement);
            assert_eq!(replaced, ffi::SQLITE_OK);
            calls
        }
    });
}

/// Runs `act` on a disk with room for so many writes.
fn with_room<T>(writes: u32, act: impl FnOnce() -> T) -> T {
    replace_writes();
    ROOM.set(Some(writes));
    let outcome = act();
    ROOM.set(None);
    outcome
}

fn assert_full(error: &StoreError, file: &Path) {
    let text = error.to_string();
    assert_eq!(error.trouble, StoreTrouble::DiskFull, "{text}");
    assert!(text.starts_with(&format!("the state file {} is on a full disk", file.display())));
    assert_eq!(error.hint(), "free some space; what was counted so far is kept");
}

#[test]
fn at_whichever_write_the_disk_becomes_full_the_counts_stay_right() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.db");
    let (store, allowed) = (sqlite(&file), a_day(1_000));
    let mut granted = 0;
    let mut refused = 0;
    let in_flight = |store: &dyn QuotaStore| look(store, "group", |ledger| ledger.in_flight());
    for room in 0..30 {
        assert!(take(&*store, "group", &allowed).unwrap());
        granted += 1;
        let outcome = with_room(room, || take(&*store, "group", &allowed));
        match outcome {
            Ok(taken) => granted += u64::from(taken),
            Err(error) => {
                assert_full(&error, &file);
                refused += 1;
            }
        }
        assert_eq!((sent(&*store, "group"), in_flight(&*store)), (granted, granted));
        assert_eq!(used(&*store, "group", &allowed), [granted]);
        // What another process sees is the same.
        assert_eq!(sent(&*sqlite(&file), "group"), granted);
    }
    assert!((2..30).contains(&refused), "{refused} of 30");
}

#[test]
fn a_call_that_ends_on_a_full_disk_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let store = sqlite(&folder.path().join("state.db"));
    let allowed = a_day(1_000);
    for _ in 0..3 {
        assert!(take(&*store, "group", &allowed).unwrap());
    }
    let settle = || {
        store.update(&[id("group")], &mut |ledgers| {
            ledgers.get_mut(0).ended(crate::stores::NOW);
            ledgers.get_mut(0).record_output_size(10, None);
        })
    };
    let settled = with_room(0, settle);
    assert_eq!(settled.unwrap_err().trouble, StoreTrouble::DiskFull);
    assert_eq!(look(&*store, "group", |ledger| ledger.in_flight()), 2);
    assert_eq!((sent(&*store, "group"), used(&*store, "group", &allowed)), (3, vec![3]));
}

#[test]
fn a_file_that_could_not_be_begun_can_be_begun_later() {
    let folder = tempfile::tempdir().unwrap();
    let mut refused = 0;
    for room in 0..60 {
        let file = folder.path().join(format!("{room}.db"));
        let opened = with_room(room, || SqliteStore::open(&file, "first"));
        match opened {
            Ok(store) => assert_eq!(store.salt(), "first"),
            Err(error) => {
                assert_full(&error, &file);
                refused += 1;
            }
        }
        let store = sqlite(&file);
        assert!(take(&*store, "group", &a_day(1)).unwrap());
        assert_eq!(sent(&*store, "group"), 1);
    }
    assert!((2..60).contains(&refused), "{refused} of 60");
}

#[test]
fn opening_on_a_full_disk_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.db");
    assert!(take(&*sqlite(&file), "group", &a_day(10)).unwrap());
    for room in 0..30 {
        let opened = with_room(room, || SqliteStore::open(&file, "other").map(drop));
        if let Err(error) = opened {
            assert_full(&error, &file);
        }
        assert_eq!(used(&*sqlite(&file), "group", &a_day(10)), [1], "room for {room}");
    }
}
