//! Merging ledgers: a key turns out to belong to a quota group.
//!
//! Every key begins in a group of its own. When an answer names the organization, the counts of the key move to the
//! ledger of that group, each at its time, with what its answers taught and with the calls in flight. From then on a
//! refusal of one key of the organization closes all of them.

use super::{Ledger, Totals};
use crate::kernel::amounts::Amounts;
use crate::kernel::failure::FailureClass;
use crate::kernel::ledger::block::Block;
use crate::kernel::meters::Rule;
use crate::kernel::moment::Moment;
use crate::kernel::rate_hint::RateHint;

impl Ledger {
    /// Takes over what closed it elsewhere; a later block wins over an earlier one.
    pub fn stay_closed(&mut self, block: Block, now: Moment) {
        self.blocks.add(block, now);
        self.changed = true;
    }

    /// Counts what `other` counted as well: two groups turned out to be one.
    ///
    /// What the provider stated in `told` it counted over both: of such a limit the larger count holds, of others the
    /// sum.
    pub fn absorb(&mut self, other: &Ledger, told: &[RateHint], now: Moment) {
        self.learned.absorb(&other.learned);
        for theirs in &other.meters {
            let ours = self
                .meters
                .iter_mut()
                .find(|ours| (ours.resource, ours.period) == (theirs.resource, theirs.period));
            match ours {
                Some(ours) => {
                    let used = theirs.meter.used(&Rule::new(theirs.under.clone()), 0, now);
                    let rule = Rule::new(ours.under.clone());
                    let is_told = told.iter().any(|hint| {
                        rule.counts_like(hint.resource, hint.period) && hint.remaining.is_some()
                    });
                    let known = if is_told { ours.meter.used(&rule, 0, now) } else { 0 };
                    if known == 0 {
                        ours.meter.absorb(&rule, &theirs.meter, used, now);
                    } else {
                        ours.meter.take(&rule, used.saturating_sub(known), now);
                    }
                }
                None => self.meters.push(theirs.clone()),
            }
        }
        if let Some(effective) = self.rules.take() {
            self.rebuild(effective.configured, now);
        }
        // A key that is not valid says nothing about its group.
        for block in other.blocks.iter().filter(|block| block.class != FailureClass::Auth) {
            self.blocks.add(block.clone(), now);
        }
        self.totals.sent += other.totals.sent;
        self.totals.refused += other.totals.refused;
        self.outputs.absorb(&other.outputs);
        if other.inputs.seen() > self.inputs.seen() {
            self.inputs = other.inputs;
        }
        if other.counts.seen() > self.counts.seen() {
            self.counts = other.counts;
        }
        self.answered += other.answered;
        // What is under way is settled where its key counts now.
        self.in_flight += other.in_flight;
        self.reserved = self.reserved.plus(&other.reserved);
        self.changed = true;
    }

    /// What was counted here is counted elsewhere from now on; that a key is not valid stays true. `and_calls`: those
    /// that are under way as well.
    pub fn move_out(&mut self, and_calls: bool) {
        if and_calls {
            self.in_flight = 0;
            self.reserved = Amounts::default();
        }
        self.blocks =
            self.blocks.iter().filter(|b| b.class == FailureClass::Auth).cloned().collect();
        let rules = self.rules.take();
        self.meters.clear();
        if let Some(effective) = rules {
            self.rebuild(effective.configured, Moment::EPOCH);
        }
        self.totals = Totals::default();
        self.changed = true;
    }

    /// The quota group this key is known to belong to.
    pub fn member_of(&self) -> Option<&str> {
        self.member_of.as_deref()
    }

    /// Writes down the quota group this key belongs to.
    pub fn join(&mut self, group: &str) {
        if self.member_of.as_deref() != Some(group) {
            self.member_of = Some(group.to_owned());
            self.changed = true;
        }
    }
}
