//! The state machine of one call: retry, fall back, wait or give up.
//!
//! The engine passes in what happened ([`Event`]) and carries out what comes back ([`Action`]). The machine has no
//! clock and no randomness of its own, so each path through it is a short test.
//!
//! A call visits each lane of a target once without using up a retry. It goes to the next target when a failure allows
//! it, or when everything here is closed for longer than it can wait. A limit of its user ends the call, wherever it
//! could go.

pub(super) mod retry;

use std::time::Duration;

use super::failure::{Failure, FailureClass, Origin, SameLane};
use super::ledger::Obstacle;
use super::moment::Moment;
use super::reserve::demand::Patience;
use super::reserve::refusal::Refusal;
use retry::RetryPolicy;

/// What a call may do.
#[derive(Clone, Debug, PartialEq)]
pub struct CallPolicy {
    /// Whether an attempt that failed may be tried again (`retry=`).
    pub retry: bool,
    /// How often and how patiently, at each target of the route: the primary, then the fallbacks.
    pub retries: Vec<RetryPolicy>,
    /// Whether the call may go to the next target (`fallback=`).
    pub fallback: bool,
    /// When the caller's patience ends.
    pub deadline: Option<Moment>,
    /// The longest a call without a deadline waits for one lane to open; waiting behind others is not counted.
    pub max_wait: Duration,
}

/// What happened. Small, because each waiting call keeps one.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The call begins.
    Begin,
    /// A lane was reserved.
    Reserved {
        /// Its place in the target.
        lane: usize,
    },
    /// No lane of the target can take it now, or a limit of its user does not allow it.
    NotNow(Box<Refusal>),
    /// The target is in trouble, and the call has somewhere else to go.
    InTrouble,
    /// Others wait for this target already.
    OthersWait,
    /// No lane of the target can ever take it.
    Never(Option<Box<Refusal>>),
    /// The waiting line is full.
    LineFull,
    /// So many go before it that it cannot be its turn in time.
    TooLate(Late),
    /// An answer came.
    Answered,
    /// The attempt failed.
    Failed {
        /// How.
        failure: Box<Failure>,
        /// How long the process-wide retry budget wants a retry to wait.
        budget_wait: Duration,
        /// Randomness in `0.0..1.0`.
        entropy: f64,
    },
    /// The pause is over.
    Rested,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Reserve a lane of this target now, or say why not.
    Reserve {
        /// The place of the target in the route.
        target: usize,
        /// Lanes this call must not use.
        excluded: Vec<usize>,
        /// Everything is closed: a lane that only our guess closes may be tried.
        last_resort: bool,
    },
    /// Stand in the target's line until a lane is reserved; give up when the head of the line would have to wait
    /// until after `patience`.
    Wait {
        /// The place of the target in the route.
        target: usize,
        /// Lanes this call must not use.
        excluded: Vec<usize>,
        /// The latest instant worth waiting for, as seen from the head of the line.
        patience: Patience,
    },
    /// Send it down the reserved lane.
    Send,
    /// Do nothing until then.
    Rest(Moment),
    /// Hand the answer to the caller.
    Succeed,
    /// Tell the caller why there is none.
    GiveUp(GiveUp),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq)]
pub enum GiveUp {
    /// The last attempt failed and nothing else may be tried.
    Failed(Box<Failure>),
    /// Everything is closed, or a limit of its user is used up, until an instant that is too far away.
    TooFar(Box<Refusal>),
    /// The request is larger than the limits of every lane, or than one of its user.
    TooLarge(Box<Refusal>),
    /// There is no key that could be used.
    NoLane,
    /// The waiting line is full.
    LineFull,
    /// It cannot be its turn in time.
    TooLate(Late),
}

/// A place in a waiting line that is too far back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late {
    /// How many go before it, at least.
    pub ahead: u64,
    /// When it could be its turn at the earliest; `None`: not for months.
    pub at: Option<Moment>,
}

/// One call on its way.
#[derive(Clone, Debug)]
pub struct Call {
    policy: CallPolicy,
    target: usize,
    lane: Option<usize>,
    tried: Vec<usize>,
    excluded: Vec<usize>,
    retries: u32,
    rested: bool,
    /// Whether it tried what only our guess closes.
    tried_last_resort: bool,
    /// Whether it stood in a line since it was sent last: what may be given back was waited for there.
    waited_for_refund: bool,
    last_failure: Option<Box<Failure>>,
    refused: Option<Box<(usize, GiveUp)>>,
    /// The target whose word the call ends with.
    blamed: usize,
}

impl Call {
    /// A call that has not begun.
    pub fn new(policy: CallPolicy) -> Self {
        Call {
            policy,
            target: 0,
            lane: None,
            tried: Vec::new(),
            excluded: Vec::new(),
            retries: 0,
            rested: false,
            tried_last_resort: false,
            waited_for_refund: false,
            last_failure: None,
            refused: None,
            blamed: 0,
        }
    }

    /// The target it is at.
    pub fn target(&self) -> usize {
        self.target
    }

    /// The target whose word the call ended with, once it gave up.
    pub fn blamed(&self) -> usize {
        self.blamed
    }

    /// It has to be over by `end`, if not earlier, from now on.
    pub fn ends_by(&mut self, end: Moment) {
        self.policy.deadline = Some(self.policy.deadline.map_or(end, |known| known.min(end)));
    }

    /// Whether it had its turn at this target before.
    pub fn comes_back(&self) -> bool {
        !self.tried.is_empty()
    }

    /// Takes in what happened at `now` and returns what to do.
    pub fn step(&mut self, now: Moment, event: Event) -> Action {
        match event {
            Event::Begin | Event::Rested => self.reserve(),
            Event::Reserved { lane } => self.send(lane),
            Event::OthersWait => self.wait(),
            Event::NotNow(refusal) if self.can_wait_for(&refusal, now) => self.wait(),
            Event::NotNow(refusal) if self.can_doubt(&refusal) => {
                self.tried_last_resort = true;
                let (target, excluded) = (self.target, self.excluded.clone());
                Action::Reserve { target, excluded, last_resort: true }
            }
            // It would stand in the way at every key and every target.
            Event::NotNow(refusal) if refusal.is_by_user() => {
                self.refused_by_user(GiveUp::TooFar(refusal))
            }
            Event::NotNow(refusal) => self.next_target(GiveUp::TooFar(refusal)),
            Event::InTrouble => self.fall_back(),
            Event::Never(Some(refusal)) if refusal.is_by_user() => {
                self.refused_by_user(GiveUp::TooLarge(refusal))
            }
            Event::Never(Some(refusal)) => self.next_target(GiveUp::TooLarge(refusal)),
            Event::Never(None) => self.next_target(GiveUp::NoLane),
            Event::LineFull => self.next_target(GiveUp::LineFull),
            Event::TooLate(late) => self.next_target(GiveUp::TooLate(late)),
            Event::Answered => Action::Succeed,
            Event::Failed { failure, budget_wait, entropy } => {
                self.after(failure, budget_wait, entropy, now)
            }
        }
    }

    fn patience(&self) -> Patience {
        match self.policy.deadline {
            Some(deadline) => Patience::Until(deadline),
            None => Patience::AtHead(self.policy.max_wait),
        }
    }

    fn can_wait_for(&self, refusal: &Refusal, now: Moment) -> bool {
        let may_wait = refusal.is_by_user() || self.may_wait_for_refund();
        refusal.is_worth_waiting(self.patience(), now)
            || (refusal.may_return && may_wait && !self.waited_for_refund)
    }

    /// Whether it waits, as long as it can, for what calls in flight may give back although quota is known to come
    /// later than that: it has nowhere else to go.
    pub fn may_wait_for_refund(&self) -> bool {
        !self.has_next_target()
    }

    /// A limit of its user ends the call. What failed before is why there is no answer.
    fn refused_by_user(&mut self, reason: GiveUp) -> Action {
        let Some(mut failure) = self.last_failure.take() else {
            self.blamed = self.target;
            return Action::GiveUp(reason);
        };
        if let Some(obstacle) = reason.obstacle() {
            failure.message = format!(
                "{}; it was not tried again because of a limit of its user: {obstacle}",
                failure.message
            );
        }
        Action::GiveUp(GiveUp::Failed(failure))
    }

    /// Nothing else is left to try, and what stands in the way is only our guess.
    fn can_doubt(&self, refusal: &Refusal) -> bool {
        let is_guess =
            matches!(&refusal.obstacle, Obstacle::Block(block) if block.origin == Origin::Guess);
        is_guess && !self.tried_last_resort && !self.has_next_target()
    }

    fn reserve(&self) -> Action {
        let (target, excluded) = (self.target, self.excluded.clone());
        Action::Reserve { target, excluded, last_resort: false }
    }

    fn wait(&mut self) -> Action {
        self.waited_for_refund = true;
        let (target, excluded) = (self.target, self.excluded.clone());
        Action::Wait { target, excluded, patience: self.patience() }
    }

    fn send(&mut self, lane: usize) -> Action {
        self.lane = Some(lane);
        self.waited_for_refund = false;
        // The first visit to each lane is free, unless it follows a pause: what the provider broke is no lane's fault.
        let fresh = !self.tried.contains(&lane);
        if fresh {
            self.tried.push(lane);
        }
        if !fresh || std::mem::take(&mut self.rested) {
            self.retries += 1;
        }
        Action::Send
    }

    fn after(
        &mut self,
        failure: Box<Failure>,
        budget_wait: Duration,
        entropy: f64,
        now: Moment,
    ) -> Action {
        let remedy = failure.remedy();
        let tried = self.lane.take();
        let until = failure.until.map(|until| until.at);
        self.last_failure = Some(failure);
        self.blamed = self.target;
        if !self.policy.retry {
            return if remedy.next_target { self.fall_back() } else { self.fail() };
        }
        let silent = self.last_failure.as_ref().is_some_and(|failure| {
            matches!(failure.class, FailureClass::Network | FailureClass::Timeout)
        });
        let retry_left = self.retries < self.allowed_retries(remedy.same_lane, silent);
        match remedy.same_lane {
            SameLane::AfterBackoff if retry_left => {
                let backoff = self.retries_here().backoff(self.retries, entropy);
                let rest = (now + backoff + budget_wait).max(until.unwrap_or(now));
                if !self.patience().covers(rest, now) {
                    return self.fall_back();
                }
                self.rested = true;
                Action::Rest(rest)
            }
            SameLane::AfterBlock if retry_left => self.reserve(),
            _ if remedy.other_group || remedy.other_key => {
                // The lanes that failed are done for this call; fresh ones are still open to it.
                self.excluded.extend(match remedy.same_lane {
                    SameLane::Never => tried.into_iter().collect(),
                    _ => self.tried.clone(),
                });
                self.excluded.dedup();
                self.reserve()
            }
            _ if remedy.next_target => self.fall_back(),
            _ => self.fail(),
        }
    }

    /// With somewhere else to go, a target in trouble gets one more chance and not all of them; none if it did not
    /// even say that it is.
    fn allowed_retries(&self, same_lane: SameLane, silent: bool) -> u32 {
        let most = self.retries_here().max_retries;
        if same_lane == SameLane::AfterBackoff && self.has_next_target() {
            most.min(u32::from(!silent))
        } else {
            most
        }
    }

    /// Whether there is a target after the one it is at.
    pub fn has_next_target(&self) -> bool {
        self.policy.fallback && self.target + 1 < self.policy.retries.len()
    }

    fn retries_here(&self) -> RetryPolicy {
        self.policy.retries.get(self.target).copied().unwrap_or_default()
    }

    fn fall_back(&mut self) -> Action {
        if self.has_next_target() {
            self.target += 1;
            self.tried.clear();
            self.excluded.clear();
            self.retries = 0;
            self.rested = false;
            return self.reserve();
        }
        self.fail()
    }

    fn next_target(&mut self, refused: GiveUp) -> Action {
        // What the first target said is what the caller can act upon.
        self.refused.get_or_insert_with(|| Box::new((self.target, refused)));
        self.fall_back()
    }

    fn fail(&mut self) -> Action {
        Action::GiveUp(match (self.last_failure.take(), self.refused.take()) {
            (Some(failure), _) => GiveUp::Failed(failure),
            (None, Some(first)) => {
                let (target, refused) = *first;
                self.blamed = target;
                refused
            }
            (None, None) => GiveUp::NoLane,
        })
    }
}

impl GiveUp {
    /// The first instant at which trying again makes sense, if it is known.
    pub fn retry_at(&self) -> Option<Moment> {
        match self {
            GiveUp::Failed(failure) => failure.until.map(|until| until.at),
            GiveUp::TooFar(refusal) => refusal.at,
            GiveUp::TooLarge(_) | GiveUp::NoLane | GiveUp::LineFull | GiveUp::TooLate(_) => None,
        }
    }

    /// What stood in the way, if it was a ledger.
    pub fn obstacle(&self) -> Option<&Obstacle> {
        match self {
            GiveUp::TooFar(refusal) | GiveUp::TooLarge(refusal) => Some(&refusal.obstacle),
            GiveUp::Failed(_) | GiveUp::NoLane | GiveUp::LineFull | GiveUp::TooLate(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
