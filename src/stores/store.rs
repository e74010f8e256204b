//! The trait of a store: one atomic update of ledgers, and kept answers.

use crate::kernel::{LedgerId, Ledgers, Moment};

use super::error::StoreError;

/// Remembers ledgers and changes them atomically.
pub trait QuotaStore: Send + Sync {
    /// Runs `act` on the ledgers named by `ids`, in their order; missing ones are empty. No other thread, in this process
    /// or another one, sees or changes them until it returns. When this returns `Ok` the change survives the process.
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
    pub(super) fn bytes(&self) -> u64 {
        const AROUND: usize = 64;
        (self.name.len() + self.answer.len() + AROUND) as u64
    }
}
