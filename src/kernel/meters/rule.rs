//! Rules: a limit made ready for counting.

use std::time::Duration;

use crate::kernel::limits::{Limit, Period, Refill, Resource};
use crate::kernel::moment::Moment;

/// Whether an amount can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Now.
    Now,
    /// Not before this instant, if nothing is taken until then.
    At(Moment),
    /// When a call in flight ends; that instant is unknown.
    WhenOneEnds,
    /// Never: it is more than the limit can hold.
    Never {
        /// The most that can ever be taken at once.
        most: u64,
    },
}

/// A limit made ready for counting: what does not change from call to call is worked out once.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The limit as it was stated.
    pub limit: Limit,
    /// How late a request may reach the provider after it was counted here. What is given back by time is given back
    /// this much later, so that a provider that saw the requests later does not see too many.
    pub guard: Duration,
    pub(super) zone: jiff::tz::TimeZone,
}

/// How much later a provider may see a request than it was counted here: connection set-up and queueing on the way.
const ARRIVAL_GUARD: Duration = Duration::from_millis(100);
/// How far a provider's wall clock may differ when a civil day turns.
const CLOCK_GUARD: Duration = Duration::from_secs(2);

impl Rule {
    /// Makes a limit ready. A zone that the tz database does not know counts as UTC; config refuses it earlier.
    pub fn new(limit: Limit) -> Self {
        let (guard, zone) = match &limit.refill {
            Refill::Calendar { zone } => {
                (CLOCK_GUARD, jiff::tz::TimeZone::get(zone).unwrap_or(jiff::tz::TimeZone::UTC))
            }
            _ => (ARRIVAL_GUARD, jiff::tz::TimeZone::UTC),
        };
        Rule { limit, guard, zone }
    }

    /// Whether two rules count the same thing.
    pub fn counts_like(&self, resource: Resource, period: Period) -> bool {
        self.limit.resource == resource && self.limit.period == period
    }

    /// The most that can pass at once.
    pub fn most(&self) -> u64 {
        match self.limit.refill {
            Refill::Bucket { burst } => burst.get().min(self.amount()),
            _ => self.amount(),
        }
    }

    /// What must be there for `amount` to be taken while the last `kept` thousandths of what the limit can hold stay
    /// untouched, for those who matter more: of a bucket those of its burst. What takes more than the rest all by
    /// itself needs all there is.
    pub fn with_kept(&self, amount: u64, kept: u16) -> u64 {
        let most = self.most();
        if amount == 0 || kept == 0 || amount > most {
            return amount;
        }
        let kept = u128::from(most) * u128::from(kept) / 1000;
        amount.saturating_add(u64::try_from(kept).unwrap_or(u64::MAX)).min(most)
    }

    pub(super) fn amount(&self) -> u64 {
        self.limit.amount.get()
    }

    pub(super) fn window(&self) -> Duration {
        self.limit.period.length()
    }
}
