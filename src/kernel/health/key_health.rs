//! The health of a key: how many of its latest attempts were served.
//!
//! Refusals for quota, credit, permission and the key itself take a quarter. Each answer gives back an eighth of what
//! is missing, and ten minutes restore everything. Among free lanes, keys below [`DEGRADED_BELOW`] come last.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::kernel::failure::{Failure, FailureClass};
use crate::kernel::moment::Moment;

/// 0 to 100: the share of a key's attempts that its provider served, recent ones counting most. Time heals: a key that
/// is left alone is well again after ten minutes.
///
/// Only what concerns the key counts against it: refusals for quota, credit, permission and the key itself. What the
/// provider broke, and what the caller asked wrongly, does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// In thousandths.
    points: u16,
    at: Moment,
}

const FULL: u16 = 1_000;
/// How long it takes from nothing to full without any attempt.
const HEALS_IN: Duration = Duration::from_secs(600);
/// Below this, in points of 100, a key is degraded.
pub const DEGRADED_BELOW: u8 = 70;

impl Default for Health {
    fn default() -> Self {
        Health { points: FULL, at: Moment::EPOCH }
    }
}

impl Health {
    /// Whether there is nothing to remember.
    pub(in crate::kernel) fn is_full(&self) -> bool {
        self.points >= FULL
    }

    fn thousandths(&self, now: Moment) -> u16 {
        let healed = now.since(self.at).as_millis() * u128::from(FULL) / HEALS_IN.as_millis();
        let healed = u16::try_from(healed.min(u128::from(FULL))).unwrap_or(FULL);
        (self.points + healed).min(FULL)
    }

    /// A clock that was stepped back has felt nothing in the future.
    pub(in crate::kernel) fn mend_clock(&mut self, now: Moment) {
        self.at = self.at.min(now);
    }

    /// From 0 to 100.
    ///
    /// ```
    /// use quotaflow::kernel::{Failure, FailureClass, Health, Moment, Scope};
    /// let now = Moment::from_seconds(1_800_000_000);
    /// let mut health = Health::default();
    /// health.record_attempt(Some(&Failure::new(FailureClass::RateLimited, Scope::GroupModel, "")), now);
    /// assert_eq!(health.percent(now), 75);
    /// assert_eq!(health.percent(now + std::time::Duration::from_secs(300)), 100);
    /// ```
    pub fn percent(&self, now: Moment) -> u8 {
        u8::try_from(self.thousandths(now) / 10).unwrap_or(100)
    }

    /// An attempt ended. Returns whether that changed anything.
    pub fn record_attempt(&mut self, failure: Option<&Failure>, now: Moment) -> bool {
        let before = self.thousandths(now);
        let points = match failure {
            None => before + (FULL - before).div_ceil(8),
            Some(failure) if is_the_keys(failure.class) => before - before / 4,
            Some(_) => return false,
        };
        if self.is_full() && points >= FULL {
            return false;
        }
        *self = Health { points, at: now };
        true
    }
}

const fn is_the_keys(class: FailureClass) -> bool {
    class.is_quota() || matches!(class, FailureClass::Auth | FailureClass::Permission)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Scope;

    const NOW: Moment = Moment::from_seconds(1_800_000_000);

    fn failure(class: FailureClass) -> Failure {
        Failure::new(class, Scope::Call, "")
    }

    #[test]
    fn what_the_provider_broke_or_the_caller_asked_wrongly_is_not_the_keys_fault() {
        for class in FailureClass::ALL {
            let mut health = Health::default();
            let changed = health.record_attempt(Some(&failure(class)), NOW);
            assert_eq!(changed, health.percent(NOW) < 100);
            assert_eq!(changed, is_the_keys(class), "{class}");
        }
    }

    #[test]
    fn answers_heal_and_so_does_time() {
        let mut health = Health::default();
        (0..20).for_each(|_| {
            _ = health.record_attempt(Some(&failure(FailureClass::RateLimited)), NOW)
        });
        assert!(health.percent(NOW) < 5);
        let mut by_answers = health;
        let answers = (1..).find(|_| {
            by_answers.record_attempt(None, NOW);
            by_answers.percent(NOW) == 100
        });
        assert!(answers.is_some_and(|answers| answers < 60));
        assert_eq!(health.percent(NOW + HEALS_IN), 100);
        assert!(health.percent(NOW + HEALS_IN / 2) < 60);
    }

    #[test]
    fn a_key_that_is_well_has_nothing_to_be_written_down() {
        let mut health = Health::default();
        assert!(!health.record_attempt(None, NOW));
        assert!(health.is_full());
    }

    #[test]
    fn a_clock_stepped_back_neither_heals_nor_harms() {
        let mut health = Health::default();
        health.record_attempt(Some(&failure(FailureClass::RateLimited)), NOW);
        assert_eq!(health.percent(NOW.before(Duration::from_secs(3_600))), 75);
    }
}
