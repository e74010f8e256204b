//! What does one (quota group, model) still allow, and what closed it?

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::block::{Block, Blocks};
use super::failure::FailureClass;
use super::hint::RateHint;
use super::limits::{Amounts, Limit, Period, Refill, Resource, Source};
use super::meters::{Availability, Meter, Rule, default_burst};
use super::moment::Moment;
use super::output_sizes::OutputSizes;

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

/// A limit a provider told us of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Learned {
    limit: Limit,
    told_at: Moment,
}

/// How long a learned limit is believed when it is not told again.
const LEARNED_LASTS: Duration = Duration::from_secs(7 * 86_400);

/// The meters and blocks of one (quota group, model): the unit that changes atomically.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    #[serde(default)]
    meters: Vec<Counted>,
    #[serde(default)]
    blocks: Blocks,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    learned: Vec<Learned>,
    #[serde(default)]
    outputs: OutputSizes,
    /// The quota group this key was found to belong to; only on a key's own ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    member_of: Option<String>,
    #[serde(default)]
    totals: Totals,
    /// Calls under way in this process; never stored, a crash would leak them.
    #[serde(skip)]
    in_flight: u64,
    #[serde(skip)]
    rules: Option<Effective>,
    #[serde(skip)]
    changed: bool,
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
    },
    /// Too many calls are in flight.
    Concurrency {
        /// How many may be.
        most: u64,
    },
    /// A provider said no, or we guess it would.
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
    /// When it ends: `None` when nobody can say (a call in flight), or never.
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
            Obstacle::Limit { limit, until } => write!(f, "{limit} used up until {until}"),
            Obstacle::Concurrency { most } => write!(f, "{most} calls in flight already"),
            Obstacle::Block(block) => write!(f, "{block}"),
            Obstacle::TooLarge { limit, requested, most } => {
                write!(f, "asks for {requested} of at most {most} ({limit})")
            }
        }
    }
}

impl Ledger {
    /// Brings the meters under the configured and learned limits; cheap when nothing changed.
    pub fn conform(&mut self, configured: &Configured, now: Moment) {
        let current = self.rules.as_ref();
        if current.is_some_and(|effective| Arc::ptr_eq(&effective.configured, configured)) {
            return;
        }
        self.rebuild(configured.clone(), now);
    }

    fn rebuild(&mut self, configured: Configured, now: Moment) {
        self.learned.retain(|learned| now.since(learned.told_at) < LEARNED_LASTS);
        let rules: Vec<Rule> =
            effective_limits(&configured, &self.learned).into_iter().map(Rule::new).collect();
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
                        None => rule.fresh_meter(),
                    },
                    under: rule.limit.clone(),
                }
            })
            .collect();
        // Another process may have limits that this one was not told of: what it counted is not ours to forget.
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
    pub fn obstacle(&self, amounts: &Amounts, kept: u16, now: Moment) -> Option<Obstacle> {
        self.worst(self.blocks.in_force(now).map(Obstacle::Block), amounts, kept, now, |_| true)
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
            let amount = amounts.of(rule.limit.resource);
            let limit = || rule.limit.clone();
            let with_kept = rule.with_kept(amount, kept);
            let found = match meter.availability(rule, with_kept, self.in_flight, now) {
                Availability::Now => continue,
                Availability::At(until) => Obstacle::Limit { limit: limit(), until },
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

    /// Takes `amounts` from every meter and, where a block has ended by a guess, makes this call its probe.
    pub fn take(&mut self, amounts: &Amounts, now: Moment) {
        self.each_meter(|rule, meter| meter.take(rule, amounts.of(rule.limit.resource), now));
        self.blocks.start_probe(now);
        self.in_flight += 1;
        self.totals.sent += amounts.requests;
        self.totals.last_sent = now;
        self.changed = true;
    }

    /// Replaces what was reserved at `reserved_at` by what was really used.
    pub fn correct(
        &mut self,
        reserved: &Amounts,
        used: &Amounts,
        reserved_at: Moment,
        now: Moment,
    ) {
        if reserved == used {
            return;
        }
        self.each_meter(|rule, meter| {
            let (had, has) = (reserved.of(rule.limit.resource), used.of(rule.limit.resource));
            if has > had {
                meter.take(rule, has - had, now);
            } else {
                meter.give_back(rule, had - has, reserved_at, now);
            }
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
    }

    /// Calls under way in this process.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Keeps what belongs to this process when the stored part was read anew.
    pub fn keep_local(&mut self, before: Ledger) {
        self.in_flight = before.in_flight;
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

    /// An answer came to a call that left at `left_at`: guesses made before that were wrong or are over.
    pub fn served(&mut self, left_at: Moment, now: Moment) {
        if self.blocks.clear_after_success(left_at, now) {
            self.changed = true;
        }
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
            counted.meter = rule.fresh_meter();
        }
        self.changed = true;
    }

    /// Forgets the blocks of the classes that `opens` names. Says whether there was any.
    pub fn open(&mut self, opens: impl Fn(FailureClass) -> bool) -> bool {
        let opened = self.blocks.lift(opens);
        self.changed |= opened;
        opened
    }

    /// Forgets what was used of limits over a day or longer. Says whether there was any.
    pub fn forget_days(&mut self) -> bool {
        let long = self.meters.iter_mut().filter(|counted| counted.period >= Period::Day);
        let mut forgot = false;
        for counted in long {
            let fresh = Rule::new(counted.under.clone()).fresh_meter();
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

    /// Whether the user stated the limit that `hint` tells of, or a lower one.
    pub fn is_stated(&self, hint: &RateHint) -> bool {
        self.rules().iter().any(|rule| {
            rule.limit.source == Source::Configured
                && rule.counts_like(hint.resource, hint.period)
                && hint.amount.is_some_and(|amount| rule.limit.amount.get() <= amount)
        })
    }

    /// Takes the provider's word on what a limit is: it replaces what we assumed. A call that left at `sent` was told.
    pub fn learn(&mut self, hint: &RateHint, sent: Moment, now: Moment) {
        if !self.is_stated(hint)
            && let Some(limit) = learned_limit(hint)
            && self.remember(limit, now)
            && let Some(effective) = self.rules.take()
        {
            self.rebuild(effective.configured, now);
            self.heed(hint, sent, now);
        }
    }

    /// Takes the provider's word on what is left of a limit that is known: never believe more than that.
    pub fn heed(&mut self, hint: &RateHint, sent: Moment, now: Moment) {
        let Some(remaining) = hint.remaining else { return };
        let Some(effective) = &self.rules else { return };
        for (rule, counted) in effective.rules.iter().zip(&mut self.meters) {
            let same_scale = hint.amount.is_none_or(|amount| amount == rule.limit.amount.get());
            if rule.counts_like(hint.resource, hint.period) && same_scale {
                let before = counted.meter.clone();
                counted.meter.tighten(rule, remaining, sent, now);
                self.changed |= counted.meter != before;
            }
        }
    }

    /// Whether the limit is news that changes a rule.
    fn remember(&mut self, limit: Limit, now: Moment) -> bool {
        /// A limit that is told again and again is written down again only now and then.
        const REFRESH: Duration = Duration::from_secs(3_600);
        let known = self.learned.iter_mut().find(|learned| {
            learned.limit.resource == limit.resource && learned.limit.period == limit.period
        });
        match known {
            Some(learned) if learned.limit == limit => {
                if now.since(learned.told_at) > REFRESH {
                    learned.told_at = now;
                    self.changed = true;
                }
                false
            }
            Some(learned) => {
                *learned = Learned { limit, told_at: now };
                self.changed = true;
                true
            }
            None => {
                self.learned.push(Learned { limit, told_at: now });
                self.changed = true;
                true
            }
        }
    }

    /// Counts what `other` counted as well: two groups turned out to be one.
    pub fn absorb(&mut self, other: &Ledger, now: Moment) {
        for learned in &other.learned {
            self.remember(learned.limit.clone(), learned.told_at);
        }
        for theirs in &other.meters {
            let ours = self
                .meters
                .iter_mut()
                .find(|ours| (ours.resource, ours.period) == (theirs.resource, theirs.period));
            match ours {
                Some(ours) => {
                    let used = theirs.meter.used(&Rule::new(theirs.under.clone()), 0, now);
                    ours.meter.take(&Rule::new(ours.under.clone()), used, now);
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
        self.changed = true;
    }

    /// What was counted here is counted elsewhere from now on; that a key is not valid stays true.
    pub fn move_out(&mut self) {
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
            .map(|(rule, meter)| {
                (
                    rule.limit.clone(),
                    meter.used(rule, self.in_flight, now),
                    meter.whole_at(rule, now),
                )
            })
            .collect()
    }

    /// How long answers of this model are: what to reserve for one that has not come yet.
    pub fn outputs(&self) -> &OutputSizes {
        &self.outputs
    }

    /// Remembers how long an answer was.
    pub fn saw_output(&mut self, tokens: u64) {
        self.outputs.saw(tokens);
        self.changed = true;
    }

    /// Whether there is something that must be stored; asking forgets it.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}

/// What holds in the end: the user's word, unless the provider allows less; the provider's word over our catalogue.
fn effective_limits(configured: &[Limit], learned: &[Learned]) -> Vec<Limit> {
    let mut limits: Vec<Limit> = configured.to_vec();
    for Learned { limit, .. } in learned {
        let known = limits
            .iter_mut()
            .find(|known| known.resource == limit.resource && known.period == limit.period);
        match known {
            Some(known) if known.source == Source::Configured && known.amount <= limit.amount => {}
            Some(known) => *known = limit.clone(),
            None => limits.push(limit.clone()),
        }
    }
    limits
}

fn learned_limit(hint: &RateHint) -> Option<Limit> {
    let amount = std::num::NonZeroU64::new(hint.amount?)?;
    let refill = if !hint.refills_continuously {
        Refill::Rolling
    } else if hint.resource == Resource::Requests && hint.period == Period::Minute {
        Refill::Bucket { burst: default_burst(amount) }
    } else {
        Refill::Bucket { burst: amount }
    };
    Some(Limit {
        resource: hint.resource,
        period: hint.period,
        amount,
        refill,
        source: Source::Provider,
    })
}
