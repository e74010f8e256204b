//! What does one `send_prompt` do next?
//!
//! The whole of a call is this state machine: the engine feeds it what happened and does what it says. It holds no
//! time and no randomness of its own, so every path through it can be tested in a line.

use std::time::Duration;

use super::choose::Refusal;
use super::failure::{Failure, FailureClass, Origin, SameLane};
use super::ledger::Obstacle;
use super::moment::Moment;
use super::own_limit::OwnLimit;
use super::retry::RetryPolicy;

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

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The call begins.
    Begin,
    /// A lane was reserved.
    Reserved {
        /// Its place in the target.
        lane: usize,
    },
    /// No lane of the target can take it now.
    NotNow(Refusal),
    /// The target is in trouble, and the call has somewhere else to go.
    InTrouble,
    /// Others wait for this target already.
    OthersWait,
    /// No lane of the target can ever take it.
    Never(Option<Refusal>),
    /// The waiting line is full.
    LineFull,
    /// A limit of the caller itself stands in the way, wherever it goes.
    OwnLimit(OwnLimit),
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
        barred: Vec<usize>,
        /// Everything is closed: a lane that only our guess closes may be tried.
        last_resort: bool,
    },
    /// Stand in the target's line until a lane is reserved; give up when the head of the line would have to wait
    /// until after `patience`.
    Wait {
        /// The place of the target in the route.
        target: usize,
        /// Lanes this call must not use.
        barred: Vec<usize>,
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

/// How long something may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Until this instant.
    Until(Moment),
    /// This long from whenever the call is at the head of the line.
    AtHead(Duration),
}

impl Patience {
    /// Whatever it takes.
    pub const FOR_EVER: Patience = Patience::Until(Moment::FAR_FUTURE);

    /// Whether something that happens `at` can be waited for.
    pub fn covers(self, at: Moment, now: Moment) -> bool {
        match self {
            Patience::Until(end) => at <= end,
            Patience::AtHead(span) => at.since(now) <= span,
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq)]
pub enum GiveUp {
    /// The last attempt failed and nothing else may be tried.
    Failed(Box<Failure>),
    /// Everything is closed until an instant that is too far away.
    TooFar(Refusal),
    /// The request is larger than the limits of every lane.
    TooLarge(Refusal),
    /// There is no key that could be used.
    NoLane,
    /// The waiting line is full.
    LineFull,
    /// A limit of the caller itself stands in the way.
    OwnLimit(OwnLimit),
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
    barred: Vec<usize>,
    retries: u32,
    rested: bool,
    /// Whether it tried what only our guess closes.
    tried_last_resort: bool,
    /// Whether it stood in a line since it was sent last: what may be given back was waited for there.
    hoped: bool,
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
            barred: Vec::new(),
            retries: 0,
            rested: false,
            tried_last_resort: false,
            hoped: false,
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

    /// Takes in what happened at `now` and says what to do.
    pub fn step(&mut self, now: Moment, event: Event) -> Action {
        match event {
            Event::Begin | Event::Rested => self.reserve(),
            Event::Reserved { lane } => self.send(lane),
            Event::OthersWait => self.wait(),
            Event::NotNow(refusal) if self.can_wait_for(&refusal, now) => self.wait(),
            Event::NotNow(refusal) if self.can_doubt(&refusal) => {
                self.tried_last_resort = true;
                let (target, barred) = (self.target, self.barred.clone());
                Action::Reserve { target, barred, last_resort: true }
            }
            Event::NotNow(refusal) => self.next_target(GiveUp::TooFar(refusal)),
            Event::InTrouble => self.fall_back(),
            Event::Never(Some(refusal)) => self.next_target(GiveUp::TooLarge(refusal)),
            Event::Never(None) => self.next_target(GiveUp::NoLane),
            Event::LineFull => self.next_target(GiveUp::LineFull),
            Event::TooLate(late) => self.next_target(GiveUp::TooLate(late)),
            Event::OwnLimit(limit) if self.can_wait_for_own(&limit, now) => self.wait(),
            // It would stand in the way at every key and every target.
            Event::OwnLimit(limit) => self.held_up(limit),
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
        refusal.at.is_none_or(|at| self.patience().covers(at, now))
            || (refusal.may_return && self.hopes() && !self.hoped)
    }

    /// Whether it waits, as long as it can, for what calls in flight may give back although quota is known to come later
    /// than that: it has nowhere else to go.
    pub fn hopes(&self) -> bool {
        !self.has_next_target()
    }

    fn can_wait_for_own(&self, limit: &OwnLimit, now: Moment) -> bool {
        limit.worth_waiting(self.patience(), now).is_some() || (limit.may_return && !self.hoped)
    }

    /// A limit of the caller itself ends the call. What failed before is why there is no answer.
    fn held_up(&mut self, limit: OwnLimit) -> Action {
        let Some(mut failure) = self.last_failure.take() else {
            self.blamed = self.target;
            return Action::GiveUp(GiveUp::OwnLimit(limit));
        };
        failure.message = format!(
            "{}; it was not tried again because of a limit of its user: {}",
            failure.message, limit.obstacle
        );
        Action::GiveUp(GiveUp::Failed(failure))
    }

    /// Nothing else is left to try, and what stands in the way is only our guess.
    fn can_doubt(&self, refusal: &Refusal) -> bool {
        let is_guess =
            matches!(&refusal.obstacle, Obstacle::Block(block) if block.origin == Origin::Guess);
        is_guess && !self.tried_last_resort && !self.has_next_target()
    }

    fn reserve(&self) -> Action {
        let (target, barred) = (self.target, self.barred.clone());
        Action::Reserve { target, barred, last_resort: false }
    }

    fn wait(&mut self) -> Action {
        self.hoped = true;
        let (target, barred) = (self.target, self.barred.clone());
        Action::Wait { target, barred, patience: self.patience() }
    }

    fn send(&mut self, lane: usize) -> Action {
        self.lane = Some(lane);
        self.hoped = false;
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
                self.barred.extend(match remedy.same_lane {
                    SameLane::Never => tried.into_iter().collect(),
                    _ => self.tried.clone(),
                });
                self.barred.dedup();
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
            self.barred.clear();
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
    /// The first instant at which trying again makes sense, if anybody knows.
    pub fn retry_at(&self) -> Option<Moment> {
        match self {
            GiveUp::Failed(failure) => failure.until.map(|until| until.at),
            GiveUp::TooFar(refusal) => refusal.at,
            GiveUp::OwnLimit(limit) => limit.until(),
            GiveUp::TooLarge(_) | GiveUp::NoLane | GiveUp::LineFull | GiveUp::TooLate(_) => None,
        }
    }

    /// What stood in the way, if it was a ledger.
    pub fn obstacle(&self) -> Option<&Obstacle> {
        match self {
            GiveUp::TooFar(refusal) | GiveUp::TooLarge(refusal) => Some(&refusal.obstacle),
            GiveUp::OwnLimit(limit) => Some(&limit.obstacle),
            GiveUp::Failed(_) | GiveUp::NoLane | GiveUp::LineFull | GiveUp::TooLate(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Block, FailureClass, Origin, Scope, Until};

    const NOW: Moment = Moment::from_seconds(1_800_000_000);

    fn call(targets: usize) -> Call {
        Call::new(CallPolicy {
            retry: true,
            retries: vec![RetryPolicy::default(); targets],
            fallback: true,
            deadline: None,
            max_wait: Duration::from_secs(300),
        })
    }

    fn failed(class: FailureClass) -> Event {
        failed_with(Failure::new(class, Scope::Call, ""))
    }

    fn failed_with(failure: Failure) -> Event {
        Event::Failed { failure: Box::new(failure), budget_wait: Duration::ZERO, entropy: 0.0 }
    }

    fn reserve(target: usize, barred: &[usize]) -> Action {
        Action::Reserve { target, barred: barred.to_vec(), last_resort: false }
    }

    fn closed_for(seconds: u64) -> Event {
        let until = NOW + Duration::from_secs(seconds);
        let failure = Failure {
            until: Some(Until { at: until, origin: Origin::Provider }),
            ..Failure::new(FailureClass::DailyQuota, Scope::GroupModel, "")
        };
        let block = Block::after(&failure, 0, NOW, 0.0).unwrap();
        let obstacle = Obstacle::Block(block);
        Event::NotNow(Refusal { lane: 0, at: Some(until), obstacle, may_return: false })
    }

    /// Feeds the events and returns the actions that followed.
    fn run(call: &mut Call, events: Vec<Event>) -> Vec<Action> {
        events.into_iter().map(|event| call.step(NOW, event)).collect()
    }

    #[test]
    fn a_refusal_for_rate_goes_to_the_next_lane_for_free_and_three_times_back_to_the_same_one() {
        let mut call = call(1);
        call.step(NOW, Event::Begin);
        for lane in [0, 1, 0, 1, 0] {
            assert_eq!(call.step(NOW, Event::Reserved { lane }), Action::Send);
            let next = call.step(NOW, failed(FailureClass::RateLimited));
            assert!(matches!(next, Action::Reserve { .. }));
        }
        // Two first visits and three retries: both lanes are barred now.
        assert_eq!(call.reserve(), reserve(0, &[0, 1]));
        assert!(matches!(
            call.step(NOW, Event::Never(None)),
            Action::GiveUp(GiveUp::Failed(failure)) if failure.class == FailureClass::RateLimited
        ));
    }

    #[test]
    fn a_server_that_always_breaks_is_tried_four_times_with_growing_pauses() {
        let mut call = call(1);
        call.step(NOW, Event::Begin);
        let mut pauses = Vec::new();
        let end = loop {
            call.step(NOW, Event::Reserved { lane: pauses.len() % 2 });
            match call.step(NOW, failed(FailureClass::ServerError)) {
                Action::Rest(until) => pauses.push((until - NOW).as_secs()),
                other => break other,
            }
            call.step(NOW, Event::Rested);
        };
        assert_eq!(pauses, [1, 2, 4]);
        assert!(matches!(end, Action::GiveUp(GiveUp::Failed(_))));
    }

    #[test]
    fn with_a_fallback_an_overloaded_target_gets_one_more_chance() {
        let mut call = call(2);
        let actions = run(
            &mut call,
            vec![
                Event::Begin,
                Event::Reserved { lane: 0 },
                failed(FailureClass::Overloaded),
                Event::Rested,
                Event::Reserved { lane: 0 },
                failed(FailureClass::Overloaded),
            ],
        );
        assert_eq!(actions.last(), Some(&reserve(1, &[])));
    }

    #[test]
    fn each_target_has_its_own_patience() {
        let quick = RetryPolicy { base: Duration::from_millis(100), ..RetryPolicy::default() };
        let slow = RetryPolicy { max_retries: 2, multiplier: 3.0, ..RetryPolicy::default() };
        let mut call = Call::new(CallPolicy { retries: vec![quick, slow], ..call(2).policy });
        call.step(NOW, Event::Begin);
        let mut pauses = Vec::new();
        let end = loop {
            call.step(NOW, Event::Reserved { lane: 0 });
            match call.step(NOW, failed(FailureClass::ServerError)) {
                Action::Rest(until) => {
                    pauses.push((call.target(), (until - NOW).as_millis()));
                    call.step(NOW, Event::Rested);
                }
                Action::Reserve { .. } => {}
                other => break other,
            }
        };
        assert_eq!(pauses, [(0, 100), (1, 1_000), (1, 3_000)]);
        assert!(matches!(end, Action::GiveUp(GiveUp::Failed(_))));
    }

    #[test]
    fn what_cannot_succeed_is_never_tried_again() {
        for class in FailureClass::ALL {
            let mut call = call(1);
            let actions =
                run(&mut call, vec![Event::Begin, Event::Reserved { lane: 0 }, failed(class)]);
            let stops = matches!(actions[2], Action::GiveUp(_));
            let bars_the_lane = actions[2] == reserve(0, &[0]);
            match class.remedy().same_lane {
                SameLane::Never => assert!(stops || bars_the_lane, "{class}"),
                SameLane::AfterBlock => assert_eq!(actions[2], reserve(0, &[]), "{class}"),
                SameLane::AfterBackoff => assert!(matches!(actions[2], Action::Rest(_)), "{class}"),
            }
        }
    }

    #[test]
    fn without_retry_one_attempt_is_made_at_each_target() {
        let mut call = Call::new(CallPolicy { retry: false, ..call(2).policy });
        let actions = run(
            &mut call,
            vec![
                Event::Begin,
                Event::Reserved { lane: 0 },
                failed(FailureClass::RateLimited),
                Event::Reserved { lane: 0 },
                failed(FailureClass::ServerError),
            ],
        );
        assert_eq!(actions[2], reserve(1, &[]));
        assert!(matches!(actions[4], Action::GiveUp(GiveUp::Failed(_))));
    }

    #[test]
    fn a_minute_is_waited_for_and_a_day_is_not() {
        let mut short = call(1);
        assert!(matches!(
            run(&mut short, vec![Event::Begin, closed_for(60)])[1],
            Action::Wait { .. }
        ));
        let mut long = call(1);
        assert!(matches!(
            run(&mut long, vec![Event::Begin, closed_for(40_000)])[1],
            Action::GiveUp(GiveUp::TooFar(_))
        ));
        let mut elsewhere = call(2);
        assert_eq!(run(&mut elsewhere, vec![Event::Begin, closed_for(40_000)])[1], reserve(1, &[]));
    }

    #[test]
    fn what_may_be_given_back_is_waited_for_once_by_who_has_nowhere_else_to_go() {
        let may_return = |seconds| match closed_for(seconds) {
            Event::NotNow(refusal) => Event::NotNow(Refusal { may_return: true, ..refusal }),
            other => other,
        };
        let mut alone = call(1);
        let actions = run(&mut alone, vec![Event::Begin, may_return(40_000), may_return(40_000)]);
        assert!(matches!(actions[1], Action::Wait { .. }));
        assert!(matches!(actions[2], Action::GiveUp(GiveUp::TooFar(_))));
        let mut elsewhere = call(2);
        let actions = run(&mut elsewhere, vec![Event::Begin, may_return(40_000)]);
        assert_eq!(actions[1], reserve(1, &[]));
    }

    #[test]
    fn an_own_limit_ends_the_call_with_what_failed_before() {
        let limit = || {
            let limit = crate::kernel::Limit {
                resource: crate::kernel::Resource::Tokens,
                period: crate::kernel::Period::Day,
                amount: std::num::NonZeroU64::MIN,
                refill: crate::kernel::Refill::Rolling,
                source: crate::kernel::Source::Configured,
            };
            let until = NOW + Duration::from_secs(40_000);
            let obstacle = Obstacle::Limit { limit, until, is_kept: false };
            Event::OwnLimit(OwnLimit { obstacle, used: 1, may_return: false, ahead: 0 })
        };
        let actions = run(&mut call(2), vec![Event::Begin, limit()]);
        assert!(matches!(actions[1], Action::GiveUp(GiveUp::OwnLimit(_))));
        let broke = failed_with(Failure::new(FailureClass::ServerError, Scope::Call, "it burns"));
        let events = vec![Event::Begin, Event::Reserved { lane: 0 }, broke, Event::Rested, limit()];
        let actions = run(&mut call(1), events);
        let Action::GiveUp(GiveUp::Failed(failure)) = &actions[4] else {
            panic!("{:?}", actions[4])
        };
        assert!(failure.message.starts_with("it burns; it was not tried again"), "{failure:?}");
    }

    #[test]
    fn a_deadline_that_cannot_be_met_fails_at_once_and_a_far_one_is_waited_for() {
        let with_deadline = |seconds| {
            let deadline = Some(NOW + Duration::from_secs(seconds));
            Call::new(CallPolicy { deadline, ..call(1).policy })
        };
        let mut near = with_deadline(10);
        assert!(matches!(
            run(&mut near, vec![Event::Begin, closed_for(60)])[1],
            Action::GiveUp(GiveUp::TooFar(_))
        ));
        let mut far = with_deadline(50_000);
        assert!(matches!(
            run(&mut far, vec![Event::Begin, closed_for(40_000)])[1],
            Action::Wait { .. }
        ));
    }

    #[test]
    fn a_providers_retry_after_is_the_floor_of_a_pause() {
        let mut call = call(1);
        let failure = Failure {
            until: Some(Until { at: NOW + Duration::from_secs(30), origin: Origin::Provider }),
            ..Failure::new(FailureClass::Overloaded, Scope::Call, "")
        };
        let actions =
            run(&mut call, vec![Event::Begin, Event::Reserved { lane: 0 }, failed_with(failure)]);
        assert_eq!(actions[2], Action::Rest(NOW + Duration::from_secs(30)));
    }

    proptest::proptest! {
        /// Whatever happens, a call ends after a bounded number of attempts.
        #[test]
        fn every_call_ends(
            classes in proptest::collection::vec(0_usize..14, 200),
            lanes in proptest::collection::vec(0_usize..3, 200),
        ) {
            let mut call = call(3);
            let mut action = call.step(NOW, Event::Begin);
            let mut attempts = 0;
            loop {
                action = match action {
                    Action::Reserve { barred, .. } => {
                        match (0..3).map(|n| (n + lanes[attempts]) % 3).find(|lane| !barred.contains(lane)) {
                            Some(lane) => call.step(NOW, Event::Reserved { lane }),
                            None => call.step(NOW, Event::Never(None)),
                        }
                    }
                    Action::Send => {
                        attempts += 1;
                        call.step(NOW, failed(FailureClass::ALL[classes[attempts]]))
                    }
                    Action::Rest(_) => call.step(NOW, Event::Rested),
                    Action::Wait { .. } | Action::Succeed => unreachable!(),
                    Action::GiveUp(_) => break,
                };
                proptest::prop_assert!(attempts <= 3 * (3 + 3));
            }
        }
    }
}
