//! The errors of a store, each with a hint.

use std::fmt;
use std::path::PathBuf;

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
