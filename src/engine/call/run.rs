//! One running call, prompt or guarded: carries out its state machine.

use std::sync::Arc;
use std::time::Duration;

use super::Calls;
use super::errors;
use super::request::RetryHook;
use super::route::Stop;
use crate::engine::dispatch::backoff::{A_PAUSE, pause};
use crate::engine::dispatch::gauge::{Waits, Watch, named};
use crate::engine::dispatch::line::{Newcomer, Place, Rank};
use crate::engine::dispatch::reservation::ReserveResult;
use crate::engine::dispatch::types::{HeldReservation, Target, Waited};
use crate::engine::dispatch::users::User;
use crate::engine::world::observer::Notice;
use crate::error::{Attempt, Error, ErrorKind};
use crate::kernel::{
    Action, Amounts, BreakerState, Call, CallPolicy, Change, Demand, Ending, Event, Failure,
    FailureClass, Hints, Moment, Patience, Refusal, RefusedBy, SameLane,
};
use crate::stores::StoreError;

/// After how long a call of a batch tries a full line again.
const COME_BACK: Duration = Duration::from_millis(100);

/// The options of a call that matter while it waits.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Manner {
    /// 0 to 9, higher goes first.
    pub(in crate::engine) priority: u8,
    /// Whether it goes ahead of waiting calls.
    pub(in crate::engine) ahead: bool,
    /// Whether it has a deadline.
    pub(in crate::engine) has_deadline: bool,
    /// The user on whose behalf it is.
    pub(in crate::engine) user: Arc<User>,
    /// Called for every failed attempt that another one follows.
    pub(in crate::engine) on_retry: Option<RetryHook>,
    /// Records that it waits, and that it was sent.
    pub(in crate::engine) watch: Option<Arc<Watch>>,
}

/// What the state machine wants next.
#[derive(Debug)]
pub(in crate::engine) enum Next {
    /// Send it down this lane, and settle it with [`Run::answered`] or [`Run::failed`].
    Send(Box<HeldReservation>),
    /// It is done.
    Succeed,
}

/// One call while it is carried out.
pub(in crate::engine) struct Run {
    pub(in crate::engine) calls: Arc<Calls>,
    pub(in crate::engine) route: Vec<Stop>,
    pub(in crate::engine) attempts: Vec<Attempt>,
    pub(in crate::engine) began: Moment,
    call: Call,
    manner: Manner,
    retries: bool,
    // Boxed, because most calls hold it for a moment or never: a hundred thousand may wait.
    held: Option<Box<HeldReservation>>,
    /// Whether the last attempt has not come to its end.
    under_way: bool,
    /// The last refusal, until it was reported or overcome.
    refused: Option<Box<Refusal>>,
    /// Whether an attempt was sent that counts as a request of its user.
    is_again: bool,
    /// Since when it has been waiting.
    idle_since: Moment,
    /// The key of the last refusal and why, until the next lane is chosen.
    left_key: Option<(usize, usize, String)>,
}

impl Run {
    pub(in crate::engine) fn new(
        calls: Arc<Calls>,
        route: Vec<Stop>,
        policy: CallPolicy,
        manner: Manner,
        began: Moment,
    ) -> Self {
        calls.retry_budget.lock().earn();
        Run {
            calls,
            route,
            attempts: Vec::new(),
            began,
            retries: policy.retry,
            call: Call::new(policy),
            manner,
            held: None,
            under_way: false,
            refused: None,
            is_again: false,
            idle_since: began,
            left_key: None,
        }
    }

    /// The user on whose behalf it is.
    pub(in crate::engine) fn user(&self) -> &Arc<User> {
        &self.manner.user
    }

    /// The place in the route the call is at.
    pub(in crate::engine) fn stop(&self) -> usize {
        self.call.target()
    }

    /// Goes on after `event` until there is something to send or nothing more to do.
    pub(in crate::engine) async fn advance(
        &mut self,
        mut event: Event,
        demand: impl Fn(&Stop) -> Demand,
    ) -> Result<Next, Error> {
        loop {
            let before = self.call.target();
            let action = self.call.step(self.calls.dispatch.now(), event);
            self.tell_of_fallback(before, &action);
            event = match action {
                Action::Reserve { target, excluded, last_resort } => {
                    self.reserve(target, &excluded, last_resort, &demand)?
                }
                Action::Wait { target, excluded, patience } => {
                    match self.stand_in_line(target, excluded, patience, &demand) {
                        Ok((mut place, _waits)) => {
                            let waited = place.ends().await;
                            self.waited(waited)?
                        }
                        // A prompt of a batch never fails because the line is full: it tries again.
                        Err(waited)
                            if matches!(*waited, Waited::LineFull)
                                && self.manner.watch.is_some() =>
                        {
                            let _waits = self.waits(Some("room in the waiting line".to_owned()));
                            let soon = self.calls.dispatch.now() + COME_BACK;
                            self.calls.dispatch.world.clock.sleep_until(soon).await;
                            Event::OthersWait
                        }
                        Err(waited) => self.waited(*waited)?,
                    }
                }
                Action::Send => match self.held.take() {
                    Some(held) => return Ok(Next::Send(held)),
                    None => {
                        let words = "a call was to be sent without a lane";
                        return Err(Error::new(ErrorKind::Internal, words));
                    }
                },
                Action::Rest(until) => {
                    let stop = &self.route[self.call.target()];
                    let _waits = self.waits(Some(A_PAUSE.to_owned()));
                    let (target, size) = (&stop.target, demand(stop).size());
                    let Manner { priority, user, .. } = &self.manner;
                    // Most calls never pause, and a hundred thousand may wait.
                    let (resting, clock) = (&target.resting, &*self.calls.dispatch.world.clock);
                    let pause = Box::pin(pause(resting, clock, *priority, user, size, until));
                    if !pause.await {
                        return Err(errors::cleared(target));
                    }
                    Event::Rested
                }
                Action::Succeed => return Ok(Next::Succeed),
                Action::GiveUp(reason) => {
                    let target = &self.route[self.call.blamed()].target;
                    let now = self.calls.dispatch.now();
                    return Err(errors::error(reason, target, self.manner.has_deadline, now));
                }
            };
        }
    }

    fn reserve(
        &mut self,
        place: usize,
        excluded: &[usize],
        last_resort: bool,
        demand: &impl Fn(&Stop) -> Demand,
    ) -> Result<Event, Error> {
        self.refused = None;
        let target = self.route[place].target.clone();
        let now = self.calls.dispatch.now();
        let probes = target.breaker.lock().state(now) == BreakerState::HalfOpen;
        let probes = probes && self.call.has_next_target();
        if self.call.has_next_target() && !target.breaker.lock().admits(now) {
            self.left_key = Some((place, usize::MAX, "it was in trouble a moment ago".to_owned()));
            return Ok(Event::InTrouble);
        }
        let event = self.reserve_at(&target, place, excluded, last_resort, demand)?;
        match &mut self.held {
            Some(held) => held.probes = probes,
            None if probes => target.breaker.lock().abandon(),
            None => {}
        }
        Ok(event)
    }

    fn reserve_at(
        &mut self,
        target: &Arc<Target>,
        place: usize,
        excluded: &[usize],
        last_resort: bool,
        demand: &impl Fn(&Stop) -> Demand,
    ) -> Result<Event, Error> {
        if !self.manner.ahead && !target.line.lock().is_empty() {
            return Ok(Event::OthersWait);
        }
        let is_again = self.is_again;
        let demand = Demand { last_resort, is_again, ..demand(&self.route[place]) };
        Ok(match self.calls.dispatch.try_reserve(target, &demand, excluded, &self.manner.user)? {
            ReserveResult::Reserved(held) => self.hold(held),
            ReserveResult::Never(refusal) => Event::Never(refusal.map(Box::new)),
            ReserveResult::NotNow(refusal) => {
                self.refused = Some(Box::new(refusal.clone()));
                Event::NotNow(Box::new(refusal))
            }
        })
    }

    fn stand_in_line(
        &mut self,
        place: usize,
        excluded: Vec<usize>,
        patience: Patience,
        demand: &impl Fn(&Stop) -> Demand,
    ) -> Result<(Place, Option<Waits>), Box<Waited>> {
        let target = self.route[place].target.clone();
        let demand = Demand { is_again: self.is_again, ..demand(&self.route[place]) };
        let refused = self.refused.as_ref();
        let reason = refused.map(|refusal| named(refusal, &target.name));
        let waits = self.waits(reason);
        self.tell_of_wait(&target);
        let watch = self.manner.watch.clone();
        let priority = self.manner.priority;
        let rank = match self.call.comes_back() {
            _ if self.manner.ahead => Rank::Ahead(priority),
            true => Rank::Again(priority),
            false => Rank::New(priority),
        };
        let user = self.manner.user.clone();
        let may_wait_for_refund = self.call.may_wait_for_refund();
        let newcomer = Newcomer { demand, excluded, patience, may_wait_for_refund, user, watch };
        Ok((self.calls.dispatch.stand_in_line(&target, rank, newcomer)?, waits))
    }

    fn waited(&mut self, waited: Waited) -> Result<Event, Error> {
        Ok(match waited {
            Waited::Reserved(held) => self.hold(held),
            Waited::NotNow(refusal) => Event::NotNow(Box::new(refusal)),
            Waited::Never(refusal) => Event::Never(refusal.map(Box::new)),
            Waited::LineFull => Event::LineFull,
            Waited::TooLate(late) => Event::TooLate(late),
            Waited::Cleared => {
                return Err(errors::cleared(&self.route[self.call.target()].target));
            }
            Waited::StateFailed(error) => return Err(error.into()),
            Waited::Closed => return Err(errors::closed()),
        })
    }

    /// Counts as waiting until the guard is dropped.
    fn waits(&self, reason: Option<String>) -> Option<Waits> {
        let watch = self.manner.watch.clone()?;
        Some(Waits::begin(watch, self.calls.dispatch.world.clock.clone(), reason))
    }

    fn hold(&mut self, held: Box<HeldReservation>) -> Event {
        let lane = held.reservation.lane;
        self.refused = None;
        if let Some((place, from, failure)) = self.left_key.take()
            && place == self.call.target()
            && from != held.key()
        {
            let keys = &held.target.vendor.keys;
            self.calls.dispatch.notice(&Notice::KeyRotation {
                target: held.target.name.clone(),
                from: keys[from].label.clone(),
                to: keys[held.key()].label.clone(),
                failure,
            });
        }
        self.held = Some(held);
        Event::Reserved { lane }
    }

    /// It has to be over by `end` from now on.
    pub(in crate::engine) fn ends_by(&mut self, end: Moment) {
        self.call.ends_by(end);
        self.manner.has_deadline = true;
    }

    /// The request leaves now.
    pub(in crate::engine) fn begin_attempt(&mut self, held: &mut HeldReservation) -> Moment {
        let started = self.calls.dispatch.now();
        let waited = started.since(self.idle_since);
        held.leaves();
        if let Some(watch) = &self.manner.watch {
            watch.is_sent();
        }
        let vendor = &held.target.vendor;
        if let Some(before) = self.attempts.last() {
            if let Some(hook) = &self.manner.on_retry {
                (hook.0)(before);
            }
            self.calls.dispatch.notice(&Notice::Retry {
                target: format!("{}/{}", before.provider, before.model),
                key: before.key.clone(),
                failure: before.failure.map_or("", FailureClass::name).to_owned(),
                status: before.status,
                attempt: self.attempts.len() + 1,
                pause: waited,
            });
        }
        self.under_way = true;
        self.attempts.push(Attempt {
            provider: vendor.provider.name.clone(),
            model: held.target.model.clone(),
            key: vendor.keys[held.key()].label.clone(),
            // Until it is over; an attempt that stays like this was cut off by the deadline.
            failure: Some(FailureClass::Timeout),
            status: None,
            started,
            lasted: Duration::ZERO,
            waited,
        });
        started
    }

    /// The attempt ended, with or without an answer.
    pub(in crate::engine) fn end_attempt(
        &mut self,
        now: Moment,
        failure: Option<&Failure>,
        status: Option<u16>,
    ) {
        self.under_way = false;
        self.idle_since = now;
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.lasted = now.since(attempt.started);
            attempt.failure = failure.map(|failure| failure.class);
            attempt.status = failure.and_then(|failure| failure.status).or(status);
        }
    }

    /// Settles an answer: `used` instead of what was reserved, if the provider reported it.
    pub(in crate::engine) fn answered(
        &self,
        held: HeldReservation,
        used: Option<Amounts>,
        hints: &Hints,
    ) -> Event {
        let observer = &self.calls.dispatch.world.observer;
        let (target, key) = (held.target.clone(), held.key());
        let label = || target.vendor.keys[key].label.clone();
        target.was_served(key, self.calls.dispatch.now());
        if let Some(attempt) = self.attempts.last() {
            target.took(attempt.lasted);
        }
        let change = self.settle(held, Ending::Answered(used), hints, None);
        if change.recovered {
            observer.notice(&Notice::Recovery { target: target.name.clone(), key: label() });
        }
        if observer.wants_settlements() {
            let lasted = self.attempts.last().map_or(Duration::ZERO, |attempt| attempt.lasted);
            let (target, key) = (target.name.clone(), label());
            observer.notice(&Notice::Settlement { target, key, used, lasted });
        }
        Event::Answered
    }

    /// Settles a failure.
    pub(in crate::engine) fn failed(
        &mut self,
        held: HeldReservation,
        failure: Failure,
        hints: &Hints,
    ) -> Event {
        let ending = Ending::of(&failure);
        self.failed_as(held, ending, failure, hints)
    }

    /// Settles a failure with this ending, for one in the middle of an answer.
    pub(in crate::engine) fn failed_as(
        &mut self,
        held: HeldReservation,
        ending: Ending,
        failure: Failure,
        hints: &Hints,
    ) -> Event {
        let calls = self.calls.clone();
        let (target, key) = (held.target.clone(), held.key());
        self.is_again |= ending != Ending::NeverSent;
        let change = self.settle(held, ending, hints, Some(&failure));
        if let Some(block) = change.closed {
            target.was_closed(key, &block, calls.dispatch.now());
            calls.dispatch.notice(&Notice::Block {
                target: target.name.clone(),
                key: target.vendor.keys[key].label.clone(),
                block,
                message: failure.message.clone(),
            });
        }
        self.left_key = Some((self.call.target(), key, failure.class.name().to_owned()));
        let pays = failure.remedy().same_lane == SameLane::AfterBackoff && self.retries;
        let budget_wait =
            if pays { calls.retry_budget.lock().pay(calls.dispatch.now()) } else { Duration::ZERO };
        Event::Failed {
            failure: Box::new(failure),
            budget_wait,
            entropy: calls.dispatch.world.entropy.draw(),
        }
    }

    /// When the store cannot be written, the answer is handed over all the same and the reservation stays counted.
    fn settle(
        &self,
        held: HeldReservation,
        ending: Ending,
        hints: &Hints,
        failure: Option<&Failure>,
    ) -> Change {
        let (target, key) = (held.target.clone(), held.key());
        let settled: Result<Change, StoreError> = held.settle(ending, hints, failure);
        if let Some(organization) = &hints.organization {
            self.calls.dispatch.join_group(&target.vendor, key, organization, &hints.rates);
        }
        settled.unwrap_or_else(|error| {
            let words = format!("{error}; {}", error.hint());
            self.calls.dispatch.notice(&Notice::Warning(words));
            Change::default()
        })
    }

    fn tell_of_wait(&mut self, target: &Target) {
        let name = target.name.clone();
        self.calls.dispatch.notice(&match self.refused.take().map(|refusal| *refusal) {
            Some(Refusal { by: RefusedBy::Lane(lane), obstacle, .. }) => {
                let key = target.vendor.keys[lane].label.clone();
                Notice::Wait { target: name, key, obstacle }
            }
            Some(Refusal { obstacle, .. }) => Notice::UserLimitWait { target: name, obstacle },
            None => Notice::QueueWait { target: name, ahead: target.line.lock().len() },
        });
    }

    fn tell_of_fallback(&mut self, before: usize, action: &Action) {
        let after = self.call.target();
        if let Action::Rest(until) = action {
            let pause = until.since(self.calls.dispatch.now());
            let failure = self.left_key.as_ref().map_or_else(String::new, |left| left.2.clone());
            let target = self.route[after].target.name.clone();
            self.calls.dispatch.notice(&Notice::Backoff { target, failure, pause });
        }
        if after == before {
            return;
        }
        let reason = match self.left_key.take() {
            Some((_, _, failure)) => failure,
            None => {
                "all its keys are closed or used up for longer than the call can wait".to_owned()
            }
        };
        let name = |place: usize| self.route[place].target.name.clone();
        self.calls.dispatch.notice(&Notice::Fallback {
            from: name(before),
            to: name(after),
            reason,
        });
    }

    /// The error with all facts of this call.
    pub(in crate::engine) fn with_facts(&mut self, mut error: Error) -> Error {
        if let Some(cut_off) = self.attempts.last_mut().filter(|_| self.under_way) {
            cut_off.lasted = self.calls.dispatch.now().since(cut_off.started);
        }
        let last = self.attempts.last();
        let first = &self.route[0].target;
        error.provider.get_or_insert_with(|| {
            last.map_or_else(|| first.vendor.provider.name.clone(), |last| last.provider.clone())
        });
        error.model.get_or_insert_with(|| {
            last.map_or_else(|| first.model.clone(), |last| last.model.clone())
        });
        if error.key.is_none() {
            error.key = last.map(|last| last.key.clone());
        }
        error.attempts.clone_from(&self.attempts);
        error
    }
}
