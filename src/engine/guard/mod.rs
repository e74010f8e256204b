//! Guarded calls: the quota of a call that the caller sends itself.
//!
//! `Guarded` is a `Run` without the sending. `permit()` advances the state machine to the next reservation. `settle`,
//! `fail`, `release` or `abandon` end it. After `fail` the next `permit()` waits, rotates or gives up as for a
//! prompt. A call without a model counts in the `*` ledger of its group alone. A 404 or 403 about its model closes
//! nothing, because it would close all models. A name in `limits` that is no provider has no address, and one lane
//! without a key. A dropped permit stays counted.

mod key_marks;
pub(super) mod usage_import;

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::call::Calls;
use super::call::errors::{closed, passed, too_many_tokens};
use super::call::request::RetryHook;
use super::call::route::Stop;
use super::call::run::{Manner, Next, Run};
use super::call::send::expiry;
use super::dispatch::lanes::conform;
use super::dispatch::types::{HeldReservation, Target};
use crate::error::{Attempt, Error, ErrorKind};
use crate::kernel::{
    Amounts, CallPolicy, Choice, Demand, Ending, Event, Failure, FailureClass, Hints, Lane,
    Ledgers, Moment, Obstacle, Period, Scope, Usage, choose,
};
use crate::secret::Secret;

/// The model of a call that names none: it counts in its quota group only.
const NO_MODEL: &str = "*";

/// The demand and the options of a guarded call.
#[derive(Clone, Debug)]
pub struct Guard {
    /// The provider: one of the catalogue, one of the config, or any name that has limits.
    pub provider: String,
    /// The model whose limits hold as well; `None`: only those of the quota group.
    pub model: Option<String>,
    /// The label of the only key that may be used; `None`: whichever is best.
    pub key: Option<String>,
    /// How many tokens it will take, estimated; 0: none, or unknown.
    pub tokens: u64,
    /// 0 to 9, higher goes first. Default 3.
    pub priority: u8,
    /// Whether a failed attempt may be tried again. Default true.
    pub retry: bool,
    /// Retries on lanes that were tried before; `None`: the config's (3).
    pub max_retries: Option<u32>,
    /// The first back-off; `None`: the config's (1 s).
    pub retry_delay: Option<Duration>,
    /// The longest the whole call may take, waits included.
    pub timeout: Option<Duration>,
    /// When it must be over.
    pub deadline: Option<Moment>,
    /// Called for every failed attempt that another one follows.
    pub on_retry: Option<RetryHook>,
}

impl Guard {
    /// A call at `provider` with everything else at its default.
    pub fn new(provider: impl Into<String>) -> Self {
        Guard {
            provider: provider.into(),
            model: None,
            key: None,
            tokens: 0,
            priority: 3,
            retry: true,
            max_retries: None,
            retry_delay: None,
            timeout: None,
            deadline: None,
            on_retry: None,
        }
    }

    fn demand(&self, target: &Target) -> Result<Demand, Error> {
        let vendor = &target.vendor;
        let only_key = self.key.as_deref().map(|label| vendor.key_labelled(label)).transpose()?;
        let kept = target.kept(self.priority);
        Ok(Demand { only_key, kept, ..Demand::of(self.tokens) })
    }
}

/// Permission to send one request.
#[derive(Clone, Debug)]
pub struct Permit {
    /// The provider.
    pub provider: String,
    /// The model, if the call named one.
    pub model: Option<String>,
    /// The label of the key.
    pub label: String,
    /// The key; `None` when the provider has none here.
    pub secret: Option<Secret>,
    /// How long it was waited for since the attempt before.
    pub waited: Duration,
    /// The number of this attempt, from 1.
    pub attempt: usize,
}

/// Whether a call could go now.
#[derive(Clone, Debug, PartialEq)]
pub enum Outlook {
    /// Now.
    Now,
    /// After this long, if no other call goes before it; `None`: when a call in flight ends.
    In(Option<Duration>),
    /// Never: it asks for more than a limit can hold, or there is no key.
    Never,
}

/// A guarded call on its way. Dropping it gives back what was not sent; what may have been sent stays counted.
pub struct Guarded {
    run: Run,
    demand: Demand,
    next: Option<Event>,
    held: Option<HeldReservation>,
    expires: Option<Moment>,
}

impl std::fmt::Debug for Guarded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guarded").field("held", &self.held.is_some()).finish_non_exhaustive()
    }
}

impl Calls {
    /// Begins a guarded call; nothing is reserved yet.
    pub(in crate::engine) fn guard(self: &Arc<Self>, guard: &Guard) -> Result<Guarded, Error> {
        if self.dispatch.is_closed() {
            return Err(closed());
        }
        let began = self.dispatch.now();
        if guard.deadline.is_some_and(|deadline| deadline <= began) {
            return Err(passed());
        }
        let usual = self.settings.timeouts.call;
        let expires = expiry(guard.timeout, guard.deadline, usual, began);
        let target = self.guarded_target(&guard.provider, guard.model.as_deref())?;
        let demand = self.demand_of(guard, &target)?;
        if let Some(error) = too_many_tokens(&target, guard.tokens, "") {
            return Err(error);
        }
        let cap = self.settings.retry.cap;
        let policy = CallPolicy {
            retry: guard.retry,
            retries: vec![target.retries(guard.max_retries, guard.retry_delay, cap)],
            fallback: false,
            deadline: expires,
            max_wait: self.settings.max_wait,
        };
        let manner = Manner {
            priority: guard.priority,
            ahead: false,
            user: self.dispatch.user(None),
            has_deadline: expires.is_some(),
            on_retry: guard.on_retry.clone(),
            watch: None,
        };
        let route = vec![Stop { target, params: serde_json::Map::new(), counted: OnceLock::new() }];
        let run = Run::new(self.clone(), route, policy, manner, began);
        Ok(Guarded { run, demand, next: Some(Event::Begin), held: None, expires })
    }

    /// Whether a guarded call could go now, judged by all limits and blocks, or by the limits over one period.
    pub(in crate::engine) fn outlook(
        &self,
        guard: &Guard,
        period: Option<Period>,
    ) -> Result<Outlook, Error> {
        let target = self.guarded_target(&guard.provider, guard.model.as_deref())?;
        let demand = self.demand_of(guard, &target)?;
        if too_many_tokens(&target, guard.tokens, "").is_some() {
            return Ok(Outlook::Never);
        }
        let lanes = target.lanes();
        let now = self.dispatch.now();
        let mut outlook = Outlook::Never;
        self.dispatch.store.update(&lanes.ids, &mut |ledgers| {
            conform(ledgers, &lanes, now);
            outlook = match period {
                None => Outlook::of(choose(ledgers, &lanes.lanes, &[], &demand, now), now),
                Some(period) => Outlook::of_period(ledgers, &lanes.lanes, &demand, period, now),
            };
        })?;
        Ok(outlook)
    }

    /// Counts a request that was sent without a permit, and its failure. Returns the label of its key.
    pub(in crate::engine) fn record(
        self: &Arc<Self>,
        guard: &Guard,
        failure: Option<Failure>,
    ) -> Result<String, Error> {
        let target = self.guarded_target(&guard.provider, guard.model.as_deref())?;
        let demand = Demand { ahead_of_limits: true, kept: 0, ..self.demand_of(guard, &target)? };
        let Some(mut held) = self.dispatch.reserve_anyway(&target, &demand)? else {
            return Err(Error::new(ErrorKind::Internal, "there is no lane to count it in"));
        };
        held.leaves();
        let label = target.vendor.keys[held.key()].label.clone();
        let failure = failure.map(|failure| target.as_guarded(target.vendor.redacted(failure)));
        let ending = failure.as_ref().map_or(Ending::Answered(None), Ending::of);
        held.settle(ending, &Hints::default(), failure.as_ref())?;
        Ok(label)
    }

    fn demand_of(&self, guard: &Guard, target: &Target) -> Result<Demand, Error> {
        let price = self.dispatch.price(target, &self.dispatch.user(None), guard.tokens);
        Ok(Demand { price, ..guard.demand(target)? })
    }

    /// The target of a guarded call. A provider without a key here may have one elsewhere.
    fn guarded_target(&self, provider: &str, model: Option<&str>) -> Result<Arc<Target>, Error> {
        if model.is_some_and(|model| model.trim().is_empty()) {
            return Err(Error::argument("model", "the model's name is empty"));
        }
        let vendor = self.dispatch.without_key(self.dispatch.vendor(provider)?);
        Ok(self.dispatch.target(&vendor, model.unwrap_or(NO_MODEL)))
    }
}

impl Guarded {
    /// Waits until a request may leave.
    ///
    /// Dropping the future gives up the place in the line.
    ///
    /// # Errors
    /// [`Error`] when it may not, with every attempt: what the last failure was, how long it would have to wait.
    pub async fn permit(&mut self) -> Result<Permit, Error> {
        let calls = self.run.calls.clone();
        let Some(event) = self.next.take() else {
            return Err(Error::new(ErrorKind::Internal, "this call is over"));
        };
        let demand = self.demand;
        let next = {
            let next = pin!(self.run.advance(event, |_| demand));
            calls.in_time(self.expires, next).await
        };
        match next {
            Ok(Next::Send(mut held)) => {
                self.run.begin_attempt(&mut held);
                let permit = self.describe(&held);
                self.held = Some(*held);
                Ok(permit)
            }
            Ok(Next::Succeed) => Err(Error::new(ErrorKind::Internal, "this call is over")),
            Err(error) => Err(self.run.with_facts(error)),
        }
    }

    fn describe(&self, held: &HeldReservation) -> Permit {
        let vendor = &held.target.vendor;
        let key = &vendor.keys[held.key()];
        let model = &held.target.model;
        Permit {
            provider: vendor.provider.name.clone(),
            model: (model != NO_MODEL).then(|| model.clone()),
            label: key.label.clone(),
            secret: key.secret.clone(),
            waited: self.run.attempts.last().map_or(Duration::ZERO, |attempt| attempt.waited),
            attempt: self.run.attempts.len(),
        }
    }

    /// It succeeded, and took these tokens of input and output; `None`: as many as were reserved. Settling twice does
    /// nothing.
    pub fn settle(&mut self, tokens: Option<(u64, u64)>) {
        let Some(held) = self.held.take() else { return };
        self.run.end_attempt(self.run.calls.dispatch.now(), None, None);
        let used = tokens.map(|(input_tokens, output_tokens)| {
            let usage = Usage { input_tokens, output_tokens, ..Usage::default() };
            self.run.calls.dispatch.billed(&held, &usage, b"")
        });
        // Nothing follows: the call is over.
        let _ = self.run.answered(held, used, &Hints::default());
    }

    /// It failed; the next [`Guarded::permit`] waits until it may be tried again, or fails.
    pub fn fail(&mut self, failure: Failure) {
        let Some(held) = self.held.take() else { return };
        let failure = held.target.as_guarded(held.target.vendor.redacted(failure));
        self.run.end_attempt(self.run.calls.dispatch.now(), Some(&failure), failure.status);
        self.next = Some(self.run.failed(held, failure, &Hints::default()));
    }

    /// Its outcome is unknown: all of it stays counted.
    pub fn abandon(&mut self) {
        let Some(held) = self.held.take() else { return };
        self.run.end_attempt(self.run.calls.dispatch.now(), None, None);
        let _ = held.settle(Ending::Unknown, &Hints::default(), None);
    }

    /// Nothing was sent: all of it is given back.
    pub fn release(&mut self) {
        let Some(held) = self.held.take() else { return };
        self.run.end_attempt(self.run.calls.dispatch.now(), None, None);
        // If the store cannot be written it stays counted, which is safe.
        let _ = held.settle(Ending::NeverSent, &Hints::default(), None);
    }

    /// Every attempt so far.
    pub fn attempts(&self) -> &[Attempt] {
        &self.run.attempts
    }
}

impl Target {
    /// The failure of a guarded call, of which less is known than of a prompt. A model that does not exist, or that a
    /// key may not use, closes nothing where the call named no model: all models would be closed. A name that is no
    /// provider has no models, so a 404 there is an error of the request.
    fn as_guarded(&self, failure: Failure) -> Failure {
        let about_a_model =
            matches!(failure.class, FailureClass::NotFound | FailureClass::Permission);
        if !about_a_model || self.model != NO_MODEL {
            return failure;
        }
        let is_no_provider = self.vendor.provider.base_url.is_empty();
        let class = match failure.class {
            FailureClass::NotFound if is_no_provider => FailureClass::InvalidRequest,
            class => class,
        };
        Failure { class, scope: Scope::Call, ..failure }
    }
}

impl Outlook {
    fn of(choice: Choice, now: Moment) -> Outlook {
        match choice {
            Choice::Reserved(_) => Outlook::Now,
            Choice::NotNow(refusal) => Outlook::In(refusal.at.map(|at| at.since(now))),
            Choice::Never(_) => Outlook::Never,
        }
    }

    /// The soonest of all lanes, of each the limit over `period` that lasts longest.
    fn of_period(
        ledgers: &Ledgers<'_>,
        lanes: &[Lane],
        demand: &Demand,
        period: Period,
        now: Moment,
    ) -> Outlook {
        let amounts =
            Amounts { requests: 1, input_tokens: demand.input_tokens, output_tokens: 0, spend: 0 };
        let mut soonest: Option<Duration> = None;
        for lane in lanes.iter().filter(|lane| demand.only_key.is_none_or(|key| key == lane.key)) {
            let mut wait = Some(Duration::ZERO);
            for place in &lane.ledgers {
                let ledger = ledgers.get(*place);
                match ledger.limit_in_the_way(period, &amounts, demand.kept, now) {
                    None => {}
                    Some(Obstacle::Limit { until, .. }) => {
                        wait = wait.map(|wait| wait.max(until.since(now)));
                    }
                    Some(_) => wait = None,
                }
            }
            soonest = match (soonest, wait) {
                (Some(known), Some(wait)) => Some(known.min(wait)),
                (known, wait) => known.or(wait),
            };
        }
        match soonest {
            Some(Duration::ZERO) => Outlook::Now,
            Some(wait) => Outlook::In(Some(wait)),
            None => Outlook::Never,
        }
    }
}
