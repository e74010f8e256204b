//! The ledger of one quota group and model: what is left and what closed it.
//!
//! A ledger holds a [`Meter`] for each limit, its [`Blocks`], what was learned of limits and sizes, and totals. It is
//! the unit that a store changes atomically. Configured limits of a provider or a key stand on the group's `*` ledger
//! (all models together); those of one model stand on the ledger of that model.
//!
//! Meters of limits that this process does not know are kept: another process counts by them.

pub(super) mod block;
pub(super) mod input_factor;
mod learned_limits;
mod learning;
mod merge;
pub(super) mod output_sizes;
mod what_if;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::failure::{Failure, FailureClass};
use super::health::key_health::Health;
use super::limits::{Limit, Period, Resource, dollars};
use super::meters::charge::AnswerCharged;
use super::meters::{Availability, Meter, Rule};
use super::moment::Moment;
use crate::kernel::amounts::Amounts;
use block::{Block, Blocks};
use input_factor::InputFactor;
use learned_limits::{LearnedLimits, only_watches};
use output_sizes::OutputSizes;

/// Names a ledger: provider, quota group and model; the model `*` is the whole group.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LedgerId(Arc<str>);

impl LedgerId {
    /// The ledger of `model` in `group` at `provider`.
    pub fn new(provider: &str, group: &str, model: &str) -> Self {
        LedgerId(format!("{provider}|{group}|{model}").into())
    }

    /// The name in one string, as stores keep it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for LedgerId {
    fn from(name: &str) -> Self {
        LedgerId(name.into())
    }
}

impl fmt::Debug for LedgerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The meters and blocks of one (quota group, model): the unit that changes atomically.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    #[serde(default)]
    meters: Vec<Counted>,
    #[serde(default)]
    blocks: Blocks,
    #[serde(default, skip_serializing_if = "LearnedLimits::is_empty")]
    learned: LearnedLimits,
    #[serde(default)]
    outputs: OutputSizes,
    #[serde(default, skip_serializing_if = "is_untaught")]
    inputs: InputFactor,
    /// What bills say of prompts that were counted with the model's own tokenizer.
    #[serde(default, skip_serializing_if = "is_untaught")]
    counts: InputFactor,
    /// The quota group this key was found to belong to; only on a key's own ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    member_of: Option<String>,
    #[serde(default)]
    totals: Totals,
    /// How well the key did lately; only on a key's own ledger.
    #[serde(default, skip_serializing_if = "Health::is_full")]
    health: Health,
    /// Answers in this process while nothing is known to limit requests; see [`Ledger::first_steps`].
    #[serde(skip)]
    answered: u64,
    /// When it was looked at last.
    #[serde(skip)]
    seen: Moment,
    /// Calls under way in this process; never stored, a crash would leak them.
    #[serde(skip)]
    in_flight: u64,
    /// What these calls hold of all meters together.
    #[serde(skip)]
    reserved: Amounts,
    /// See [`Ledger::answers_returned`].
    #[serde(skip)]
    answers_returned: u64,
    #[serde(skip)]
    rules: Option<Effective>,
    #[serde(skip)]
    changed: bool,
}

/// How much of the limit of `rule` a call of `amounts` asks for.
fn asked_of(rule: &Rule, amounts: &Amounts) -> u64 {
    match rule.limit.resource {
        // Where the cost is unknown there must be some left.
        Resource::Spend => amounts.spend.max(1),
        resource => amounts.of(resource),
    }
}

fn is_short(limit: &Limit) -> bool {
    limit.period <= Period::Minute && limit.resource != Resource::Concurrency
}

fn is_untaught(inputs: &InputFactor) -> bool {
    inputs.seen() == 0
}

/// What was ever sent through a ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Attempts that left.
    pub sent: u64,
    /// Attempts that were refused for quota.
    pub refused: u64,
    /// When the last one left.
    pub last_sent: Moment,
}

/// A meter together with what it counts, so that stored state finds its rule again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Counted {
    resource: Resource,
    period: Period,
    meter: Meter,
    /// The rule the state was counted under.
    under: Limit,
}

/// The configured limits of a ledger, shared by all ledgers that have the same.
pub type Configured = Arc<[Limit]>;

#[derive(Clone, Debug)]
struct Effective {
    configured: Configured,
    rules: Vec<Rule>,
}

/// Why a ledger cannot serve now, and when it could.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// A limit is used up.
    Limit {
        /// The limit.
        limit: Limit,
        /// When there is enough again.
        until: Moment,
        /// There is enough, but it is kept for calls that matter more.
        is_kept: bool,
    },
    /// Too many calls are in flight.
    Concurrency {
        /// How many may be.
        most: u64,
    },
    /// A provider refused, or it is guessed that it would.
    Block(Block),
    /// More is asked than the limit can ever hold.
    TooLarge {
        /// The limit.
        limit: Limit,
        /// What was asked for.
        requested: u64,
        /// The most that can pass.
        most: u64,
    },
}

impl Obstacle {
    /// When it ends: `None` when that is unknown (a call in flight), or never.
    pub fn until(&self) -> Option<Moment> {
        match self {
            Obstacle::Limit { until, .. } => Some(*until),
            Obstacle::Block(block) => Some(block.until),
            Obstacle::Concurrency { .. } | Obstacle::TooLarge { .. } => None,
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Limit { limit, until, is_kept: false } => {
                write!(f, "{limit} used up until {until}")
            }
            Obstacle::Limit { limit, until, is_kept: true } => write!(
                f,
                "{limit} used up until {until} but for what is kept for calls of priority 5 and above"
            ),
            Obstacle::Concurrency { most } => write!(f, "{most} calls in flight already"),
            Obstacle::Block(block) => write!(f, "{block}"),
            Obstacle::TooLarge { limit, requested, .. } if limit.resource == Resource::Spend => {
                write!(f, "may cost {}, more than all of {limit}", dollars(*requested))
            }
            Obstacle::TooLarge { limit, requested, most } => {
                write!(f, "asks for {requested} of at most {most} ({limit})")
            }
        }
    }
}

impl Ledger {
    /// Brings the meters under the configured and learned limits; cheap when nothing changed.
    pub fn conform(&mut self, configured: &Configured, now: Moment) {
        /// What is old is looked for now and then.
        const TIDIED_EACH: Duration = Duration::from_secs(3_600);
        if now < self.seen || now.since(self.seen) > TIDIED_EACH {
            self.tidy(configured, now);
        }
        self.seen = self.seen.max(now);
        let current = self.rules.as_ref();
        if current.is_some_and(|effective| Arc::ptr_eq(&effective.configured, configured)) {
            return;
        }
        self.rebuild(configured.clone(), now);
    }

    /// Forgets lessons that are too old, and brings back what a clock wrote that was stepped back since: it happened at
    /// the latest now, and lasts from now as long as it was meant to.
    fn tidy(&mut self, configured: &Configured, now: Moment) {
        self.seen = now;
        self.blocks.mend_clock(now);
        self.learned.mend_clock(now);
        self.health.mend_clock(now);
        if self.rules.is_none() || self.learned.forget_old(now) {
            self.rebuild(configured.clone(), now);
        }
        let Some(effective) = &self.rules else { return };
        for (rule, counted) in effective.rules.iter().zip(&mut self.meters) {
            counted.meter.mend_clock(rule, now);
        }
    }

    fn rebuild(&mut self, configured: Configured, now: Moment) {
        self.learned.forget_old(now);
        let rules: Vec<Rule> =
            self.learned.laid_over(&configured).into_iter().map(Rule::new).collect();
        let old = std::mem::take(&mut self.meters);
        self.meters = rules
            .iter()
            .map(|rule| {
                let known =
                    old.iter().find(|counted| rule.counts_like(counted.resource, counted.period));
                Counted {
                    resource: rule.limit.resource,
                    period: rule.limit.period,
                    meter: match known {
                        Some(counted) if counted.under == rule.limit => counted.meter.clone(),
                        Some(counted) => {
                            counted.meter.under(&Rule::new(counted.under.clone()), rule, now)
                        }
                        None => Meter::fresh(rule),
                    },
                    under: rule.limit.clone(),
                }
            })
            .collect();
        // Another process may have limits that this one does not know: what it counted stays.
        let ours = |counted: &Counted| {
            rules.iter().any(|rule| rule.counts_like(counted.resource, counted.period))
        };
        self.meters.extend(old.into_iter().filter(|counted| !ours(counted)));
        self.rules = Some(Effective { configured, rules });
    }

    fn rules(&self) -> &[Rule] {
        self.rules.as_ref().map_or(&[], |effective| &effective.rules)
    }

    fn metered(&self) -> impl Iterator<Item = (&Rule, &Meter)> {
        self.rules().iter().zip(self.meters.iter().map(|counted| &counted.meter))
    }

    fn each_meter(&mut self, mut act: impl FnMut(&Rule, &mut Meter)) {
        let Some(effective) = &self.rules else { return };
        for (rule, counted) in effective.rules.iter().zip(&mut self.meters) {
            act(rule, &mut counted.meter);
        }
        self.changed = true;
    }

    /// The obstacle that lasts longest, if there is one: `amounts` can be taken when it has ended, and `kept`
    /// thousandths of every limit are left over.
    ///
    /// With `last_resort` a block that is only a guess is no obstacle once it is a minute old and no call probes it.
    pub fn obstacle(
        &self,
        amounts: &Amounts,
        kept: u16,
        last_resort: bool,
        now: Moment,
    ) -> Option<Obstacle> {
        let block =
            if last_resort { self.blocks.beyond_doubt(now) } else { self.blocks.in_force(now) };
        self.worst(block.map(Obstacle::Block), amounts, kept, now, |_| true)
    }

    /// How much is used of the limit that is an obstacle, in units of its resource.
    pub fn used_of(&self, obstacle: &Obstacle, now: Moment) -> u64 {
        let (Obstacle::Limit { limit, .. } | Obstacle::TooLarge { limit, .. }) = obstacle else {
            return self.in_flight;
        };
        let counted = self.metered().find(|(rule, _)| rule.limit == *limit);
        counted.map_or(0, |(rule, meter)| meter.used(rule, self.in_flight, now))
    }

    /// Every limit that holds.
    pub fn limits(&self) -> impl Iterator<Item = &Limit> {
        self.rules().iter().map(|rule| &rule.limit)
    }

    /// Every limit that holds, with its state.
    pub(super) fn rules_and_meters(&self) -> impl Iterator<Item = (&Rule, &Meter)> {
        self.metered()
    }

    /// The limit over `period` that lasts longest; blocks are left out of account.
    pub fn limit_in_the_way(
        &self,
        period: Period,
        amounts: &Amounts,
        kept: u16,
        now: Moment,
    ) -> Option<Obstacle> {
        self.worst(None, amounts, kept, now, |rule| rule.limit.period == period)
    }

    fn worst(
        &self,
        mut worst: Option<Obstacle>,
        amounts: &Amounts,
        kept: u16,
        now: Moment,
        concerns: impl Fn(&Rule) -> bool,
    ) -> Option<Obstacle> {
        for (rule, meter) in self.metered().filter(|(rule, _)| concerns(rule)) {
            let amount = asked_of(rule, amounts);
            let limit = || rule.limit.clone();
            let with_kept = rule.with_kept(amount, kept);
            let found = match meter.availability(rule, with_kept, self.in_flight, now) {
                Availability::Now => continue,
                Availability::At(until) => {
                    let is_kept = with_kept > amount
                        && meter.availability(rule, amount, self.in_flight, now)
                            == Availability::Now;
                    Obstacle::Limit { limit: limit(), until, is_kept }
                }
                Availability::WhenOneEnds => {
                    Obstacle::Concurrency { most: rule.limit.amount.get() }
                }
                Availability::Never { most } => {
                    return Some(Obstacle::TooLarge { limit: limit(), requested: amount, most });
                }
            };
            if worst.as_ref().is_none_or(|known| found.until() > known.until()) {
                worst = Some(found);
            }
        }
        worst
    }

    /// How much of `resource` calls under way in this process may give back when they end: what was reserved for their
    /// answers, and money. What other processes hold is not known.
    pub fn returnable(&self, resource: Resource) -> u64 {
        match resource {
            Resource::Tokens | Resource::OutputTokens => self.reserved.output_tokens,
            Resource::Spend => self.reserved.spend,
            _ => 0,
        }
    }

    /// Whether `amounts` could be taken and `kept` thousandths left over, if calls under way gave back all they may.
    pub fn may_return(&self, amounts: &Amounts, kept: u16, last_resort: bool, now: Moment) -> bool {
        let block =
            if last_resort { self.blocks.beyond_doubt(now) } else { self.blocks.in_force(now) };
        block.is_none()
            && self.metered().all(|(rule, meter)| {
                let wanted = rule.with_kept(asked_of(rule, amounts), kept);
                let used = meter.used(rule, 0, now);
                let stays = used.saturating_sub(self.returnable(rule.limit.resource));
                // A call that ends is one in flight less.
                *meter == Meter::InFlight || stays.saturating_add(wanted) <= rule.most()
            })
    }

    /// Takes `amounts` from every meter and, where a block has ended by a guess, makes this call its probe.
    pub fn take(&mut self, amounts: &Amounts, answer: AnswerCharged, now: Moment) {
        self.each_meter(|rule, meter| {
            meter.take_charge(rule, answer.charge(rule.limit.resource, amounts), now);
        });
        self.blocks.start_probe(now);
        self.in_flight += 1;
        self.reserved = self.reserved.plus(amounts);
        self.totals.sent += amounts.requests;
        self.totals.last_sent = now;
        self.changed = true;
    }

    /// The call that was just taken tests whether what was guessed to be closed is.
    pub fn probe_early(&mut self, now: Moment) {
        self.changed |= self.blocks.start_early_probe(now);
    }

    /// Replaces what was reserved at `reserved_at` by what was really used.
    pub fn correct(
        &mut self,
        reserved: &Amounts,
        used: &Amounts,
        answer: AnswerCharged,
        reserved_at: Moment,
        now: Moment,
    ) {
        if reserved == used && (answer == AnswerCharged::AtOnce || used.output_tokens == 0) {
            return;
        }
        self.each_meter(|rule, meter| {
            let resource = rule.limit.resource;
            let (had, has) = (answer.charge(resource, reserved), answer.charge(resource, used));
            meter.settle(rule, had, has, reserved_at, now);
        });
    }

    /// The call that `take` began is over, however it ended; if it was a probe, the next call may probe.
    pub fn ended(&mut self, left_at: Moment) {
        self.forget_in_flight();
        self.changed |= self.blocks.abandon_probe(left_at);
    }

    /// A call that was counted as under way in this process and is not.
    pub fn forget_in_flight(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.in_flight == 0 {
            self.reserved = Amounts::default();
        }
    }

    /// A call that is over holds `amounts` no more; what it used is for [`Ledger::correct`] to say.
    pub fn release(&mut self, amounts: &Amounts) {
        self.reserved = self.reserved.minus(amounts);
    }

    /// An answer turned out by so many tokens shorter than what the provider charged when it admitted the call.
    pub fn answer_returned(&mut self, tokens: u64) {
        self.answers_returned = self.answers_returned.saturating_add(tokens);
    }

    /// How many tokens answers in this process turned out shorter by than what the provider charged when it admitted
    /// their calls, all together: what it stated before it knew is by so much too much.
    pub fn answers_returned(&self) -> u64 {
        self.answers_returned
    }

    /// What calls under way in this process have reserved.
    pub fn reserved(&self) -> Amounts {
        self.reserved
    }

    /// Calls under way in this process.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Keeps what belongs to this process when the stored part was read anew.
    pub fn keep_local(&mut self, before: Ledger) {
        self.in_flight = before.in_flight;
        self.reserved = before.reserved;
        self.answers_returned = before.answers_returned;
        self.answered = before.answered;
    }

    /// The most of `resource` that can ever pass at once; `None` when nothing limits it.
    pub fn most(&self, resource: Resource) -> Option<u64> {
        self.rules().iter().filter(|rule| rule.limit.resource == resource).map(Rule::most).min()
    }

    /// A call that never left is not a call that was sent.
    pub fn forget_send(&mut self) {
        self.totals.sent = self.totals.sent.saturating_sub(1);
        self.changed = true;
    }

    /// An answer came to a call that left at `left_at`: guesses made before that were wrong or are over. Returns
    /// whether something that was closed is open again.
    pub fn served(&mut self, left_at: Moment, now: Moment) -> bool {
        self.answered += 1;
        if !self.learned.is_empty() {
            self.confirm(now);
        }
        let was_closed = self.blocks.iter().any(|block| block.until > block.since);
        let cleared = self.blocks.clear_after_success(left_at, now);
        self.changed |= cleared;
        cleared && was_closed
    }

    /// Closes the ledger; a later block wins over an earlier one.
    pub fn block(&mut self, block: Block, now: Moment) {
        self.totals.refused += u64::from(block.class.is_quota());
        self.blocks.add(block, now);
        self.changed = true;
    }

    /// Opens the ledger and forgets what was used: what `reset()` asks for. Learned limits stay.
    pub fn reset(&mut self) {
        self.blocks = Blocks::default();
        let Some(effective) = &self.rules else {
            self.meters.clear();
            self.changed = true;
            return;
        };
        self.meters.truncate(effective.rules.len());
        for (rule, counted) in effective.rules.iter().zip(&mut self.meters) {
            counted.meter = Meter::fresh(rule);
        }
        self.changed = true;
    }

    /// Forgets the blocks of the classes that `opens` names. Returns whether there was any.
    pub fn open(&mut self, opens: impl Fn(FailureClass) -> bool) -> bool {
        let opened = self.blocks.lift(opens);
        self.changed |= opened;
        opened
    }

    /// Forgets what was used of limits over a day or longer. Returns whether there was any.
    pub fn forget_days(&mut self) -> bool {
        let long = self.meters.iter_mut().filter(|counted| counted.period >= Period::Day);
        let mut forgot = false;
        for counted in long {
            let fresh = Meter::fresh(&Rule::new(counted.under.clone()));
            forgot |= counted.meter != fresh;
            counted.meter = fresh;
        }
        self.changed |= forgot;
        forgot
    }

    /// The blocks, for `status()`.
    pub fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// How well the key of this ledger did lately.
    pub fn health(&self) -> Health {
        self.health
    }

    /// An attempt with the key of this ledger ended.
    pub fn record_attempt(&mut self, failure: Option<&Failure>, now: Moment) {
        self.changed |= self.health.record_attempt(failure, now);
    }

    /// What was ever sent.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// How full the fullest meter is, in 1/1024ths: the lane that is used least is chosen first.
    pub fn fullness(&self, now: Moment) -> u64 {
        self.metered()
            .map(|(rule, meter)| {
                meter.used(rule, self.in_flight, now).saturating_mul(1024) / rule.limit.amount.get()
            })
            .max()
            .unwrap_or(0)
    }

    /// Every limit with what is used of it and when it is whole again, for `status()`.
    pub fn meters(&self, now: Moment) -> Vec<(Limit, u64, Moment)> {
        self.metered()
            .filter(|(rule, _)| !only_watches(&rule.limit))
            .map(|(rule, meter)| {
                (
                    rule.limit.clone(),
                    meter.used(rule, self.in_flight, now),
                    meter.whole_at(rule, now),
                )
            })
            .collect()
    }

    /// Whether there is something that must be stored; asking forgets it.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}
