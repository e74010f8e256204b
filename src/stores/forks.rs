//! Fork safety of an open state file.
//!
//! SQLite keeps half of its locks in the memory of the process. A child that inherits a connection believes in locks
//! that only its parent holds, and the first to close it removes the log that the other still uses. So no file is open at
//! the instant of a fork: who forks says so before and after, and each process opens the file again when it needs it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::{Condvar, Mutex, RwLock};

use super::error::StoreError;
use super::sqlite::SqliteStore;
use super::store::{KeptAnswer, QuotaStore};
use crate::kernel::{Ledger, LedgerId, Ledgers, Moment};

/// A [`SqliteStore`] that is closed while the process forks.
pub struct ForkSafeStore {
    file: Arc<File>,
    salt: String,
}

struct File {
    path: PathBuf,
    opened: RwLock<Opened>,
}

#[derive(Default)]
struct Opened {
    store: Option<SqliteStore>,
    /// The ledgers that had calls in flight when it was closed: those are known to this process only.
    in_flight: Vec<(LedgerId, Ledger)>,
}

/// The open files of one process. A child of a fork makes its own: what its parent's threads held stays held.
struct OfProcess {
    process: u32,
    gate: Mutex<Gate>,
    opens: Condvar,
}

#[derive(Default)]
struct Gate {
    forks: u32,
    files: Vec<Weak<File>>,
}

static FILES: ArcSwapOption<OfProcess> = ArcSwapOption::const_empty();

/// A fork takes milliseconds, and seconds on a machine that has too much to do: a thread that opens the file before it is over
/// gives the child locks that are none. One that was never said to be over must not stop everything for ever.
const LONGEST_FORK: Duration = Duration::from_secs(60);

fn of_this_process() -> Arc<OfProcess> {
    let process = std::process::id();
    loop {
        let known = FILES.load_full();
        if let Some(known) = known.as_ref().filter(|known| known.process == process) {
            return known.clone();
        }
        let made = OfProcess { process, gate: Mutex::default(), opens: Condvar::new() };
        let before = FILES.compare_and_swap(&known, Some(Arc::new(made)));
        // Files of a parent are never touched, not even to drop them.
        std::mem::forget(known);
        std::mem::forget(arc_swap::Guard::into_inner(before));
    }
}

/// Closes every state file of this process, and keeps it closed until [`after_fork`]. Call it right before a fork.
pub fn before_fork() {
    let files = of_this_process();
    let mut gate = files.gate.lock();
    gate.forks += 1;
    gate.files.retain(|file| file.strong_count() > 0);
    gate.files.iter().filter_map(Weak::upgrade).for_each(|file| file.close());
}

/// The fork is over. Call it in the parent; in the child there is nothing to do.
pub fn after_fork() {
    let files = of_this_process();
    let mut gate = files.gate.lock();
    gate.forks = gate.forks.saturating_sub(1);
    files.opens.notify_all();
}

impl ForkSafeStore {
    /// Opens the file as [`SqliteStore::open`] does.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub fn open(path: &Path, salt: &str) -> Result<Self, StoreError> {
        let file = Arc::new(File { path: path.to_owned(), opened: RwLock::default() });
        // A fork must find it from the instant on at which it is open.
        of_this_process().gate.lock().files.push(Arc::downgrade(&file));
        let salt = loop {
            file.open(salt)?;
            // A fork may have closed it again.
            if let Some(store) = &file.opened.read().store {
                break store.salt().to_owned();
            }
        };
        Ok(ForkSafeStore { file, salt })
    }

    fn with_open<T>(
        &self,
        work: impl FnOnce(&SqliteStore) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        loop {
            if let Some(store) = &self.file.opened.read().store {
                return work(store);
            }
            self.file.open(&self.salt)?;
        }
    }
}

impl File {
    /// Opens it once no fork is under way; none begins before it is open.
    fn open(&self, salt: &str) -> Result<(), StoreError> {
        let files = of_this_process();
        let mut gate = files.gate.lock();
        while gate.forks > 0 {
            if files.opens.wait_for(&mut gate, LONGEST_FORK).timed_out() {
                gate.forks = 0;
            }
        }
        let mut opened = self.opened.write();
        if opened.store.is_none() {
            let store = SqliteStore::open(&self.path, salt)?;
            let ids: Vec<LedgerId> = opened.in_flight.iter().map(|(id, _)| id.clone()).collect();
            let mut kept = std::mem::take(&mut opened.in_flight).into_iter().enumerate();
            if !ids.is_empty() {
                store.update(&ids, &mut |ledgers| {
                    kept.by_ref().for_each(|(place, (_, kept))| {
                        ledgers.get_mut(place).keep_local(kept);
                    });
                })?;
            }
            opened.store = Some(store);
        }
        Ok(())
    }

    fn close(&self) {
        let mut opened = self.opened.write();
        let Some(store) = opened.store.take() else { return };
        let ids = store.ids().unwrap_or_default();
        let mut kept = Vec::new();
        // A file that cannot be read now says so when it is opened again.
        let _ = store.update(&ids, &mut |ledgers| {
            let of_place = |(place, id): (usize, &LedgerId)| {
                let ledger = ledgers.get(place);
                (ledger.in_flight() > 0).then(|| (id.clone(), ledger.clone()))
            };
            kept = ids.iter().enumerate().filter_map(of_place).collect();
        });
        opened.in_flight = kept;
    }
}

impl QuotaStore for ForkSafeStore {
    fn update(
        &self,
        ids: &[LedgerId],
        act: &mut dyn FnMut(&mut Ledgers<'_>),
    ) -> Result<(), StoreError> {
        self.with_open(|store| store.update(ids, act))
    }

    fn ids(&self) -> Result<Vec<LedgerId>, StoreError> {
        self.with_open(SqliteStore::ids)
    }

    fn salt(&self) -> &str {
        &self.salt
    }

    fn answer(&self, name: &[u8], since: Moment) -> Result<Option<Vec<u8>>, StoreError> {
        self.with_open(|store| store.answer(name, since))
    }

    fn keep_answer(&self, kept: &KeptAnswer<'_>, most_bytes: u64) -> Result<(), StoreError> {
        self.with_open(|store| store.keep_answer(kept, most_bytes))
    }

    fn forget_answers(&self, name: Option<&[u8]>) -> Result<u64, StoreError> {
        self.with_open(|store| store.forget_answers(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Amounts, AnswerCharged, Moment};

    #[test]
    fn a_fork_forgets_neither_counts_nor_calls_in_flight() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.sqlite");
        let store = ForkSafeStore::open(&path, "salt").unwrap();
        let id = [LedgerId::new("openai", "key-1", "*")];
        let begin = &mut |ledgers: &mut Ledgers<'_>| {
            let ledger = ledgers.get_mut(0);
            ledger.join("org-a");
            ledger.take(&Amounts::default(), AnswerCharged::AtOnce, Moment::EPOCH);
        };
        store.update(&id, begin).unwrap();
        before_fork();
        assert!(!path.with_extension("sqlite-wal").exists(), "the file is still open");
        after_fork();
        let mut seen = None;
        let look = &mut |ledgers: &mut Ledgers<'_>| {
            seen =
                Some((ledgers.get(0).in_flight(), ledgers.get(0).member_of().map(str::to_owned)));
        };
        store.update(&id, look).unwrap();
        assert_eq!(seen, Some((1, Some("org-a".to_owned()))));
        assert_eq!(store.ids().unwrap(), id);
    }

    #[test]
    fn a_thread_that_needs_the_file_waits_for_the_end_of_the_fork() {
        let folder = tempfile::tempdir().unwrap();
        let store = ForkSafeStore::open(&folder.path().join("state.sqlite"), "salt").unwrap();
        before_fork();
        std::thread::scope(|scope| {
            let needs = scope.spawn(|| store.ids());
            after_fork();
            assert_eq!(needs.join().unwrap().unwrap(), []);
        });
    }

    #[test]
    fn no_file_is_open_at_a_fork_that_was_just_being_opened() {
        let folder = tempfile::tempdir().unwrap();
        let log = |number: u32| folder.path().join(format!("{number}.sqlite-wal"));
        std::thread::scope(|scope| {
            let opens = scope.spawn(|| {
                let open = |number| {
                    let path = folder.path().join(format!("{number}.sqlite"));
                    ForkSafeStore::open(&path, &format!("salt of {number}")).unwrap()
                };
                (0..150).map(open).collect::<Vec<_>>()
            });
            while !opens.is_finished() {
                before_fork();
                let open: Vec<u32> = (0..150).filter(|number| log(*number).exists()).collect();
                after_fork();
                assert!(open.is_empty(), "{open:?}");
            }
            for (number, store) in opens.join().unwrap().iter().enumerate() {
                assert_eq!(store.salt(), format!("salt of {number}"));
            }
        });
    }
}
