//! Retries: exponential backoff, and a budget for the whole process.
//!
//! `RetryBudget` is shared by all calls of one interface. A retry after a back-off costs one. A first attempt earns
//! 0.2, and time earns ten a second, up to 100. The idea is the budget of Finagle and tower. Unlike theirs, a call
//! that finds the budget empty waits longer; it does not fail.

use std::time::Duration;

use crate::kernel::moment::Moment;

/// How often and how patiently a call is tried again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Attempts after the first one on a lane that was tried before; going to a fresh lane is free. Default 3.
    pub max_retries: u32,
    /// The first wait. Default 1 s.
    pub base: Duration,
    /// By how much each wait is longer than the one before; 1 or more. Default 2.
    pub multiplier: f64,
    /// The longest wait. Default 300 s.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            max_retries: 3,
            base: Duration::from_secs(1),
            multiplier: 2.0,
            cap: Duration::from_secs(300),
        }
    }
}

impl RetryPolicy {
    /// The wait before retry number `retry` (from 0): `min(cap, base × multiplier^retry × (1 + entropy / 2))`.
    ///
    /// `entropy` in `0.0..1.0` moves it upwards only: no retry comes earlier than the schedule says.
    ///
    /// ```
    /// use quotaflow::kernel::RetryPolicy;
    /// let policy = RetryPolicy::default();
    /// let waits: Vec<f64> = (0..4).map(|n| policy.backoff(n, 0.0).as_secs_f64()).collect();
    /// assert_eq!(waits, [1.0, 2.0, 4.0, 8.0]);
    /// assert_eq!(policy.backoff(0, 0.5).as_secs_f64(), 1.25);
    /// assert_eq!(policy.backoff(40, 0.9).as_secs(), 300);
    /// let steady = RetryPolicy { multiplier: 1.0, ..policy };
    /// assert_eq!(steady.backoff(7, 0.0).as_secs(), 1);
    /// ```
    pub fn backoff(&self, retry: u32, entropy: f64) -> Duration {
        let grown = self.base.as_secs_f64() * self.multiplier.max(1.0).powi(retry.min(64) as i32);
        let wait = grown * (1.0 + 0.5 * entropy.clamp(0.0, 1.0));
        Duration::from_secs_f64(wait.min(self.cap.as_secs_f64()))
    }
}

/// What all calls of a process may spend on retries together, so that a provider in trouble is not hammered.
///
/// By default first attempts earn a fifth of a retry each and time earns ten a second; what ten seconds earn is kept.
/// The idea is the budget of Finagle and tower; unlike theirs, a call that finds it empty waits instead of failing.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryBudget {
    /// Retries earned by each first attempt.
    share: f64,
    /// Retries earned by each second.
    reserve: f64,
    balance: f64,
    counted_at: Moment,
}

/// What is not spent is kept for this long.
const KEPT_SECONDS: f64 = 10.0;
/// A call that finds the budget empty never waits longer than this on its account.
const LONGEST: Duration = Duration::from_secs(300);

impl RetryBudget {
    /// A budget with all it can hold: `share` retries for each first attempt and `reserve` a second.
    pub fn new(share: f64, reserve: u32, now: Moment) -> Self {
        let reserve = f64::from(reserve);
        RetryBudget { share, reserve, balance: reserve * KEPT_SECONDS, counted_at: now }
    }

    fn most(&self) -> f64 {
        self.reserve * KEPT_SECONDS
    }

    /// A first attempt was made.
    pub fn earn(&mut self) {
        self.balance = (self.balance + self.share).min(self.most().max(1.0));
    }

    /// Pays for one retry and returns how long it must wait on top of its own back-off; zero while there is enough.
    ///
    /// ```
    /// use quotaflow::kernel::{Moment, RetryBudget};
    /// let now = Moment::from_seconds(1_800_000_000);
    /// let mut budget = RetryBudget::new(0.2, 10, now);
    /// let waits: Vec<_> = (0..111).map(|_| budget.pay(now)).collect();
    /// assert!(waits[..100].iter().all(|wait| wait.is_zero()));
    /// assert_eq!(waits[110].as_secs_f64(), 1.1);
    /// ```
    pub fn pay(&mut self, now: Moment) -> Duration {
        let passed = now.since(self.counted_at).as_secs_f64();
        let earned = self.balance + passed * self.reserve;
        self.balance = earned.min(self.most().max(1.0)) - 1.0;
        self.counted_at = now;
        let missing = (-self.balance).max(0.0) / self.reserve.max(0.1);
        Duration::from_secs_f64(missing.min(LONGEST.as_secs_f64()))
    }
}
