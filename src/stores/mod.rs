//! Stores of ledgers: in memory, or in a SQLite file.
//!
//! A store has one operation that matters: `QuotaStore::update` runs a pure closure over some ledgers in one atomic
//! change. `memory` keeps ledgers in a table under one mutex. `sqlite` is the default.
//!
//! A file that is damaged, foreign, read-only, on a full disk, or written by a newer version is a `StateError` that
//! says what to do. The file is not touched, and nothing is sent. When only the settling of an answer cannot be
//! written, the answer is delivered, the reservation stays counted, and a warning is logged.

mod answers;
mod error;
mod forks;
mod ledger_table;
mod memory;
mod sqlite;
mod store;

pub use error::{StoreError, StoreTrouble};
pub use forks::{ForkSafeStore, after_fork, before_fork};
pub use memory::MemoryStore;
pub use sqlite::SqliteStore;
pub use store::{KeptAnswer, QuotaStore};
