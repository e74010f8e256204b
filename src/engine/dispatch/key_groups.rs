//! Quota groups that are learned: keys of one organisation share a quota.

use std::sync::Arc;

use super::types::{Dispatch, Vendor};
use crate::engine::world::observer::Notice;
use crate::kernel::{LedgerId, RateHint};

impl Dispatch {
    /// The provider named the organisation of a key: from now on it counts there, with what it has used already.
    ///
    /// A group that the user configured is left alone.
    pub(crate) fn join_group(
        &self,
        vendor: &Arc<Vendor>,
        place: usize,
        organization: &str,
        told: &[RateHint],
    ) {
        let key = &vendor.keys[place];
        let group = format!("org-{organization}");
        let before = key.group();
        if key.configured_group.is_some() || *before == *group {
            return;
        }
        let from: Vec<(LedgerId, LedgerId)> = vendor
            .known_targets()
            .iter()
            .map(|target| target.model.as_str())
            .chain(["*", "*:free"])
            .map(|model| (vendor.ledger_id(&before, model), vendor.ledger_id(&group, model)))
            .collect();
        let was_alone = *before == *key.alone;
        let now = self.now();
        let ids: Vec<LedgerId> = std::iter::once(vendor.ledger_id(&key.alone, "*"))
            .chain(from.iter().flat_map(|(old, new)| [old.clone(), new.clone()]))
            .collect();
        let stored = self.store.update(&ids, &mut |ledgers| {
            // Several answers at once may name it; the first one moves the key.
            if *key.group() != *before {
                return;
            }
            // Together with its usage, so that a settling call finds both at the old place or both at the new one.
            vendor.move_key(place, &group);
            ledgers.get_mut(0).join(&group);
            // A key that moves out of a group others stay in leaves what it used behind: that may count twice.
            for (pair, (id, _)) in from.iter().enumerate().filter(|_| was_alone) {
                let (old, new) = (1 + 2 * pair, 2 + 2 * pair);
                let counted = ledgers.get(old).clone();
                ledgers.get_mut(new).absorb(&counted, told, now);
                // Every call with the key goes through the ledger of the key alone, wherever it counts.
                let is_of_key = *id == ids[0];
                ledgers.get_mut(old).move_out(!is_of_key);
            }
        });
        if let Err(error) = stored {
            self.notice(&Notice::Warning(error.to_string()));
        }
    }

    /// Restores the groups that were learned before this process began.
    pub(in crate::engine) fn remember_groups(
        &self,
        vendor: &Vendor,
    ) -> Result<(), crate::stores::StoreError> {
        for (place, key) in vendor.keys.iter().enumerate() {
            if key.configured_group.is_some() {
                continue;
            }
            let mut group = None;
            self.store.update(&[vendor.ledger_id(&key.alone, "*")], &mut |ledgers| {
                group = ledgers.get(0).member_of().map(str::to_owned);
            })?;
            if let Some(group) = group {
                vendor.move_key(place, &group);
            }
        }
        Ok(())
    }
}
