//! Where do ledgers stand while they are in memory?

use std::collections::HashMap;

use crate::kernel::{Ledger, LedgerId};

/// Ledgers by place and places by name. A ledger never moves, so what belongs to the process stays with it.
#[derive(Default)]
pub(super) struct Shelf {
    pub(super) ledgers: Vec<Ledger>,
    places: HashMap<LedgerId, usize>,
}

impl Shelf {
    /// The place of `id`, made if it is new.
    pub(super) fn place(&mut self, id: &LedgerId) -> usize {
        if let Some(place) = self.places.get(id) {
            return *place;
        }
        self.ledgers.push(Ledger::default());
        self.places.insert(id.clone(), self.ledgers.len() - 1);
        self.ledgers.len() - 1
    }

    pub(super) fn ids(&self) -> Vec<LedgerId> {
        let mut ids: Vec<LedgerId> = self.places.keys().cloned().collect();
        ids.sort();
        ids
    }
}
