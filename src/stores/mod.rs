//! The ring that remembers ledgers. A store never knows a rule: it has one method that takes a pure closure.

mod answers;
mod forks;
mod ledger_table;
mod memory;
mod sqlite;

use std::fmt;
use std::path::PathBuf;

pub use forks::{ForkSafeStore, after_fork, before_fork};
pub use memory::MemoryStore;
pub use sqlite::SqliteStore;

use crate::kernel::{LedgerId, Ledgers, Moment};

/// Remembers ledgers and changes them atomically.
pub trait QuotaStore: Send + Sync {
    /// Runs `act` on the ledgers named by `ids`, in their order; missing ones are empty. Nobody else, in this process
    /// or another one, sees or changes them meanwhile. When this returns `Ok` the change survives the process.
    ///
    /// # Errors
    /// [`StoreError`]: nothing was changed, but for calls in flight that `act` ended: they have ended for this process.
    fn update(
        &self,
        ids: &[LedgerId],
        act: &mut dyn FnMut(&mut Ledgers<'_>),
    ) -> Result<(), StoreError>;

    /// Every ledger that something was ever written to, in order of name.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read.
    fn ids(&self) -> Result<Vec<LedgerId>, StoreError>;

    /// What keys are named with in this store: their digest depends on it.
    fn salt(&self) -> &str;

    /// The answer that was kept under `name`, at `since` or later. A store that keeps none has none.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    fn answer(&self, name: &[u8], since: Moment) -> Result<Option<Vec<u8>>, StoreError> {
        let _ = (name, since);
        Ok(None)
    }

    /// Keeps an answer in place of one that has the same name; the oldest ones go when there would be more than
    /// `most_bytes` of them. One that is larger than that by itself is not kept, and none goes for it.
    ///
    /// # Errors
    /// [`StoreError`]: nothing was kept and none went.
    fn keep_answer(&self, kept: &KeptAnswer<'_>, most_bytes: u64) -> Result<(), StoreError> {
        let _ = (kept, most_bytes);
        Ok(())
    }

    /// Forgets the answer that was kept under `name`, all of them when it is `None`. Says how many.
    ///
    /// # Errors
    /// [`StoreError`]: none was forgotten.
    fn forget_answers(&self, name: Option<&[u8]>) -> Result<u64, StoreError> {
        let _ = name;
        Ok(0)
    }
}

/// An answer to be kept.
#[derive(Clone, Copy, Debug)]
pub struct KeptAnswer<'a> {
    /// What was asked, as a digest.
    pub name: &'a [u8],
    /// The answer.
    pub answer: &'a [u8],
    /// When it came.
    pub at: Moment,
}

impl KeptAnswer<'_> {
    /// What it counts: itself, its name, and about as much again as a database needs around them.
    fn bytes(&self) -> u64 {
        const AROUND: usize = 64;
        (self.name.len() + self.answer.len() + AROUND) as u64
    }
}

/// What is wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreTrouble {
    /// It cannot be opened or created.
    CannotOpen,
    /// It cannot be written.
    ReadOnly,
    /// It is not a state file, or a damaged one.
    Corrupt,
    /// A newer quotaflow wrote it.
    NewerSchema,
    /// The disk is full.
    DiskFull,
    /// Another process held it for too long.
    Busy,
    /// Something else the database said.
    Other,
}

/// A store that could not do its work. Nothing was lost: what is in the file stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    /// What is wrong.
    pub trouble: StoreTrouble,
    /// The file, if there is one.
    pub path: Option<PathBuf>,
    /// The database's words.
    pub detail: String,
}

impl StoreError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self.trouble {
            StoreTrouble::CannotOpen => {
                "create the folder, or choose another file with state=\"path\" or state=\"memory\""
            }
            StoreTrouble::ReadOnly => {
                "make the file, its -wal and -shm beside it and the folder writable, or choose another with state=\"path\""
            }
            StoreTrouble::Corrupt => {
                "move the file away to begin anew, or restore it; it was not touched"
            }
            StoreTrouble::NewerSchema => {
                "upgrade quotaflow, or choose another file with state=\"path\"; it was not touched"
            }
            StoreTrouble::DiskFull => "free some space; what was counted so far is kept",
            StoreTrouble::Busy => {
                "look for a process that holds the state file, or give each its own"
            }
            StoreTrouble::Other => {
                "see the database's words; state=\"memory\" works without a file"
            }
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.trouble {
            StoreTrouble::CannotOpen => "cannot be opened",
            StoreTrouble::ReadOnly => "cannot be written",
            StoreTrouble::Corrupt => "is damaged or is not a quotaflow state file",
            StoreTrouble::NewerSchema => "was written by a newer quotaflow",
            StoreTrouble::DiskFull => "is on a full disk",
            StoreTrouble::Busy => "was held by another process for too long",
            StoreTrouble::Other => "failed",
        };
        match &self.path {
            Some(path) => write!(f, "the state file {} {what}", path.display())?,
            None => write!(f, "the state {what}")?,
        }
        write!(f, " ({})", self.detail)
    }
}

impl std::error::Error for StoreError {}
