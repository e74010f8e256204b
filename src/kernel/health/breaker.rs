//! The circuit breaker of one target.
//!
//! It opens when at least five attempts of the last minute ended and half of the last twenty met an overload, a server
//! error, a timeout or a broken connection. It stays open for one second; each probe that fails doubles that, up to 60
//! s. While it is open, calls with another target go there at once. A call without one ignores it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::kernel::failure::{Failure, FailureClass};
use crate::kernel::moment::Moment;

/// The last attempts at one target, and whether it is open: closed to calls that have a choice.
///
/// The words are those of circuits, as everywhere: an *open* breaker lets nothing through, a *half-open* one lets one
/// attempt find out.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    recent: VecDeque<(Moment, bool)>,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    until: Moment,
    span: Duration,
    /// A probe is in flight; no other attempt passes before this instant.
    probe_until: Option<Moment>,
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// One attempt may find out now.
    HalfOpen,
    /// Nothing passes before this instant.
    Open(Moment),
}

/// Attempts that are older say nothing about now.
const WINDOW: Duration = Duration::from_secs(60);
/// No more attempts than this are judged.
const MOST: usize = 20;
/// Fewer attempts prove nothing.
const FEWEST: usize = 5;
/// For how long a breaker opens first, and at most: each probe that fails doubles it.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// How long a probe may take before the next attempt may be one.
const PROBE_LASTS: Duration = Duration::from_secs(60);

impl Breaker {
    /// Where it stands at `now`.
    pub fn state(&self, now: Moment) -> BreakerState {
        let Some(open) = &self.open else { return BreakerState::Closed };
        // A clock that was stepped back must not keep it open for longer than it was meant to be.
        let until = open.until.max(open.probe_until.unwrap_or(open.until));
        if until <= now || until.since(now) > PROBE_LASTS.max(open.span) {
            BreakerState::HalfOpen
        } else {
            BreakerState::Open(until)
        }
    }

    /// Whether an attempt may go there; if it is the probe, no other may until it has ended.
    ///
    /// ```
    /// use quotaflow::kernel::{Breaker, Failure, FailureClass, Moment, Scope};
    /// let now = Moment::from_seconds(1_800_000_000);
    /// let down = Failure::new(FailureClass::Overloaded, Scope::Call, "");
    /// let mut breaker = Breaker::default();
    /// for _ in 0..5 {
    ///     assert!(breaker.admits(now));
    ///     breaker.record(Some(&down), now);
    /// }
    /// assert!(!breaker.admits(now));
    /// let later = now + std::time::Duration::from_secs(1);
    /// assert!(breaker.admits(later) && !breaker.admits(later));
    /// ```
    pub fn admits(&mut self, now: Moment) -> bool {
        match self.state(now) {
            BreakerState::Closed => true,
            BreakerState::Open(_) => false,
            BreakerState::HalfOpen => {
                if let Some(open) = &mut self.open {
                    open.probe_until = Some(now + PROBE_LASTS);
                }
                true
            }
        }
    }

    /// An attempt ended. What says nothing about the target's health counts as health: the server answered.
    pub fn record(&mut self, failure: Option<&Failure>, now: Moment) {
        let trouble = failure.is_some_and(is_trouble);
        if !trouble && failure.is_some_and(|failure| failure.never_sent) {
            // It never came so far.
            return;
        }
        if !trouble && self.open.take().is_some() {
            // What was before is over.
            self.recent.clear();
        }
        if self.recent.len() >= MOST {
            self.recent.pop_front();
        }
        self.recent.push_back((now, trouble));
        if let Some(open) = &mut self.open {
            // The probe failed, or an attempt without another target did.
            if open.until <= now {
                let span = (open.span * 2).min(LONGEST);
                *open = Open { until: now + span, span, probe_until: None };
            }
            return;
        }
        if !trouble {
            return;
        }
        // Nothing listens there: no further proof is needed, and trying costs the caller time each time.
        let nobody_there = failure.is_some_and(|failure| failure.never_sent);
        if nobody_there || self.is_in_trouble(now) {
            self.open = Some(Open { until: now + FIRST, span: FIRST, probe_until: None });
        }
    }

    /// A probe ended without an outcome (its caller left): the next attempt may be one.
    pub fn abandon(&mut self) {
        if let Some(open) = &mut self.open {
            open.probe_until = None;
        }
    }

    /// At least half of the recent attempts met trouble, and there were enough of them.
    fn is_in_trouble(&self, now: Moment) -> bool {
        let recent = self.recent.iter().filter(|(at, _)| now.since(*at) < WINDOW);
        let (mut all, mut bad) = (0, 0);
        for (_, trouble) in recent {
            all += 1;
            bad += usize::from(*trouble);
        }
        all >= FEWEST && bad * 2 >= all
    }
}

/// Whether it is the target that is in trouble, and not the call, the key or its quota.
fn is_trouble(failure: &Failure) -> bool {
    matches!(
        failure.class,
        FailureClass::Overloaded
            | FailureClass::ServerError
            | FailureClass::Timeout
            | FailureClass::Network
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Scope;

    const NOW: Moment = Moment::from_seconds(1_800_000_000);

    fn failure(class: FailureClass) -> Failure {
        Failure::new(class, Scope::Call, "")
    }

    fn after(seconds: u64) -> Moment {
        NOW + Duration::from_secs(seconds)
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        (0..5).for_each(|_| breaker.record(Some(&failure(FailureClass::ServerError)), NOW));
        breaker
    }

    #[test]
    fn it_opens_when_half_of_enough_attempts_failed_and_not_before() {
        let mut breaker = Breaker::default();
        for good in [true, true, true, false, false] {
            breaker.record((!good).then_some(&failure(FailureClass::Timeout)), NOW);
            assert_eq!(breaker.state(NOW), BreakerState::Closed);
        }
        breaker.record(Some(&failure(FailureClass::Timeout)), NOW);
        assert_eq!(breaker.state(NOW), BreakerState::Open(after(1)));
    }

    #[test]
    fn refusals_for_quota_and_bad_keys_say_nothing_about_the_target() {
        let mut breaker = Breaker::default();
        for class in [FailureClass::RateLimited, FailureClass::Auth, FailureClass::InvalidRequest] {
            (0..20).for_each(|_| breaker.record(Some(&failure(class)), NOW));
        }
        assert_eq!(breaker.state(NOW), BreakerState::Closed);
    }

    #[test]
    fn old_trouble_is_no_trouble() {
        let mut breaker = Breaker::default();
        (0..4).for_each(|_| breaker.record(Some(&failure(FailureClass::ServerError)), NOW));
        (0..4).for_each(|_| breaker.record(None, after(61)));
        breaker.record(Some(&failure(FailureClass::ServerError)), after(61));
        assert_eq!(breaker.state(after(61)), BreakerState::Closed);
    }

    #[test]
    fn one_probe_finds_out_and_an_answer_closes_it() {
        let mut breaker = opened();
        assert!(!breaker.admits(NOW));
        assert!(breaker.admits(after(1)));
        assert!(!breaker.admits(after(1)), "one probe at a time");
        breaker.record(None, after(2));
        assert_eq!(breaker.state(after(2)), BreakerState::Closed);
    }

    #[test]
    fn each_probe_that_fails_doubles_the_rest_up_to_a_minute() {
        let mut breaker = opened();
        let mut now = NOW;
        let mut rests = Vec::new();
        for _ in 0..8 {
            let BreakerState::Open(until) = breaker.state(now) else { panic!("it is open") };
            rests.push((until - now).as_secs());
            now = until;
            assert!(breaker.admits(now));
            breaker.record(Some(&failure(FailureClass::ServerError)), now);
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn where_nobody_listens_one_attempt_is_proof() {
        let mut breaker = Breaker::default();
        (0..20).for_each(|_| breaker.record(None, NOW));
        let refused = Failure { never_sent: true, ..failure(FailureClass::Network) };
        breaker.record(Some(&refused), NOW);
        assert!(!breaker.admits(NOW));
    }

    #[test]
    fn a_probe_whose_caller_left_frees_the_place() {
        let mut breaker = opened();
        assert!(breaker.admits(after(1)));
        breaker.abandon();
        assert!(breaker.admits(after(1)));
    }

    #[test]
    fn a_clock_stepped_back_an_hour_does_not_keep_it_open_for_an_hour() {
        let mut breaker = opened();
        assert!(breaker.admits(NOW.before(Duration::from_secs(3_600))));
    }
}
