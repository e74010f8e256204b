//! Ledgers that live as long as the process.

use parking_lot::Mutex;

use super::answers::Answers;
use super::error::StoreError;
use super::ledger_table::LedgerTable;
use super::store::{KeptAnswer, QuotaStore};
use crate::kernel::{LedgerId, Ledgers, Moment};

/// Remembers in memory: for tests and throw-away use (`state="memory"`).
///
/// ```
/// use quotaflow::kernel::LedgerId;
/// use quotaflow::stores::{MemoryStore, QuotaStore};
/// let store = MemoryStore::default();
/// store.update(&[LedgerId::new("openai", "org", "*")], &mut |ledgers| ledgers.get_mut(0).join("org")).unwrap();
/// assert_eq!(store.ids().unwrap().len(), 1);
/// ```
#[derive(Default)]
pub struct MemoryStore {
    table: Mutex<(LedgerTable, Vec<usize>)>,
    answers: Mutex<Answers>,
}

impl QuotaStore for MemoryStore {
    fn update(
        &self,
        ids: &[LedgerId],
        act: &mut dyn FnMut(&mut Ledgers<'_>),
    ) -> Result<(), StoreError> {
        let (table, places) = &mut *self.table.lock();
        places.clear();
        places.extend(ids.iter().map(|id| table.place(id)));
        act(&mut Ledgers::new(&mut table.ledgers, places));
        places.iter().for_each(|place| table.keep(*place));
        Ok(())
    }

    fn ids(&self) -> Result<Vec<LedgerId>, StoreError> {
        Ok(self.table.lock().0.kept_ids())
    }

    fn salt(&self) -> &str {
        "memory"
    }

    fn answer(&self, name: &[u8], since: Moment) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.answers.lock().get(name, since))
    }

    fn keep_answer(&self, kept: &KeptAnswer<'_>, most_bytes: u64) -> Result<(), StoreError> {
        if kept.bytes() <= most_bytes {
            self.answers.lock().keep(kept, most_bytes);
        }
        Ok(())
    }

    fn forget_answers(&self, name: Option<&[u8]>) -> Result<u64, StoreError> {
        Ok(self.answers.lock().forget(name))
    }
}
