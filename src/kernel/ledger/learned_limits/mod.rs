//! Learned limits: from headers and refusals, with the time they hold.
//!
//! A limit from a header or a body is learned for the (group, model) it was sent for, for seven days after it was
//! stated, or found right, last. It was found right when an answer came although hardly anything was left. The smaller
//! of the user's and the provider's limit holds.
//!
//! Where nothing is configured, requests are counted in a limit too large to hold anything up ([`only_watches`]). A
//! refusal for coming too fast turns it into as many requests a minute as were accepted. After a minute without a
//! refusal in which that was needed, a quarter more is tried; an eighth once something was refused. What was refused
//! once is tried again after a day. No refusal takes away more than half.
//!
//! If the provider stated its limit and refuses all the same, the burst was too large: it is halved, and grows again
//! while that is enough. A limit that was stated a month ago, is used up and was not stated since may be larger by now:
//! an eighth more is tried.

use std::num::NonZeroU64;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::kernel::limits::{Limit, Period, Refill, Resource, Source};
use crate::kernel::meters::default_burst;
use crate::kernel::moment::Moment;
use crate::kernel::rate_hint::RateHint;

/// How long a lesson is believed when it is not taught again.
const LASTS: Duration = Duration::from_secs(7 * 86_400);
/// A lesson that is taught again and again is written down again only now and then.
const REFRESH: Duration = Duration::from_secs(3_600);
const DOUBLED: NonZeroU64 = NonZeroU64::new(2).unwrap();
/// More than is ever sent: requests are watched, and nothing limits them yet.
const UNBOUNDED: NonZeroU64 = NonZeroU64::new(1 << 50).unwrap();
/// How long a rate that was found out must have been enough before a little more is tried.
const TRY_MORE_AFTER: Duration = Duration::from_secs(60);
/// A burst is never made smaller than this share of a minute's limit: what a request may be late on its way would cost
/// more than half of the rate otherwise.
const SMALLEST_BURST_SHARE: u64 = 600;
/// As few requests as this teach no rate: whatever refused one of them was no limit on a minute's.
const FEWEST_ACCEPTED: u64 = 4;
/// How long a limit that was stated is believed while it is used and not stated again, until a little more is tried.
const BELIEVED_FOR: Duration = Duration::from_secs(30 * 86_400);
/// The same once more was tried and refused.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(86_400);

/// One limit that was learned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Lesson {
    limit: Limit,
    told_at: Moment,
    /// When it was found right last.
    #[serde(default)]
    heard_at: Moment,
    /// The largest burst that was not refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    burst: Option<NonZeroU64>,
    /// As much as this was refused when it was tried last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ceiling: Option<NonZeroU64>,
}

/// All that was learned about one ledger's limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(in crate::kernel) struct LearnedLimits(Vec<Lesson>);

/// What was accepted before a request was refused for coming too fast.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernel) struct Refused {
    /// Requests the provider took in the last minute.
    pub(in crate::kernel) accepted: u64,
    /// When the refused request left.
    pub(in crate::kernel) sent: Moment,
    /// The provider said that nothing is left of a limit: the count was wrong, not the limit.
    pub(in crate::kernel) is_used_up: bool,
}

impl LearnedLimits {
    pub(in crate::kernel) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether there was anything to forget.
    pub(in crate::kernel) fn forget_old(&mut self, now: Moment) -> bool {
        let before = self.0.len();
        let is_fresh = |lesson: &Lesson| now.since(lesson.heard_at.max(lesson.told_at)) < LASTS;
        self.0.retain(|lesson| is_fresh(lesson) || only_watches(&lesson.limit));
        before != self.0.len()
    }

    /// A clock that was stepped back has taught nothing in the future.
    pub(in crate::kernel) fn mend_clock(&mut self, now: Moment) {
        for lesson in &mut self.0 {
            lesson.told_at = lesson.told_at.min(now);
            lesson.heard_at = lesson.heard_at.min(now);
        }
    }

    /// When a limit was learned; `None` for one that was not.
    pub(in crate::kernel) fn told_at(&self, limit: &Limit) -> Option<Moment> {
        let learned = matches!(limit.source, Source::Provider | Source::Observed);
        self.of(limit.resource, limit.period).filter(|_| learned).map(|lesson| lesson.told_at)
    }

    fn of(&self, resource: Resource, period: Period) -> Option<&Lesson> {
        self.0.iter().find(|known| known.limit.resource == resource && known.limit.period == period)
    }

    fn of_mut(&mut self, resource: Resource, period: Period) -> Option<&mut Lesson> {
        let same = |lesson: &&mut Lesson| {
            lesson.limit.resource == resource && lesson.limit.period == period
        };
        self.0.iter_mut().find(same)
    }

    /// What holds in the end: the user's word, unless the provider allows less; the provider's word over our catalogue.
    pub(in crate::kernel) fn laid_over(&self, configured: &[Limit]) -> Vec<Limit> {
        let mut limits: Vec<Limit> = configured.to_vec();
        for lesson in &self.0 {
            let limit = lesson.in_force();
            let known = limits
                .iter_mut()
                .find(|known| known.resource == limit.resource && known.period == limit.period);
            match known {
                Some(known)
                    if known.source == Source::Configured && known.amount <= limit.amount => {}
                Some(known) => *known = limit,
                None => limits.push(limit),
            }
        }
        limits
    }

    /// Takes in a limit that the provider stated. Returns whether a rule changes by it.
    pub(in crate::kernel) fn observe(&mut self, hint: &RateHint, now: Moment) -> bool {
        told_limit(hint).is_some_and(|limit| self.remember(limit, now))
    }

    fn remember(&mut self, limit: Limit, now: Moment) -> bool {
        match self.of_mut(limit.resource, limit.period) {
            Some(lesson) if lesson.limit == limit => false,
            Some(lesson) => {
                let burst = lesson.burst.filter(|_| lesson.limit.amount == limit.amount);
                *lesson = Lesson { limit, told_at: now, heard_at: now, burst, ceiling: None };
                true
            }
            None => {
                self.0.push(Lesson {
                    limit,
                    told_at: now,
                    heard_at: now,
                    burst: None,
                    ceiling: None,
                });
                true
            }
        }
    }

    /// A limit that was stated before was stated again. Returns whether that must be written down.
    pub(in crate::kernel) fn refresh(&mut self, hint: &RateHint, now: Moment) -> bool {
        let Some(lesson) = self.of_mut(hint.resource, hint.period) else { return false };
        let is_old = now.since(lesson.told_at) > REFRESH;
        if is_old {
            lesson.told_at = now;
        }
        is_old
    }

    /// The lessons of another ledger that turned out to be of the same group.
    pub(in crate::kernel) fn absorb(&mut self, other: &LearnedLimits) {
        for lesson in &other.0 {
            let ours = self.of(lesson.limit.resource, lesson.limit.period);
            let is_better = |ours: &Lesson| {
                only_watches(&lesson.limit)
                    || (!only_watches(&ours.limit) && ours.told_at >= lesson.told_at)
            };
            if ours.is_some_and(is_better) {
                continue;
            }
            if self.remember(lesson.limit.clone(), lesson.told_at)
                && let Some(ours) = self.of_mut(lesson.limit.resource, lesson.limit.period)
            {
                (ours.burst, ours.ceiling) = (lesson.burst, lesson.ceiling);
            }
        }
    }

    /// From now on requests are counted although nothing is known to limit them, so that a refusal can teach how many
    /// were too many. Returns whether that is news.
    pub(in crate::kernel) fn watch(&mut self, now: Moment) -> bool {
        if self.pace().is_some() {
            return false;
        }
        self.remember(observed(UNBOUNDED), now)
    }

    /// The lesson about requests over a minute or less, the watched one included.
    fn pace(&self) -> Option<&Lesson> {
        self.0.iter().find(|known| is_pace(&known.limit))
    }

    fn pace_mut(&mut self) -> Option<&mut Lesson> {
        self.0.iter_mut().find(|known| is_pace(&known.limit))
    }

    /// A request was refused for coming too fast, although all that was known allowed it. Returns whether a rule
    /// changes.
    pub(in crate::kernel) fn was_refused(&mut self, refused: Refused, now: Moment) -> bool {
        let Some(lesson) = self.pace_mut() else { return false };
        // What left before the lesson was taught proves nothing about it.
        if refused.is_used_up || refused.sent < lesson.told_at {
            return false;
        }
        if lesson.limit.source == Source::Observed {
            return lesson.found_too_much(refused.accepted, now);
        }
        // The amount is the provider's word, so it is the burst that was too much.
        let before = lesson.burst_in_force();
        let least = lesson.limit.amount.get() / SMALLEST_BURST_SHARE + 1;
        let half = (before.get() / 2).max(least).min(before.get());
        let Some(half) = NonZeroU64::new(half) else { return false };
        (lesson.burst, lesson.ceiling) = (Some(half), Some(before));
        (lesson.told_at, lesson.heard_at) = (now, now);
        half != before
    }

    /// An answer came although hardly anything was left of this limit: it is right. One that was found out may be more
    /// than it was found to be. Returns whether a rule changes, and whether anything must be written down.
    pub(in crate::kernel) fn was_enough(
        &mut self,
        resource: Resource,
        period: Period,
        now: Moment,
    ) -> (bool, bool) {
        let Some(lesson) = self.of_mut(resource, period) else { return (false, false) };
        let more = match lesson.limit.source {
            Source::Observed => lesson.try_more(now),
            _ if lesson.burst.is_some() => lesson.try_larger_burst(now),
            _ => lesson.try_more_than_told(now),
        };
        (more, more || lesson.is_right(now))
    }
}

fn is_pace(limit: &Limit) -> bool {
    limit.resource == Resource::Requests && limit.period <= Period::Minute
}

/// Whether this limit is only there to count.
pub(in crate::kernel) fn only_watches(limit: &Limit) -> bool {
    limit.source == Source::Observed && limit.amount == UNBOUNDED
}

fn observed(amount: NonZeroU64) -> Limit {
    let (resource, period, source) = (Resource::Requests, Period::Minute, Source::Observed);
    Limit { resource, period, amount, refill: Refill::Rolling, source }
}

impl Lesson {
    fn burst_in_force(&self) -> NonZeroU64 {
        let usual = match self.limit.refill {
            Refill::Bucket { burst } => burst,
            _ => default_burst(self.limit.amount),
        };
        self.burst.map_or(usual, |burst| burst.min(usual))
    }

    /// The limit with what refusals taught about its bursts. What may be taken in any order over a window until it was
    /// refused in a burst is counted as a bucket from then on.
    fn in_force(&self) -> Limit {
        let burst = self.burst_in_force();
        let refill = match &self.limit.refill {
            Refill::Bucket { .. } => Refill::Bucket { burst },
            Refill::Rolling if self.burst.is_some() => Refill::Bucket { burst },
            other => other.clone(),
        };
        Limit { refill, ..self.limit.clone() }
    }

    fn found_too_much(&mut self, accepted: u64, now: Moment) -> bool {
        let before = self.limit.amount;
        let known = before != UNBOUNDED;
        if !known && accepted < FEWEST_ACCEPTED {
            return false;
        }
        // Other programs may have used the quota: nothing is made smaller than half at once.
        let least = if known { before.get() / 2 } else { 0 };
        let most = if known { before.get() - 1 } else { before.get() };
        let Some(amount) = NonZeroU64::new(accepted.max(least).min(most)) else { return false };
        self.limit = observed(amount);
        (self.told_at, self.heard_at) = (now, now);
        self.ceiling = known.then_some(before);
        true
    }

    /// It was found right. Returns whether that must be written down.
    fn is_right(&mut self, now: Moment) -> bool {
        let is_old = now.since(self.heard_at) > REFRESH;
        if is_old {
            self.heard_at = now;
        }
        is_old
    }

    /// A burst that was made smaller is doubled while that is enough.
    fn try_larger_burst(&mut self, now: Moment) -> bool {
        let next = self.burst_in_force().saturating_mul(DOUBLED);
        let is_doubtful = self.ceiling.is_some_and(|ceiling| next >= ceiling);
        let rest = if is_doubtful { TRY_AGAIN_AFTER } else { TRY_MORE_AFTER };
        if now.since(self.told_at) < rest {
            return false;
        }
        self.burst = Some(next);
        if self.burst_in_force() < next {
            (self.burst, self.ceiling) = (None, None);
        }
        (self.told_at, self.heard_at) = (now, now);
        true
    }

    /// A provider that stated a limit a month ago, and states it only when it is met, may allow more by now.
    fn try_more_than_told(&mut self, now: Moment) -> bool {
        let amount = self.limit.amount.get();
        let Some(next) = NonZeroU64::new(amount + (amount / 8).max(1)) else { return false };
        if now.since(self.told_at) < BELIEVED_FOR {
            return false;
        }
        self.limit.amount = next;
        (self.told_at, self.heard_at) = (now, now);
        true
    }

    fn try_more(&mut self, now: Moment) -> bool {
        let amount = self.limit.amount.get();
        let step = if self.ceiling.is_some() { amount / 8 } else { amount / 4 };
        let Some(next) = NonZeroU64::new(amount + step.max(1)) else { return false };
        let is_doubtful = self.ceiling.is_some_and(|ceiling| next >= ceiling);
        let rest = if is_doubtful { TRY_AGAIN_AFTER } else { TRY_MORE_AFTER };
        if now.since(self.told_at) < rest {
            return false;
        }
        self.limit = observed(next);
        (self.told_at, self.heard_at) = (now, now);
        self.ceiling = self.ceiling.filter(|_| !is_doubtful);
        true
    }
}

fn told_limit(hint: &RateHint) -> Option<Limit> {
    let amount = NonZeroU64::new(hint.amount?)?;
    let refill = if let Some(zone) = hint.zone {
        Refill::Calendar { zone: zone.to_owned() }
    } else if !hint.refills_continuously {
        Refill::Rolling
    } else if hint.resource == Resource::Requests && hint.period == Period::Minute {
        Refill::Bucket { burst: default_burst(amount) }
    } else {
        Refill::Bucket { burst: amount }
    };
    let (resource, period) = (hint.resource, hint.period);
    Some(Limit { resource, period, amount, refill, source: Source::Provider })
}

#[cfg(test)]
mod tests;
