//! Sending a prompt: the loop of action, effect and event.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Map;

use super::Calls;
use super::answer::Answer;
use super::errors::{closed, passed, time_is_over};
use super::request::Request;
use super::route::Stop;
use super::run::{Manner, Next, Run};
use crate::engine::dispatch::types::HeldReservation;
use crate::engine::dispatch::users::User;
use crate::engine::world::transport::{Incoming, Outgoing};
use crate::error::{Error, ErrorKind, Spent};
use crate::kernel::{CallPolicy, Demand, Event, Failure, Hints, Moment};
use crate::providers::{ChatRequest, Completion, WireRequest, WireResponse};

impl Calls {
    /// Carries out one call, with its waits, retries and fallbacks.
    pub(in crate::engine) fn send(
        self: &Arc<Self>,
        ask: Request,
    ) -> impl Future<Output = Result<Answer, Error>> + Send + use<> {
        let ttl = self.answers_hold(ask.cache);
        // A hundred thousand of these may wait, so the future holds only what waiting needs.
        let prepared = Sending::prepared(self, ask, Form::Whole).map(Box::new);
        async move {
            let mut sending = prepared?;
            match ttl {
                Some(ttl) => Box::pin(sending.carry_out_once(ttl)).await,
                None => sending.carry_out().await,
            }
        }
    }

    /// As `send`, for a task that was made with the call: once it runs it keeps no room for it.
    pub(in crate::engine) fn send_boxed(
        self: &Arc<Self>,
        ask: Box<Request>,
    ) -> impl Future<Output = Result<Answer, Error>> + Send + use<> {
        self.send(*ask)
    }

    /// The outcome of `work` if it is done before `expires`.
    pub(in crate::engine) async fn in_time<T>(
        &self,
        expires: Option<Moment>,
        work: Pin<&mut impl Future<Output = Result<T, Error>>>,
    ) -> Result<T, Error> {
        let Some(end) = expires else { return work.await };
        tokio::select! {
            biased;
            outcome = work => outcome,
            () = self.dispatch.world.clock.sleep_until(end) => {
                Err(time_is_over())
            }
        }
    }
}

/// When a call is over at the latest.
pub(in crate::engine) fn expiry(
    timeout: Option<Duration>,
    deadline: Option<Moment>,
    usual: Option<Duration>,
    began: Moment,
) -> Option<Moment> {
    let timeout = timeout.or(usual).map(|timeout| began + timeout);
    match (timeout, deadline) {
        (Some(timeout), Some(deadline)) => Some(timeout.min(deadline)),
        (timeout, deadline) => timeout.or(deadline),
    }
}

/// How the answer is to come.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) enum Form {
    /// All at once.
    Whole,
    /// In pieces, with this longest silence between two; `None`: the provider's.
    Pieces(Option<Duration>),
}

/// A prompt on its way.
pub(in crate::engine) struct Sending {
    pub(in crate::engine) run: Run,
    pub(in crate::engine) request: ChatRequest,
    /// When it is over at the latest.
    pub(in crate::engine) expires: Option<Moment>,
    /// How long it may take once it has left the line; only calls of a batch have such a time.
    once_it_left: Option<Duration>,
    form: Form,
    ahead_of_limits: bool,
    priority: u8,
    /// The encoded request of each stop, once one was needed.
    encoded: Vec<Option<(WireRequest, Bytes)>>,
    pub(in crate::engine) answer: Option<Box<Completion>>,
}

impl Sending {
    /// A call that is checked and has not begun.
    pub(in crate::engine) fn prepared(
        calls: &Arc<Calls>,
        mut ask: Request,
        form: Form,
    ) -> Result<Sending, Error> {
        if calls.dispatch.is_closed() {
            return Err(closed());
        }
        let began = calls.dispatch.now();
        let usual = calls.settings.timeouts.call;
        // The time of a batch call begins when it leaves the line.
        let in_batch = ask.watch.is_some();
        let once_it_left = ask.timeout.or(usual).filter(|_| in_batch);
        let expires = match in_batch {
            true => ask.deadline,
            false => expiry(ask.timeout, ask.deadline, usual, began),
        };
        if ask.deadline.is_some_and(|deadline| deadline <= began) {
            return Err(match in_batch {
                // It was in the future when the batch began.
                true => {
                    Error::new(ErrorKind::Deadline, "the deadline came before this prompt was sent")
                }
                false => passed(),
            });
        }
        let route = calls.route(&ask)?;
        let messages = std::mem::take(&mut ask.messages);
        let request = ChatRequest { messages, params: Map::new() };
        let route = calls.fitting(route, &request)?;
        let sending = Sending::new(calls, ask, request, route, began, expires);
        Ok(Sending { form, once_it_left, ..sending })
    }

    fn new(
        calls: &Arc<Calls>,
        mut ask: Request,
        request: ChatRequest,
        route: Vec<Stop>,
        began: Moment,
        deadline: Option<Moment>,
    ) -> Self {
        let settings = &calls.settings;
        let cap = settings.retry.cap;
        let retries = |stop: &Stop| stop.target.retries(ask.max_retries, ask.retry_delay, cap);
        let policy = CallPolicy {
            retry: ask.retry,
            retries: route.iter().map(retries).collect(),
            fallback: ask.fallback,
            deadline,
            max_wait: settings.max_wait,
        };
        let manner = Manner {
            priority: ask.priority,
            ahead: ask.skip_rate_limit,
            user: calls.dispatch.user(ask.user.as_deref()),
            has_deadline: deadline.is_some(),
            on_retry: ask.on_retry.take(),
            watch: ask.watch.take(),
        };
        Sending {
            encoded: Vec::new(),
            request,
            expires: deadline,
            once_it_left: None,
            form: Form::Whole,
            priority: ask.priority,
            ahead_of_limits: ask.skip_rate_limit,
            run: Run::new(calls.clone(), route, policy, manner, began),
            answer: None,
        }
    }

    /// Carries it out in the time it has.
    pub(in crate::engine) async fn carry_out(&mut self) -> Result<Answer, Error> {
        let (calls, expires) = (self.run.calls.clone(), self.expires);
        let outcome = {
            let work = pin!(self.drive());
            calls.in_time(expires, work).await
        };
        outcome.map_err(|error| self.run.with_facts(error))
    }

    async fn drive(&mut self) -> Result<Answer, Error> {
        let Some(time) = self.once_it_left.take() else { return self.go_on(Event::Begin).await };
        match self.advance(Event::Begin).await? {
            Next::Send(held) => Box::pin(self.go_on_within(time, held)).await,
            Next::Succeed => Err(Error::new(ErrorKind::Internal, "a call succeeded unsent")),
        }
    }

    /// Sends it, and goes on for no longer than `time` from now.
    async fn go_on_within(
        &mut self,
        time: Duration,
        held: Box<HeldReservation>,
    ) -> Result<Answer, Error> {
        let calls = self.run.calls.clone();
        let end = calls.dispatch.now() + time;
        self.run.ends_by(end);
        let work = pin!(async {
            let event = self.attempt(held).await?;
            self.go_on(event).await
        });
        calls.in_time(Some(end), work).await
    }

    async fn go_on(&mut self, mut event: Event) -> Result<Answer, Error> {
        loop {
            event = match self.advance(event).await? {
                // Boxed, so that a waiting call needs no room for the sending.
                Next::Send(held) => Box::pin(self.attempt(held)).await?,
                Next::Succeed => {
                    let answer = self.answer.take();
                    return self.finish(answer.map(|answer| *answer));
                }
            }
        }
    }

    /// Goes on after `event` until there is something to send or nothing more to do.
    pub(in crate::engine) fn advance(
        &mut self,
        event: Event,
    ) -> impl Future<Output = Result<Next, Error>> {
        let (request, ahead, priority) = (&self.request, self.ahead_of_limits, self.priority);
        let (calls, user) = (self.run.calls.clone(), self.run.user().clone());
        self.run.advance(event, move |stop| demand(&calls, request, stop, &user, ahead, priority))
    }

    /// Sends the request down the reserved lane and settles the outcome.
    pub(in crate::engine) async fn attempt(
        &mut self,
        mut held: Box<HeldReservation>,
    ) -> Result<Event, Error> {
        let outgoing = self.outgoing(&held)?;
        self.run.begin_attempt(&mut held);
        let calls = self.run.calls.clone();
        let sent = calls.dispatch.world.transport.post(outgoing).await;
        let now = calls.dispatch.now();
        let (outcome, hints, status) = match sent {
            Err(failure) => (Err(failure), Hints::default(), None),
            Ok(incoming) => {
                let (decoded, hints) = read_whole(&held, &incoming, now);
                (decoded, hints, Some(incoming.status))
            }
        };
        let outcome = outcome.map_err(|failure| held.target.vendor.redacted(failure));
        self.run.end_attempt(now, outcome.as_ref().err(), status);
        Ok(match outcome {
            Ok(completion) => {
                let used = completion.usage.map(|usage| held.billed(&usage, &completion.raw));
                held.bill = completion.usage;
                if let Some(usage) = &completion.usage {
                    let stop = &self.run.route[self.run.stop()];
                    calls.compare_later(&mut held, &self.request, stop, usage.input_tokens);
                }
                self.answer = Some(Box::new(completion));
                self.run.answered(*held, used, &hints)
            }
            Err(failure) => self.run.failed(*held, failure, &hints),
        })
    }

    /// The request for the stop the call is at, with the key of the lane.
    pub(in crate::engine) fn outgoing(
        &mut self,
        held: &HeldReservation,
    ) -> Result<Outgoing, Error> {
        let place = self.run.stop();
        let vendor = &held.target.vendor;
        self.encoded.resize_with(self.run.route.len(), || None);
        if self.encoded[place].is_none() {
            self.request.params = self.run.route[place].params.clone();
            let (provider, model) = (&vendor.provider, &held.target.model);
            let mut wire = match self.form {
                Form::Whole => provider.encode(&self.request, model)?,
                Form::Pieces(_) => provider.encode_stream(&self.request, model)?,
            };
            let body = Bytes::from(std::mem::take(&mut wire.body));
            self.encoded[place] = Some((wire, body));
        }
        let Some((wire, body)) = &self.encoded[place] else {
            return Err(Error::new(ErrorKind::Internal, "a request was not encoded"));
        };
        let secret = vendor.keys[held.key()].secret.clone();
        let usual = || vendor.settings.timeout.unwrap_or(self.run.calls.settings.timeouts.read);
        Ok(Outgoing {
            url: wire.path_url.clone(),
            headers: wire.headers.clone(),
            key: wire.key_header.zip(secret),
            body: body.clone(),
            is_near: vendor.local,
            read_timeout: match self.form {
                Form::Pieces(Some(silence)) => silence,
                Form::Pieces(None) | Form::Whole => usual(),
            },
        })
    }

    /// Changes the request for the attempts that follow.
    pub(in crate::engine) fn ask_instead(&mut self, change: impl FnOnce(&mut ChatRequest)) {
        change(&mut self.request);
        self.encoded.iter_mut().for_each(|encoded| *encoded = None);
        self.run.route.iter_mut().for_each(Stop::forget_count);
    }

    /// What the caller gets for the answer to the last attempt.
    pub(in crate::engine) fn finish(
        &mut self,
        completion: Option<Completion>,
    ) -> Result<Answer, Error> {
        let run = &mut self.run;
        let (Some(completion), Some(attempt)) = (completion, run.attempts.last()) else {
            return Err(Error::new(ErrorKind::Internal, "a call succeeded without an answer"));
        };
        Ok(Answer {
            text: completion.text,
            provider: attempt.provider.clone(),
            model: attempt.model.clone(),
            key: attempt.key.clone(),
            usage: completion.usage,
            spent_before: Spent::default(),
            finish_reason: completion.finish_reason,
            tool_calls: completion.tool_calls,
            raw: completion.raw,
            prices: run.calls.dispatch.prices.clone(),
            latency: run.calls.dispatch.now().since(run.began),
            first_token: None,
            attempts: std::mem::take(&mut run.attempts),
            cached: false,
            kept_as: None,
        })
    }
}

/// The decoded answer of a whole body, and the limits in its headers.
pub(in crate::engine) fn read_whole(
    held: &HeldReservation,
    incoming: &Incoming,
    now: Moment,
) -> (Result<Completion, Failure>, Hints) {
    let provider = &held.target.vendor.provider;
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
    (decoded, hints)
}

pub(in crate::engine) fn demand(
    calls: &Calls,
    request: &ChatRequest,
    stop: &Stop,
    user: &User,
    ahead_of_limits: bool,
    priority: u8,
) -> Demand {
    let provider = &stop.target.vendor.provider;
    let input_tokens = request.estimated_input_tokens(&stop.params);
    let counted_tokens = stop.counted(calls, request);
    Demand {
        input_tokens,
        counted_tokens,
        max_output_tokens: ChatRequest::max_output_tokens(&stop.params),
        reserves_max_tokens: provider.reserves_max_tokens,
        counts_output: provider.counts_output,
        price: calls.dispatch.price(&stop.target, user, counted_tokens.unwrap_or(input_tokens)),
        is_again: false,
        ahead_of_limits,
        kept: stop.target.kept(priority),
        user: None,
        only_key: None,
        last_resort: false,
    }
}
