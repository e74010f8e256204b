//! Whose turn is it among the tenants of one priority?
//!
//! Start-time fair queueing. Each tenant has a clock of its own that goes on by tokens over weight with each call of
//! its that is served; the one whose clock is furthest behind is next. A tenant that comes late, or comes back, starts
//! at the clock of whoever was served last: nobody saves up turns while away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::limits::Amounts;

/// How far a clock goes for one token at a weight of one thousandth.
const SCALE: u128 = 1 << 16;

/// The tenants of one priority.
#[derive(Debug, Default)]
pub(super) struct Shares {
    tenants: BTreeMap<Arc<str>, Tenant>,
    /// Who has somebody waiting and is not set aside: by clock, then by the arrival of its first.
    ready: BTreeSet<(u128, u64, Arc<str>)>,
    /// The same by the arrival of its first.
    by_age: BTreeSet<(u64, Arc<str>)>,
    /// Who has nobody waiting and whose clock is still ahead.
    idle: BTreeSet<(u128, Arc<str>)>,
    /// The clock of whoever was served last.
    clock: u128,
    /// What those need who are not set aside.
    waiting: Amounts,
}

#[derive(Debug, Default)]
struct Tenant {
    /// Its calls by arrival, each with what it needs.
    calls: BTreeMap<u64, Amounts>,
    clock: u128,
    waiting: Amounts,
    is_aside: bool,
}

/// By how much the clock of a tenant of this weight, in thousandths, goes on for a call: at least for one token.
fn progress(size: &Amounts, weight: u32) -> u128 {
    let tokens = u128::from(size.input_tokens) + u128::from(size.output_tokens);
    (tokens.max(1) * 1_000 * SCALE / u128::from(weight.max(1))).max(1)
}

impl Shares {
    pub(super) fn join(&mut self, name: &Arc<str>, arrival: u64, size: Amounts) {
        // Behind others of its tenant it changes no order.
        if let Some(tenant) = self.tenants.get_mut(name)
            && !tenant.calls.is_empty()
        {
            tenant.calls.insert(arrival, size);
            tenant.waiting = tenant.waiting.plus(&size);
            if !tenant.is_aside {
                self.waiting = self.waiting.plus(&size);
            }
            return;
        }
        self.take_out(name);
        let tenant = self.tenants.entry(name.clone()).or_default();
        if tenant.calls.is_empty() {
            tenant.clock = tenant.clock.max(self.clock);
        }
        tenant.calls.insert(arrival, size);
        tenant.waiting = tenant.waiting.plus(&size);
        self.put_back(name);
    }

    /// Goes without being served.
    pub(super) fn leave(&mut self, name: &Arc<str>, arrival: u64) {
        self.take_out(name);
        if let Some(tenant) = self.tenants.get_mut(name)
            && let Some(size) = tenant.calls.remove(&arrival)
        {
            tenant.waiting = tenant.waiting.minus(&size);
        }
        self.put_back(name);
    }

    /// Is served, and pays for it with its tenant's turn. `weight` is in thousandths.
    pub(super) fn serve(&mut self, name: &Arc<str>, arrival: u64, weight: u32) {
        self.take_out(name);
        if let Some(tenant) = self.tenants.get_mut(name)
            && let Some(size) = tenant.calls.remove(&arrival)
        {
            tenant.waiting = tenant.waiting.minus(&size);
            self.clock = self.clock.max(tenant.clock);
            tenant.clock += progress(&size, weight);
        }
        self.put_back(name);
        self.forget_the_idle();
    }

    /// Who is next.
    pub(super) fn next(&self) -> Option<u64> {
        self.ready.first().map(|(_, arrival, _)| *arrival)
    }

    /// Who has waited longest of those whose tenant is not set aside.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.by_age.first().map(|(arrival, _)| *arrival)
    }

    /// Leaves a tenant out of account until it is brought back.
    pub(super) fn set_aside(&mut self, name: &Arc<str>, aside: bool) {
        self.take_out(name);
        if let Some(tenant) = self.tenants.get_mut(name) {
            tenant.is_aside = aside;
            if !aside {
                tenant.clock = tenant.clock.max(self.clock);
            }
        }
        self.put_back(name);
    }

    /// What will at least be served before somebody of this tenant who joins now: its own calls before it, and the
    /// first of each other tenant whose clock is behind the one it will have.
    pub(super) fn ahead_of(&self, name: &str) -> Amounts {
        /// More tenants than this are not looked at for one call.
        const LOOKED_AT: usize = 256;
        let own = self.tenants.get(name);
        let clock = own.map_or(self.clock, |tenant| tenant.clock.max(self.clock));
        let before = self.ready.range(..(clock, 0, Arc::from(""))).take(LOOKED_AT);
        let firsts = before.filter_map(|(_, arrival, other)| {
            let other = self.tenants.get(other).filter(|_| **other != *name)?;
            other.calls.get(arrival)
        });
        let own = own.filter(|own| !own.is_aside).map(|own| own.waiting).unwrap_or_default();
        firsts.fold(own, |sum, size| sum.plus(size))
    }

    /// What the calls of this tenant need, set aside or not.
    pub(super) fn waiting_of(&self, name: &str) -> Amounts {
        self.tenants.get(name).map(|tenant| tenant.waiting).unwrap_or_default()
    }

    /// What all of them need who are not set aside.
    pub(super) fn waiting(&self) -> Amounts {
        self.waiting
    }

    /// Every call with the clock at which it begins if nobody comes or goes; `weight` says each call's.
    pub(super) fn beginnings(&self, weight: impl Fn(u64) -> u32) -> Vec<(u128, u64)> {
        let mut all = Vec::new();
        for tenant in self.tenants.values() {
            let mut clock = tenant.clock.max(if tenant.is_aside { self.clock } else { 0 });
            for (arrival, size) in &tenant.calls {
                all.push((clock, *arrival));
                clock += progress(size, weight(*arrival));
            }
        }
        all.sort_unstable();
        all
    }

    /// A tenant is about to change: it stands in none of the orders until it is put back.
    fn take_out(&mut self, name: &Arc<str>) {
        let Some(tenant) = self.tenants.get(name) else { return };
        match tenant.calls.keys().next() {
            Some(_) if tenant.is_aside => {}
            Some(first) => {
                self.ready.remove(&(tenant.clock, *first, name.clone()));
                self.by_age.remove(&(*first, name.clone()));
                self.waiting = self.waiting.minus(&tenant.waiting);
            }
            None => {
                self.idle.remove(&(tenant.clock, name.clone()));
            }
        }
    }

    fn put_back(&mut self, name: &Arc<str>) {
        let Some(tenant) = self.tenants.get(name) else { return };
        match tenant.calls.keys().next() {
            Some(_) if tenant.is_aside => {}
            Some(first) => {
                self.ready.insert((tenant.clock, *first, name.clone()));
                self.by_age.insert((*first, name.clone()));
                self.waiting = self.waiting.plus(&tenant.waiting);
            }
            None if tenant.clock <= self.clock && !tenant.is_aside => {
                self.tenants.remove(name);
            }
            None => {
                self.idle.insert((tenant.clock, name.clone()));
            }
        }
    }

    /// Whose clock is behind would begin anew anyway.
    fn forget_the_idle(&mut self) {
        while let Some((clock, name)) = self.idle.first().cloned()
            && clock <= self.clock
        {
            self.idle.pop_first();
            if self.tenants.get(&name).is_some_and(|tenant| !tenant.is_aside) {
                self.tenants.remove(&name);
            }
        }
    }
}
