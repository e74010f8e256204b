//! How is a call carried out? The loop that does what the kernel says: action, effect, event.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Engine;
use super::ask::{Answer, Ask};
use super::booking::{Booked, Held};
use super::giving_up;
use super::observe::Notice;
use super::roster::Target;
use super::route::Stop;
use super::transport::Outgoing;
use super::waiting::{Rank, Waited};
use crate::error::{Attempt, Error, ErrorKind};
use crate::kernel::{
    Action, Block, Call, CallPolicy, Ending, Event, Failure, Hints, Moment, Need, Patience,
    Refusal, RetryPolicy, SameLane, counted,
};
use crate::providers::{ChatRequest, Completion, WireRequest, WireResponse};
use crate::stores::StoreError;

impl Engine {
    /// Carries out one call, whatever it takes.
    ///
    /// Dropping the future is cancelling the call: what was not sent is given back.
    ///
    /// # Errors
    /// [`Error`] with all attempts.
    pub async fn send(self: &Arc<Self>, ask: Ask) -> Result<Answer, Error> {
        if self.is_closed() {
            return Err(closed());
        }
        let began = self.clock.now();
        let expires = expiry(&ask, self.settings.timeouts.call, began);
        if ask.deadline.is_some_and(|deadline| deadline <= began) {
            return Err(Error::argument("deadline", "the deadline has passed already"));
        }
        let route = self.route(&ask)?;
        let mut run = Run::new(self, ask, route, began, expires);
        let outcome = match expires {
            None => run.drive().await,
            Some(end) => {
                let end = self.clock.sleep_until(end);
                tokio::select! {
                    biased;
                    outcome = run.drive() => outcome,
                    () = end => Err(Error::new(ErrorKind::Deadline, "the time for this call is over")),
                }
            }
        };
        outcome.map_err(|error| run.with_facts(error))
    }
}

fn expiry(ask: &Ask, usual: Option<Duration>, began: Moment) -> Option<Moment> {
    let timeout = ask.timeout.or(usual).map(|timeout| began + timeout);
    match (timeout, ask.deadline) {
        (Some(timeout), Some(deadline)) => Some(timeout.min(deadline)),
        (timeout, deadline) => timeout.or(deadline),
    }
}

pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "this LLMInterface was closed").hint("make a new one")
}

/// One call while it is carried out.
struct Run<'a> {
    engine: &'a Arc<Engine>,
    request: ChatRequest,
    ask: Ask,
    route: Vec<Stop>,
    /// The encoded request of each stop, once it was needed.
    encoded: Vec<Option<(WireRequest, Bytes)>>,
    call: Call,
    has_deadline: bool,
    attempts: Vec<Attempt>,
    held: Option<Held>,
    /// Whether the last attempt has not come to its end.
    under_way: bool,
    answer: Option<Completion>,
    /// What the last lane asked for said, until that was told or overcome.
    refused: Option<Refusal>,
    began: Moment,
    /// Since when it has been waiting.
    idle_since: Moment,
    /// The key of the last refusal and why, until the next lane is chosen.
    left_key: Option<(usize, usize, String)>,
}

impl<'a> Run<'a> {
    fn new(
        engine: &'a Arc<Engine>,
        mut ask: Ask,
        route: Vec<Stop>,
        began: Moment,
        deadline: Option<Moment>,
    ) -> Self {
        let settings = &engine.settings;
        let call = Call::new(CallPolicy {
            targets: route.len(),
            retry: ask.retry,
            retries: RetryPolicy {
                max_retries: ask.max_retries.unwrap_or(settings.retry.max_retries),
                base: ask.retry_delay.unwrap_or(settings.retry.retry_delay),
                cap: settings.retry.cap,
            },
            fallback: ask.fallback,
            deadline,
            max_wait: settings.max_wait,
        });
        let messages = std::mem::take(&mut ask.messages);
        let request = ChatRequest { messages, params: serde_json::Map::new() };
        let encoded = route.iter().map(|_| None).collect();
        Run {
            engine,
            request,
            ask,
            route,
            encoded,
            call,
            has_deadline: deadline.is_some(),
            attempts: Vec::new(),
            held: None,
            under_way: false,
            answer: None,
            refused: None,
            began,
            idle_since: began,
            left_key: None,
        }
    }

    async fn drive(&mut self) -> Result<Answer, Error> {
        self.engine.retry_budget.lock().earn();
        let mut event = Event::Begin;
        loop {
            let before = self.call.target();
            let action = self.call.step(self.engine.clock.now(), event);
            self.tell_of_fallback(before, &action);
            event = match action {
                Action::Reserve { target, barred } => self.reserve(target, &barred)?,
                Action::Wait { target, barred, patience } => {
                    self.wait(target, barred, patience).await?
                }
                Action::Send => self.attempt().await?,
                Action::Rest(until) => {
                    self.engine.clock.sleep_until(until).await;
                    Event::Rested
                }
                Action::Succeed => return self.finish(),
                Action::GiveUp(reason) => {
                    let target = &self.route[before].target;
                    let now = self.engine.clock.now();
                    return Err(giving_up::error(reason, target, self.has_deadline, now));
                }
            };
        }
    }

    fn need(&self, target: &Target) -> Need {
        let provider = &target.vendor.provider;
        let stop = &self.route[self.call.target()];
        Need {
            input_tokens: self.request.estimated_input_tokens(&stop.params),
            max_output_tokens: ChatRequest::max_output_tokens(&stop.params),
            reserves_max_tokens: provider.reserves_max_tokens,
            counts_output: provider.counts_output,
            ahead_of_limits: self.ask.skip_rate_limit,
        }
    }

    fn reserve(&mut self, place: usize, barred: &[usize]) -> Result<Event, Error> {
        self.refused = None;
        let target = self.route[place].target.clone();
        if !self.ask.skip_rate_limit && !target.line.lock().is_empty() {
            return Ok(Event::OthersWait);
        }
        let need = self.need(&target);
        Ok(match self.engine.try_reserve(&target, &need, barred)? {
            Booked::Reserved(held) => self.hold(held),
            Booked::Never(refusal) => Event::Never(refusal),
            Booked::NotNow(refusal) => {
                self.refused = Some(refusal.clone());
                Event::NotNow(refusal)
            }
        })
    }

    async fn wait(
        &mut self,
        place: usize,
        barred: Vec<usize>,
        patience: Patience,
    ) -> Result<Event, Error> {
        let target = self.route[place].target.clone();
        let need = self.need(&target);
        self.tell_of_wait(&target);
        let priority = self.ask.priority;
        let rank = if self.call.comes_back() { Rank::Again(priority) } else { Rank::New(priority) };
        let waited = self.engine.wait_in_line(&target, rank, need, barred, patience).await;
        Ok(match waited {
            Waited::Reserved(held) => self.hold(held),
            Waited::NotNow(refusal) => Event::NotNow(refusal),
            Waited::Never(refusal) => Event::Never(refusal),
            Waited::LineFull => Event::LineFull,
            Waited::StateFailed(error) => return Err(error.into()),
            Waited::Closed => return Err(closed()),
        })
    }

    fn hold(&mut self, held: Held) -> Event {
        let lane = held.reservation.lane;
        self.refused = None;
        if let Some((place, from, failure)) = self.left_key.take()
            && place == self.call.target()
            && from != held.key()
        {
            let keys = &held.target.vendor.keys;
            self.engine.observer.notice(&Notice::Rotates {
                target: held.target.name.clone(),
                from: keys[from].label.clone(),
                to: keys[held.key()].label.clone(),
                failure,
            });
        }
        self.held = Some(held);
        Event::Reserved { lane }
    }

    /// Sends the request down the lane that is held and books what comes of it.
    async fn attempt(&mut self) -> Result<Event, Error> {
        let Some(mut held) = self.held.take() else {
            return Err(Error::new(ErrorKind::Internal, "a call was to be sent without a lane"));
        };
        let outgoing = self.outgoing(&held)?;
        let started = self.engine.clock.now();
        let waited = started.since(self.idle_since);
        held.leaves();
        self.begin_attempt(&held, started, waited);
        let sent = self.engine.transport.post(outgoing).await;
        let now = self.engine.clock.now();
        self.idle_since = now;
        let provider = &held.target.vendor.provider;
        let (outcome, hints, status) = match sent {
            Err(failure) => (Err(failure), Hints::default(), None),
            Ok(incoming) => {
                let response = WireResponse {
                    status: incoming.status,
                    headers: &incoming.headers,
                    body: &incoming.body,
                    now,
                    estimate: held.reservation.amounts,
                    model: &held.target.model,
                };
                let mut hints = provider.hints(&incoming.headers, now);
                let decoded = provider.decode(&response);
                if decoded.as_ref().is_err_and(|failure| failure.class.is_quota()) {
                    hints.refine(&provider.limits_told(&response));
                }
                (decoded, hints, Some(incoming.status))
            }
        };
        let outcome = outcome.map_err(|failure| held.target.vendor.redacted(failure));
        self.end_attempt(now.since(started), outcome.as_ref().err(), status);
        let organization = hints.organization.clone();
        let (target, key) = (held.target.clone(), held.key());
        let event = match outcome {
            Ok(completion) => {
                let used = completion.usage.map(|usage| {
                    counted(&usage, provider.counts_output, provider.counts_cached_input)
                });
                self.settle(held, Ending::Answered(used), &hints, None);
                self.answer = Some(completion);
                Event::Answered
            }
            Err(failure) => self.failed(held, failure, &hints),
        };
        if let Some(organization) = organization {
            self.engine.join_group(&target.vendor, key, &organization);
        }
        Ok(event)
    }

    fn failed(&mut self, held: Held, failure: Failure, hints: &Hints) -> Event {
        let engine = self.engine;
        let (target, key) = (held.target.clone(), held.key());
        let closed = self.settle(held, Ending::of(&failure), hints, Some(&failure));
        if let Some(block) = closed {
            engine.observer.notice(&Notice::Closed {
                target: target.name.clone(),
                key: target.vendor.keys[key].label.clone(),
                block,
                message: failure.message.clone(),
            });
        }
        self.left_key = Some((self.call.target(), key, failure.class.name().to_owned()));
        let pays = failure.remedy().same_lane == SameLane::AfterBackoff && self.ask.retry;
        let budget_wait =
            if pays { engine.retry_budget.lock().pay(engine.clock.now()) } else { Duration::ZERO };
        Event::Failed { failure: Box::new(failure), budget_wait, entropy: engine.entropy.draw() }
    }

    /// An answer is handed over even when it cannot be written down that it came: the reservation stays counted.
    fn settle(
        &self,
        held: Held,
        ending: Ending,
        hints: &Hints,
        failure: Option<&Failure>,
    ) -> Option<Block> {
        let settled: Result<Option<Block>, StoreError> = held.settle(ending, hints, failure);
        settled.unwrap_or_else(|error| {
            self.engine.observer.notice(&Notice::Warns(format!("{error}; {}", error.hint())));
            None
        })
    }

    fn outgoing(&mut self, held: &Held) -> Result<Outgoing, Error> {
        let place = self.call.target();
        let vendor = &held.target.vendor;
        if self.encoded[place].is_none() {
            self.request.params = self.route[place].params.clone();
            let mut wire = vendor.provider.encode(&self.request, &held.target.model)?;
            let body = Bytes::from(std::mem::take(&mut wire.body));
            self.encoded[place] = Some((wire, body));
        }
        let Some((wire, body)) = &self.encoded[place] else {
            return Err(Error::new(ErrorKind::Internal, "a request was not encoded"));
        };
        let secret = vendor.keys[held.key()].secret.clone();
        Ok(Outgoing {
            url: wire.path_url.clone(),
            headers: wire.headers.clone(),
            key: wire.key_header.zip(secret),
            body: body.clone(),
            read_timeout: vendor.settings.timeout.unwrap_or(self.engine.settings.timeouts.read),
        })
    }

    fn begin_attempt(&mut self, held: &Held, started: Moment, waited: Duration) {
        let vendor = &held.target.vendor;
        if let (Some(hook), Some(before)) = (&self.ask.on_retry, self.attempts.last()) {
            (hook.0)(before);
        }
        self.under_way = true;
        self.attempts.push(Attempt {
            provider: vendor.provider.name.clone(),
            model: held.target.model.clone(),
            key: vendor.keys[held.key()].label.clone(),
            // Until it is over; what is left like this was cut off by the caller's deadline.
            failure: Some(crate::kernel::FailureClass::Timeout),
            status: None,
            started,
            lasted: Duration::ZERO,
            waited,
        });
    }

    fn end_attempt(&mut self, lasted: Duration, failure: Option<&Failure>, status: Option<u16>) {
        self.under_way = false;
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.lasted = lasted;
            attempt.failure = failure.map(|failure| failure.class);
            attempt.status = failure.and_then(|failure| failure.status).or(status);
        }
    }

    fn tell_of_wait(&mut self, target: &Target) {
        let name = target.name.clone();
        self.engine.observer.notice(&match self.refused.take() {
            Some(refusal) => {
                let key = target.vendor.keys[refusal.lane].label.clone();
                Notice::Waits { target: name, key, obstacle: refusal.obstacle }
            }
            None => Notice::Queues { target: name, ahead: target.line.lock().len() },
        });
    }

    fn tell_of_fallback(&mut self, before: usize, action: &Action) {
        let after = self.call.target();
        if let Action::Rest(until) = action {
            let pause = until.since(self.engine.clock.now());
            let failure = self.left_key.as_ref().map_or_else(String::new, |left| left.2.clone());
            let target = self.route[after].target.name.clone();
            self.engine.observer.notice(&Notice::Rests { target, failure, pause });
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
        self.engine.observer.notice(&Notice::FallsBack {
            from: name(before),
            to: name(after),
            reason,
        });
    }

    fn finish(&mut self) -> Result<Answer, Error> {
        let (Some(completion), Some(attempt)) = (self.answer.take(), self.attempts.last()) else {
            return Err(Error::new(ErrorKind::Internal, "a call succeeded without an answer"));
        };
        Ok(Answer {
            text: completion.text,
            provider: attempt.provider.clone(),
            model: attempt.model.clone(),
            key: attempt.key.clone(),
            usage: completion.usage,
            finish_reason: completion.finish_reason,
            tool_calls: completion.tool_calls,
            raw: completion.raw,
            latency: self.engine.clock.now().since(self.began),
            attempts: std::mem::take(&mut self.attempts),
        })
    }

    fn with_facts(&mut self, mut error: Error) -> Error {
        if let Some(cut_off) = self.attempts.last_mut().filter(|_| self.under_way) {
            cut_off.lasted = self.engine.clock.now().since(cut_off.started);
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
        error.attempts = std::mem::take(&mut self.attempts);
        error
    }
}
