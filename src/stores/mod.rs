//! Stores of ledgers: in memory, or in a SQLite file.

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
