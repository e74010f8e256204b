//! The table of ledgers in memory.

use std::collections::HashMap;

use crate::kernel::{Ledger, LedgerId};

/// Ledgers by place and places by name. A ledger never moves, so what belongs to the process stays with it.
#[derive(Default)]
pub(super) struct LedgerTable {
    pub(super) ledgers: Vec<Ledger>,
    places: HashMap<LedgerId, usize>,
    /// For each place: whether anything was ever written there.
    kept: Vec<bool>,
}

impl LedgerTable {
    /// The place of `id`, made if it is new.
    pub(super) fn place(&mut self, id: &LedgerId) -> usize {
        if let Some(place) = self.places.get(id) {
            return *place;
        }
        self.ledgers.push(Ledger::default());
        self.places.insert(id.clone(), self.ledgers.len() - 1);
        self.ledgers.len() - 1
    }

    /// Notes that the ledger at `place` holds something, if it was changed.
    pub(super) fn keep(&mut self, place: usize) {
        if self.ledgers[place].take_changed() {
            self.kept.resize(self.ledgers.len(), false);
            self.kept[place] = true;
        }
    }

    /// The ledgers that hold something; one that was only looked at is not among them.
    pub(super) fn kept_ids(&self) -> Vec<LedgerId> {
        let kept = |place: usize| self.kept.get(place).is_some_and(|kept| *kept);
        let held = self.places.iter().filter(|(_, place)| kept(**place));
        let mut ids: Vec<LedgerId> = held.map(|(id, _)| id.clone()).collect();
        ids.sort();
        ids
    }
}
