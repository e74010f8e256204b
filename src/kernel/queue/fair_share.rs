//! Start-time fair queueing among the tenants of one priority.
//!
//! Each tenant has a clock that advances by tokens over weight with each of its calls that is served. The tenant whose
//! clock is furthest behind is next. A common clock advances by tokens over the weights of all tenants that wait. A
//! tenant that comes late, or comes back, starts there, so that no tenant saves up turns while away, and the common
//! clock reaches each waiting tenant however many new ones come.
//!
//! A call is paid for twice. When it is served, with what it is expected to use: what it declares, scaled by how much
//! of that its tenant used before. When its use is known, with that. The common clock advances only then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::kernel::amounts::Amounts;

/// How far a clock goes for one token at a weight of one thousandth.
const SCALE: u128 = 1 << 16;

/// The tenants of one priority.
#[derive(Debug, Default)]
pub(in crate::kernel) struct Shares {
    tenants: BTreeMap<Arc<str>, Tenant>,
    /// Tenants with waiting calls that are not set aside: by clock, then by the arrival of their first.
    ready: BTreeSet<(u128, u64, Arc<str>)>,
    /// The same by the arrival of its first.
    by_age: BTreeSet<(u64, Arc<str>)>,
    /// Tenants without waiting or unsettled calls whose clock is still ahead.
    idle: BTreeSet<(u128, Arc<str>)>,
    /// The clock that all have in common.
    clock: u128,
    /// By how much it advanced last: a call that comes now may still go before the next one of the tenant served then.
    last_step: u128,
    /// The weights of those in `ready` together, in thousandths.
    weights: u128,
    /// What those need who are not set aside.
    waiting: Amounts,
    /// How many calls were served whose use is not known yet.
    unsettled: usize,
    spells: u64,
    /// What tenants of whom nothing is known yet are expected to use.
    habit: Habit,
}

#[derive(Debug, Default)]
struct Tenant {
    /// Its calls by arrival, each with what it needs.
    calls: BTreeMap<u64, Amounts>,
    /// In thousandths, as of its latest call.
    weight: u32,
    /// Where its clock stood when it began to wait this time, and where the common one did.
    before: u128,
    began: u128,
    /// How far its clock went since.
    paid: u128,
    /// Which time this is.
    spell: u64,
    waiting: Amounts,
    unsettled: usize,
    is_aside: bool,
    habit: Habit,
}

/// How long answers were that were said to be this long at most, the later ones counting more.
#[derive(Clone, Copy, Debug, Default)]
struct Habit {
    declared: u64,
    used: u64,
}

impl Habit {
    /// An eighth is forgotten each time.
    fn learn(&mut self, declared: u64, used: u64) {
        let add = |known: u64, new: u64| (known - known / 8).saturating_add(new);
        (self.declared, self.used) = (add(self.declared, declared), add(self.used, used));
    }

    /// What a call that declares this will use; all of it while nothing is known.
    fn expected(&self, size: &Amounts) -> Amounts {
        if self.declared == 0 {
            return *size;
        }
        let output =
            u128::from(size.output_tokens) * u128::from(self.used) / u128::from(self.declared);
        Amounts { output_tokens: u64::try_from(output).unwrap_or(u64::MAX), ..*size }
    }
}

impl Tenant {
    /// What it paid before counts as far as it is ahead of where all tenants began.
    fn clock(&self) -> u128 {
        self.before.max(self.began).saturating_add(self.paid)
    }

    fn begins_at(&mut self, common: u128, spell: u64) {
        (self.before, self.began, self.paid) = (self.clock(), common, 0);
        self.spell = spell;
    }
}

/// What a tenant paid for a call that was served, until it is known what the call used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel) struct Payment {
    weight: u32,
    paid: u128,
    /// How long its answer was said to be at most.
    declared: u64,
    /// The weights of all who waited, in thousandths.
    weights: u128,
    spell: u64,
}

/// By how much the clock of a tenant of this weight, in thousandths, goes on for so many tokens.
fn progress(tokens: u64, weight: u128) -> u128 {
    u128::from(tokens) * 1_000 * SCALE / weight.max(1)
}

/// What a call that needs this, or used this, is paid for with: at least one token, unless nothing was sent.
fn price(size: &Amounts) -> u64 {
    size.input_tokens.saturating_add(size.output_tokens).max(size.requests.min(1))
}

impl Shares {
    pub(in crate::kernel) fn join(
        &mut self,
        name: &Arc<str>,
        arrival: u64,
        size: Amounts,
        weight: u32,
    ) {
        // Behind others of its tenant it changes no order.
        if let Some(tenant) = self.tenants.get_mut(name)
            && !tenant.calls.is_empty()
            && tenant.weight == weight
        {
            tenant.calls.insert(arrival, size);
            tenant.waiting = tenant.waiting.plus(&size);
            if !tenant.is_aside {
                self.waiting = self.waiting.plus(&size);
            }
            return;
        }
        self.take_out(name);
        let (start, spell) = (self.start(), self.next_spell());
        let tenant = self.tenants.entry(name.clone()).or_default();
        if tenant.calls.is_empty() {
            tenant.begins_at(start, spell);
        }
        tenant.weight = weight;
        tenant.calls.insert(arrival, size);
        tenant.waiting = tenant.waiting.plus(&size);
        self.put_back(name);
    }

    /// Goes without being served.
    pub(in crate::kernel) fn leave(&mut self, name: &Arc<str>, arrival: u64) {
        self.take_out(name);
        if let Some(tenant) = self.tenants.get_mut(name)
            && let Some(size) = tenant.calls.remove(&arrival)
        {
            tenant.waiting = tenant.waiting.minus(&size);
        }
        self.put_back(name);
    }

    /// Is served, and pays for it with its tenant's turn. `weight` is in thousandths.
    pub(in crate::kernel) fn serve(
        &mut self,
        name: &Arc<str>,
        arrival: u64,
        weight: u32,
    ) -> Option<Payment> {
        let size = self.tenants.get(name)?.calls.get(&arrival).copied()?;
        self.take_out(name);
        if let Some(tenant) = self.tenants.get_mut(name) {
            tenant.calls.remove(&arrival);
            tenant.waiting = tenant.waiting.minus(&size);
        }
        let payment = self.charge(name, &size, weight);
        self.put_back(name);
        self.forget_the_idle();
        Some(payment)
    }

    /// A tenant pays for a call that is served and does not stand here.
    pub(in crate::kernel) fn pay(
        &mut self,
        name: &Arc<str>,
        size: &Amounts,
        weight: u32,
    ) -> Payment {
        self.take_out(name);
        let (start, spell) = (self.start(), self.next_spell());
        let tenant = self.tenants.entry(name.clone()).or_default();
        if tenant.calls.is_empty() {
            tenant.begins_at(start, spell);
        }
        let payment = self.charge(name, size, weight);
        self.put_back(name);
        self.forget_the_idle();
        payment
    }

    /// While a tenant is taken out.
    fn charge(&mut self, name: &Arc<str>, size: &Amounts, weight: u32) -> Payment {
        let weights = self.weights + u128::from(weight);
        self.unsettled += 1;
        let tenant = self.tenants.entry(name.clone()).or_default();
        if tenant.habit.declared == 0 {
            tenant.habit = self.habit;
        }
        // While many are in flight, a careful tenant would otherwise wait for capacity that stays unused.
        let paid = progress(price(&tenant.habit.expected(size)), weight.into());
        tenant.paid = tenant.paid.saturating_add(paid);
        tenant.unsettled += 1;
        Payment { weight, paid, declared: size.output_tokens, weights, spell: tenant.spell }
    }

    /// It is known what a call used that was paid for: its tenant pays that instead.
    pub(in crate::kernel) fn settle(&mut self, name: &Arc<str>, payment: &Payment, used: &Amounts) {
        self.take_out(name);
        self.unsettled = self.unsettled.saturating_sub(1);
        let (declared, answer) = (payment.declared, used.output_tokens);
        let tells = declared > 0 && answer > 0;
        let used = price(used);
        self.last_step = progress(used, payment.weights);
        self.clock = self.clock.saturating_add(self.last_step);
        if let Some(tenant) = self.tenants.get_mut(name) {
            tenant.unsettled = tenant.unsettled.saturating_sub(1);
            if tells {
                tenant.habit.learn(declared, answer);
                self.habit.learn(declared, answer);
            }
            let right = progress(used, payment.weight.into());
            // What was paid before this spell moves the clock only as far as it is still ahead.
            let account =
                if tenant.spell == payment.spell { &mut tenant.paid } else { &mut tenant.before };
            *account = account.saturating_sub(payment.paid).saturating_add(right);
        }
        self.put_back(name);
        self.forget_the_idle();
    }

    /// Whether no call waits and none that was served is unsettled.
    pub(in crate::kernel) fn is_over(&self) -> bool {
        self.unsettled == 0 && self.ready.is_empty()
    }

    /// Where a tenant begins that comes now.
    fn start(&self) -> u128 {
        self.clock.saturating_sub(self.last_step)
    }

    fn next_spell(&mut self) -> u64 {
        self.spells += 1;
        self.spells
    }

    /// Who is next.
    pub(in crate::kernel) fn next(&self) -> Option<u64> {
        self.ready.first().map(|(_, arrival, _)| *arrival)
    }

    /// Who has waited longest of those whose tenant is not set aside.
    pub(in crate::kernel) fn oldest(&self) -> Option<u64> {
        self.by_age.first().map(|(arrival, _)| *arrival)
    }

    /// Leaves a tenant out of account until it is brought back.
    pub(in crate::kernel) fn set_aside(&mut self, name: &Arc<str>, aside: bool) {
        self.take_out(name);
        let (start, spell) = (self.start(), self.next_spell());
        if let Some(tenant) = self.tenants.get_mut(name) {
            tenant.is_aside = aside;
            if !aside {
                tenant.begins_at(start, spell);
            }
        }
        self.put_back(name);
    }

    /// What will at least be served before a call of this tenant that joins now: its own calls before it, and the
    /// first of each other tenant whose clock is behind the one it will have.
    pub(in crate::kernel) fn ahead_of(&self, name: &str) -> Amounts {
        /// More tenants than this are not looked at for one call.
        const LOOKED_AT: usize = 256;
        let own = self.tenants.get(name);
        let clock = own.map_or(self.start(), |tenant| tenant.clock().max(self.start()));
        let before = self.ready.range(..(clock, 0, Arc::from(""))).take(LOOKED_AT);
        let firsts = before.filter_map(|(_, arrival, other)| {
            let other = self.tenants.get(other).filter(|_| **other != *name)?;
            other.calls.get(arrival)
        });
        let own = own.filter(|own| !own.is_aside).map(|own| own.waiting).unwrap_or_default();
        firsts.fold(own, |sum, size| sum.plus(size))
    }

    /// What the calls of this tenant need, set aside or not.
    pub(in crate::kernel) fn waiting_of(&self, name: &str) -> Amounts {
        self.tenants.get(name).map(|tenant| tenant.waiting).unwrap_or_default()
    }

    /// What all of them need who are not set aside.
    pub(in crate::kernel) fn waiting(&self) -> Amounts {
        self.waiting
    }

    /// Every call with the clock at which it begins if no call comes or goes; `weight` gives the weight of each.
    pub(in crate::kernel) fn beginnings(&self, weight: impl Fn(u64) -> u32) -> Vec<(u128, u64)> {
        let mut all = Vec::new();
        for tenant in self.tenants.values() {
            let mut clock = tenant.clock().max(if tenant.is_aside { self.start() } else { 0 });
            for (arrival, size) in &tenant.calls {
                all.push((clock, *arrival));
                let expected = price(&tenant.habit.expected(size));
                clock += progress(expected, weight(*arrival).into());
            }
        }
        all.sort_unstable();
        all
    }

    /// A tenant is about to change: it stands in none of the orders until it is put back.
    fn take_out(&mut self, name: &Arc<str>) {
        let Some(tenant) = self.tenants.get(name) else { return };
        let clock = tenant.clock();
        match tenant.calls.keys().next() {
            Some(_) if tenant.is_aside => {}
            Some(first) => {
                self.ready.remove(&(clock, *first, name.clone()));
                self.by_age.remove(&(*first, name.clone()));
                self.waiting = self.waiting.minus(&tenant.waiting);
                self.weights = self.weights.saturating_sub(tenant.weight.into());
            }
            None => {
                self.idle.remove(&(clock, name.clone()));
            }
        }
    }

    fn put_back(&mut self, name: &Arc<str>) {
        let Some(tenant) = self.tenants.get(name) else { return };
        let clock = tenant.clock();
        match tenant.calls.keys().next() {
            Some(_) if tenant.is_aside => {}
            Some(first) => {
                self.ready.insert((clock, *first, name.clone()));
                self.by_age.insert((*first, name.clone()));
                self.waiting = self.waiting.plus(&tenant.waiting);
                self.weights += u128::from(tenant.weight);
            }
            // What it used is not known yet.
            None if tenant.unsettled > 0 => {}
            None if clock <= self.start() && !tenant.is_aside => {
                self.tenants.remove(name);
            }
            None => {
                self.idle.insert((clock, name.clone()));
            }
        }
    }

    /// Whose clock is behind would begin anew anyway.
    fn forget_the_idle(&mut self) {
        while let Some((clock, name)) = self.idle.first().cloned()
            && clock <= self.start()
        {
            self.idle.pop_first();
            if self.tenants.get(&name).is_some_and(|tenant| !tenant.is_aside) {
                self.tenants.remove(&name);
            }
        }
    }
}
