//! Lanes: a key at a model, with the ledgers that must allow a call.

use crate::kernel::ledger::Ledger;

/// Some ledgers of a store, addressed by their place in the list of names they were asked for by.
pub struct Ledgers<'a> {
    all: &'a mut [Ledger],
    picked: &'a [usize],
}

impl<'a> Ledgers<'a> {
    /// A view of `all` in which place `i` is `all[picked[i]]`.
    pub fn new(all: &'a mut [Ledger], picked: &'a [usize]) -> Self {
        Ledgers { all, picked }
    }

    /// The ledger at `place`.
    pub fn get(&self, place: usize) -> &Ledger {
        &self.all[self.picked[place]]
    }

    /// The ledger at `place`, to change it.
    pub fn get_mut(&mut self, place: usize) -> &mut Ledger {
        &mut self.all[self.picked[place]]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.picked.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.picked.is_empty()
    }
}

/// One way a call can go: a key at a model, and the places of the ledgers that must allow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The key's place in the provider's list of keys.
    pub key: usize,
    /// The ledger of the key's quota group for this model.
    pub group_model: usize,
    /// The ledger of the key's quota group for all models.
    pub group: usize,
    /// The ledger of the key alone; the same as `group` while the key is a group of its own.
    pub key_alone: usize,
    /// The ledger of the group's free models, where they share a quota (OpenRouter).
    pub free_models: Option<usize>,
    /// All of them, each once.
    pub ledgers: Vec<usize>,
    /// No limit is configured here and the server is not a local one: what the provider allows must be found out.
    pub feels_its_way: bool,
}

impl Lane {
    /// A lane of these ledgers.
    pub fn new(
        key: usize,
        group_model: usize,
        group: usize,
        key_alone: usize,
        free_models: Option<usize>,
    ) -> Self {
        let mut ledgers = vec![group_model];
        // A call that names no model counts in its group and nowhere else.
        ledgers.extend((group != group_model).then_some(group));
        ledgers.extend((key_alone != group).then_some(key_alone));
        ledgers.extend(free_models);
        Lane { key, group_model, group, key_alone, free_models, ledgers, feels_its_way: false }
    }

    /// The same lane where no limit is configured.
    #[must_use]
    pub fn feeling_its_way(self) -> Self {
        Lane { feels_its_way: true, ..self }
    }
}
