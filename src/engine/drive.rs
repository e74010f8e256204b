//! How is a prompt sent? The loop that does what the kernel says: action, effect, event.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Map;

use super::Engine;
use super::ask::{Answer, Ask};
use super::booking::Held;
use super::route::Stop;
use super::run::{Manner, Next, Run, closed};
use super::transport::Outgoing;
use crate::error::{Error, ErrorKind};
use crate::kernel::{CallPolicy, Event, Hints, Moment, Need, counted};
use crate::providers::{ChatRequest, Completion, WireRequest, WireResponse};

impl Engine {
    /// Carries out one call, whatever it takes.
    ///
    /// Dropping the future is cancelling the call: what was not sent is given back.
    ///
    /// # Errors
    /// [`Error`] with all attempts.
    pub async fn send(self: &Arc<Self>, mut ask: Ask) -> Result<Answer, Error> {
        if self.is_closed() {
            return Err(closed());
        }
        let began = self.clock.now();
        let expires = expiry(ask.timeout, ask.deadline, self.settings.timeouts.call, began);
        if ask.deadline.is_some_and(|deadline| deadline <= began) {
            return Err(Error::argument("deadline", "the deadline has passed already"));
        }
        let route = self.route(&ask)?;
        let messages = std::mem::take(&mut ask.messages);
        let request = ChatRequest { messages, params: Map::new() };
        let route = self.fitting(route, &request)?;
        let mut sending = Sending::new(self, ask, request, route, began, expires);
        let outcome = self.in_time(expires, sending.drive()).await;
        outcome.map_err(|error| sending.run.with_facts(error))
    }

    /// What comes of `work` if it is done before `expires`.
    pub(super) async fn in_time<T>(
        &self,
        expires: Option<Moment>,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let Some(end) = expires else { return work.await };
        tokio::select! {
            biased;
            outcome = work => outcome,
            () = self.clock.sleep_until(end) => {
                Err(Error::new(ErrorKind::Deadline, "the time for this call is over"))
            }
        }
    }
}

/// When a call is over at the latest.
pub(super) fn expiry(
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

/// A prompt on its way.
struct Sending {
    run: Run,
    request: ChatRequest,
    ahead_of_limits: bool,
    priority: u8,
    /// The encoded request of each stop, once it was needed.
    encoded: Vec<Option<(WireRequest, Bytes)>>,
    answer: Option<Completion>,
}

impl Sending {
    fn new(
        engine: &Arc<Engine>,
        mut ask: Ask,
        request: ChatRequest,
        route: Vec<Stop>,
        began: Moment,
        deadline: Option<Moment>,
    ) -> Self {
        let settings = &engine.settings;
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
            has_deadline: deadline.is_some(),
            on_retry: ask.on_retry.take(),
            watch: ask.watch.take(),
        };
        Sending {
            encoded: route.iter().map(|_| None).collect(),
            request,
            priority: ask.priority,
            ahead_of_limits: ask.skip_rate_limit,
            run: Run::new(engine.clone(), route, policy, manner, began),
            answer: None,
        }
    }

    async fn drive(&mut self) -> Result<Answer, Error> {
        let mut event = Event::Begin;
        loop {
            let (request, ahead, priority) = (&self.request, self.ahead_of_limits, self.priority);
            let need = |stop: &Stop| need(request, stop, ahead, priority);
            event = match self.run.advance(event, need).await? {
                Next::Send(held) => self.attempt(held).await?,
                Next::Succeed => return self.finish(),
            }
        }
    }

    /// Sends the request down the lane that is held and books what comes of it.
    async fn attempt(&mut self, mut held: Held) -> Result<Event, Error> {
        let outgoing = self.outgoing(&held)?;
        self.run.begin_attempt(&mut held);
        let engine = self.run.engine.clone();
        let sent = engine.transport.post(outgoing).await;
        let now = engine.clock.now();
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
        self.run.end_attempt(now, outcome.as_ref().err(), status);
        Ok(match outcome {
            Ok(completion) => {
                let used = completion.usage.map(|usage| {
                    counted(&usage, provider.counts_output, provider.counts_cached_input)
                });
                self.answer = Some(completion);
                self.run.answered(held, used, &hints)
            }
            Err(failure) => self.run.failed(held, failure, &hints),
        })
    }

    fn outgoing(&mut self, held: &Held) -> Result<Outgoing, Error> {
        let place = self.run.stop();
        let vendor = &held.target.vendor;
        if self.encoded[place].is_none() {
            self.request.params = self.run.route[place].params.clone();
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
            is_near: vendor.local,
            read_timeout: vendor.settings.timeout.unwrap_or(self.run.engine.settings.timeouts.read),
        })
    }

    fn finish(&mut self) -> Result<Answer, Error> {
        let run = &mut self.run;
        let (Some(completion), Some(attempt)) = (self.answer.take(), run.attempts.last()) else {
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
            latency: run.engine.clock.now().since(run.began),
            attempts: std::mem::take(&mut run.attempts),
        })
    }
}

fn need(request: &ChatRequest, stop: &Stop, ahead_of_limits: bool, priority: u8) -> Need {
    let provider = &stop.target.vendor.provider;
    Need {
        input_tokens: request.estimated_input_tokens(&stop.params),
        max_output_tokens: ChatRequest::max_output_tokens(&stop.params),
        reserves_max_tokens: provider.reserves_max_tokens,
        counts_output: provider.counts_output,
        ahead_of_limits,
        kept: stop.target.kept(priority),
        only_key: None,
        last_resort: false,
    }
}
