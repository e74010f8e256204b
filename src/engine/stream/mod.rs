//! Streaming calls: the same call as a prompt, whose answer arrives in pieces.
//!
//! `Engine::stream` returns a `Streaming`. It is driven only by the caller that asks for the next piece, so
//! backpressure is a socket that is not read. It is the same `Sending` and `Run` as a prompt. The transport watches
//! the silence between two chunks, `Timeouts::for_a_piece` the time without a piece, `in_time` the deadline. Limits
//! in the head of the answer are recorded when it arrives.
//!
//! - Until an attempt has produced a piece, its failure is handled as for any call.
//! - After that, the attempt is settled as `CutOff`: what was used until then. Then the stream fails with
//!   `ErrorKind::Interrupted`, or the call goes on elsewhere, as its remedy says. The seam is reported when the next
//!   attempt produces a piece, so failed attempts in between are no seams.
//! - `Resume::Continue` sends the conversation, the text so far, and the wish to continue. With no text yet it
//!   restarts. After a finish reason it fails: a model that was done adds words when it is asked to continue.
//! - The usage so far is kept up to date with each chunk, so a drop at any time settles correctly.
//! - After the final event the rest of the body is read for one second at most, so that the connection can be reused.

pub(super) mod parked;
mod reader;
pub(super) mod streams;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;

use super::call::Calls;
use super::call::answer::Answer;
use super::call::errors::{self, Break, closed};
use super::call::question::QuestionDigest;
use super::call::request::Request;
use super::call::run::Next;
use super::call::send::{Form, Sending, read_whole};
use super::dispatch::prices::cost_of_answer;
use super::dispatch::types::HeldReservation;
use super::world::observer::Notice;
use super::world::transport::Opened;
use crate::error::{Attempt, Error, Spent};
use crate::kernel::{Event, Failure, FailureClass, GiveUp, Hints, Moment};
use crate::providers::{
    ChatRequest, Completion, Content, Message, Role, StreamPiece, TransportFault,
};
use reader::{Reading, finish_reading, gathered, nothing_said, whole_call};
use streams::Streams;

/// How a stream continues that broke off after its first piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// The prompt is sent again; the text so far is void.
    Restart,
    /// The model gets the text so far and is asked to continue it.
    Continue,
}

/// Something that arrived.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamEvent {
    /// A piece of the answer, of its thinking or of a tool call.
    Piece(StreamPiece),
    /// From here on the pieces come from another attempt.
    Seam(Box<Seam>),
}

/// Where one attempt broke off and another one continues. Tool calls and thinking that had begun are void.
#[derive(Clone, Debug, PartialEq)]
pub struct Seam {
    /// Whether the text so far is void, too.
    pub restarts: bool,
    /// The attempt that broke off.
    pub broken: Attempt,
    /// What was wrong, in the provider's words.
    pub message: String,
    /// The provider that continues.
    pub provider: String,
    /// Its model.
    pub model: String,
    /// The label of its key.
    pub key: String,
}

/// A call whose answer comes in pieces. Nothing is sent before the first pull. Dropping it ends the request and settles
/// what was used.
pub struct Streaming {
    streams: Arc<Streams>,
    sending: Sending,
    resume: Option<Resume>,
    /// The longest silence, if the call sets one.
    silence: Option<Duration>,
    /// How many messages the caller's own conversation has.
    asked: usize,
    state: State,
    ready: VecDeque<StreamEvent>,
    /// The text of attempts that broke off, as far as it counts.
    before: String,
    /// What these attempts used, whether it counts or not.
    spent: Spent,
    /// The attempt that broke off, until another one produces a piece.
    broke: Option<Broke>,
    was_resumed: bool,
    first_token: Option<Duration>,
    answer: Option<Answer>,
    /// The question, and how old a cached answer may be.
    cache: Option<(QuestionDigest, Duration)>,
}

enum State {
    /// The next event for the state machine.
    Moving(Event),
    /// An answer is arriving.
    Reading(Box<Reading>),
    /// It broke off and cannot continue.
    Failed(Error),
    Over,
}

struct Broke {
    attempt: Attempt,
    message: String,
    restarts: bool,
}

/// No more pieces than this are read ahead.
const MOST_AT_ONCE: usize = 256;
const GO_ON: &str = "Your answer was cut off. Go on exactly where it stops, in the middle of a word if need be, \
    without repeating any of it and without any remark.";

impl std::fmt::Debug for Streaming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streaming").field("resume", &self.resume).finish_non_exhaustive()
    }
}

impl Streams {
    /// Begins a call whose answer comes in pieces; nothing is reserved or sent yet. Its time counts from here.
    pub(in crate::engine) fn stream(
        self: &Arc<Self>,
        ask: Request,
        resume: Option<Resume>,
        silence: Option<Duration>,
    ) -> Result<Streaming, Error> {
        let ttl = self.calls.answers_hold(ask.cache);
        let sending = Sending::prepared(&self.calls, ask, Form::Pieces(silence))?;
        Ok(Streaming {
            streams: self.clone(),
            cache: ttl.map(|ttl| (sending.question(), ttl)),
            asked: sending.request.messages.len(),
            sending,
            resume,
            silence,
            state: State::Moving(Event::Begin),
            ready: VecDeque::new(),
            before: String::new(),
            spent: Spent::default(),
            broke: None,
            was_resumed: false,
            first_token: None,
            answer: None,
        })
    }
}

impl Streaming {
    /// Waits for the next piece; `None` at the end of the answer. Dropping the future cancels the call.
    ///
    /// # Errors
    /// [`Error`] with all attempts; after the first piece one of kind [`crate::error::ErrorKind::Interrupted`], unless
    /// the caller's time was over, the engine was closed, or the line was cleared in which it waited to continue.
    pub async fn next(&mut self) -> Result<Option<StreamEvent>, Error> {
        if let Some(event) = self.ready.pop_front() {
            return Ok(Some(event));
        }
        if matches!(self.state, State::Over) {
            return Ok(None);
        }
        let streams = self.streams.clone();
        let calls = &streams.calls;
        let expires = self.sending.expires;
        let mut closing = std::pin::pin!(streams.closing.notified());
        closing.as_mut().enable();
        let outcome = if calls.dispatch.is_closed() {
            Err(closed())
        } else {
            let work = pin!(self.work());
            tokio::select! {
                biased;
                outcome = calls.in_time(expires, work) => outcome,
                () = closing => Err(closed()),
            }
        };
        match outcome {
            Ok(()) => Ok(self.ready.pop_front()),
            Err(error) if self.ready.is_empty() => Err(self.failed(error)),
            Err(error) => {
                // What arrived is handed out before it.
                self.state = State::Failed(error);
                Ok(self.ready.pop_front())
            }
        }
    }

    /// When it is over at the latest.
    pub(super) fn expires(&self) -> Option<Moment> {
        self.sending.expires
    }

    /// The streams of its engine.
    fn streams(&self) -> &Arc<Streams> {
        &self.streams
    }

    fn calls(&self) -> &Arc<Calls> {
        &self.streams.calls
    }

    /// Ends it with `error`, which [`Streaming::next`] returns after what has arrived. Returns the aborted request: its
    /// drop settles what was used.
    pub(super) fn stop(&mut self, error: Error) -> Option<Box<Reading>> {
        if matches!(self.state, State::Over | State::Failed(_)) {
            return None;
        }
        match std::mem::replace(&mut self.state, State::Failed(error)) {
            State::Reading(reading) => Some(reading),
            _ => None,
        }
    }

    /// A piece that is there already.
    pub fn ready(&mut self) -> Option<StreamEvent> {
        self.ready.pop_front()
    }

    /// Whether an answer is on its way, which dropping this would end.
    pub fn is_arriving(&self) -> bool {
        matches!(self.state, State::Reading(_))
    }

    /// The whole answer, once [`Streaming::next`] has returned `None`. Given once.
    pub fn answer(&mut self) -> Option<Answer> {
        self.answer.take()
    }

    /// Goes on until there is something to hand out, or nothing more will come.
    async fn work(&mut self) -> Result<(), Error> {
        if matches!(self.state, State::Moving(Event::Begin)) && self.is_given_again() {
            return Ok(());
        }
        let clock = self.calls().dispatch.world.clock.clone();
        let (mut waits_since, mut nothing) = (clock.now(), None);
        while self.ready.is_empty() {
            if let State::Reading(reading) = &mut self.state {
                let patience = reading.patience;
                let nothing =
                    nothing.get_or_insert_with(|| clock.sleep_until(waits_since + patience));
                let chunk = tokio::select! {
                    biased;
                    chunk = reading.body.next() => chunk,
                    () = nothing => Err(nothing_said(patience)),
                };
                self.take_in(chunk)?;
                continue;
            }
            nothing = None;
            // Dropping this future here cancels the call.
            match std::mem::replace(&mut self.state, State::Over) {
                State::Moving(event) => match self.sending.advance(event).await? {
                    Next::Send(held) => {
                        waits_since = clock.now();
                        self.state = self.open(*held).await?;
                    }
                    Next::Succeed => return Ok(()),
                },
                State::Failed(error) => return Err(error),
                State::Reading(_) | State::Over => return Ok(()),
            }
        }
        self.gather().await
    }

    /// Hands out the cached answer to the same question, if there is one.
    fn is_given_again(&mut self) -> bool {
        let Some((name, ttl)) = self.cache else { return false };
        let run = &self.sending.run;
        let Some(answer) = run.calls.given_before(&name, ttl, run.began) else { return false };
        self.state = State::Over;
        self.ready.extend(pieces_of(&answer).map(StreamEvent::Piece));
        self.answer = Some(Answer { first_token: Some(answer.latency), ..answer });
        true
    }

    /// Takes what else is there already, so that one pull returns all pieces that have arrived.
    async fn gather(&mut self) -> Result<(), Error> {
        let mut yielded = false;
        while self.ready.len() < MOST_AT_ONCE {
            let State::Reading(reading) = &mut self.state else { break };
            let chunk = poll_fn(|context| match reading.body.next().as_mut().poll(context) {
                Poll::Ready(chunk) => Poll::Ready(Some(chunk)),
                Poll::Pending => Poll::Ready(None),
            });
            match chunk.await {
                Some(chunk) => {
                    self.take_in(chunk)?;
                    yielded = false;
                }
                None if yielded => break,
                // The task that reads the connection hands over one chunk at a time and needs a turn for it.
                None => {
                    tokio::task::yield_now().await;
                    yielded = true;
                }
            }
        }
        Ok(())
    }

    /// Sends the request down the lane that is held, as far as the head of the answer.
    async fn open(&mut self, mut held: HeldReservation) -> Result<State, Error> {
        let outgoing = self.sending.outgoing(&held)?;
        let silence = outgoing.read_timeout;
        self.sending.run.begin_attempt(&mut held);
        let calls = self.sending.run.calls.clone();
        let opened = match calls.dispatch.world.transport.open(outgoing).await {
            Ok(opened) if (200..300).contains(&opened.status) => Ok(opened),
            Ok(refused) => Err(gathered(refused).await),
            Err(failure) => Err(Err(failure)),
        };
        let now = calls.dispatch.now();
        let provider = &held.target.vendor.provider;
        let (failure, hints, status) = match opened {
            Ok(Opened { status, headers, body }) => {
                let reader = provider.read_stream();
                self.observe_headers(&held, &provider.hints(&headers, now));
                let timeouts = &calls.settings.timeouts;
                let patience = timeouts.for_a_piece(silence, self.silence.is_some());
                return Ok(State::Reading(Box::new(Reading::new(
                    held, body, reader, status, headers, patience,
                ))));
            }
            Err(Ok(incoming)) => {
                let (read, hints) = read_whole(&held, &incoming, now);
                let not_a_stream = || TransportFault::Broken.failure("no stream was opened");
                (
                    read.map_or_else(|failure| failure, |_| not_a_stream()),
                    hints,
                    Some(incoming.status),
                )
            }
            Err(Err(failure)) => (failure, Hints::default(), None),
        };
        let failure = held.target.vendor.redacted(failure);
        let run = &mut self.sending.run;
        run.end_attempt(now, Some(&failure), status);
        Ok(State::Moving(run.failed(held, failure, &hints)))
    }

    /// Records the limits in the head of an answer: the rest may take minutes, or never be read.
    fn observe_headers(&self, held: &HeldReservation, hints: &Hints) {
        let (calls, vendor) = (self.calls(), &held.target.vendor);
        if let Err(error) = held.observe_headers(hints) {
            calls.dispatch.notice(&Notice::Warning(format!("{error}; {}", error.hint())));
        }
        if let Some(organization) = &hints.organization {
            calls.dispatch.join_group(vendor, held.key(), organization, &hints.rates);
        }
    }

    /// Reads what arrived, or that nothing more will.
    fn take_in(&mut self, chunk: Result<Option<Bytes>, Failure>) -> Result<(), Error> {
        let State::Reading(mut reading) = std::mem::replace(&mut self.state, State::Over) else {
            return Ok(());
        };
        let now = self.sending.run.calls.dispatch.now();
        let mut pieces = Vec::new();
        let read = chunk.and_then(|chunk| reading.read(chunk.as_deref(), now, &mut pieces));
        reading.complete(&mut pieces, read.as_ref().ok().and_then(Option::as_ref));
        if !pieces.is_empty() {
            self.hand_out(pieces, now);
        }
        reading.count();
        match read {
            Ok(None) => self.state = State::Reading(reading),
            Ok(Some(completion)) => self.answered(*reading, completion, now)?,
            Err(failure) => self.break_off(*reading, failure, now),
        }
        Ok(())
    }

    fn hand_out(&mut self, pieces: Vec<StreamPiece>, now: Moment) {
        self.first_token.get_or_insert(now.since(self.sending.run.began));
        self.tell_seam();
        self.ready.extend(pieces.into_iter().map(StreamEvent::Piece));
    }

    /// The pieces come from another attempt now.
    fn tell_seam(&mut self) {
        let Some(Broke { attempt: broken, message, restarts }) = self.broke.take() else { return };
        let Some(now) = self.sending.run.attempts.last() else { return };
        if restarts {
            self.before.clear();
        }
        let (provider, model, key) = (now.provider.clone(), now.model.clone(), now.key.clone());
        let seam = Seam { restarts, broken, message, provider, model, key };
        self.ready.push_back(StreamEvent::Seam(Box::new(seam)));
    }

    fn answered(
        &mut self,
        reading: Reading,
        mut completion: Completion,
        now: Moment,
    ) -> Result<(), Error> {
        let Reading { mut held, body, status, .. } = reading;
        finish_reading(body);
        self.tell_seam();
        let run = &mut self.sending.run;
        run.end_attempt(now, None, Some(status));
        let used = completion.usage.map(|usage| held.billed(&usage, &completion.raw));
        held.bill = completion.usage;
        // Nothing more is to be done: the call is over.
        let _ = run.answered(held, used, &Hints::default());
        completion.text.insert_str(0, &self.before);
        let mut answer = self.sending.finish(Some(completion))?;
        // An answer that was put together from two attempts is not cached.
        if self.cache.is_some() && !self.was_resumed {
            answer = self.sending.run.calls.keep(&self.sending.question(), answer);
        }
        let (first_token, spent_before) = (self.first_token, self.spent);
        self.answer = Some(Answer { first_token, spent_before, ..answer });
        Ok(())
    }

    /// An attempt failed; if it had produced a piece, in the middle of its answer.
    fn break_off(&mut self, reading: Reading, failure: Failure, now: Moment) {
        let Reading { held, reader, status, spoke, .. } = reading;
        // The limits in its head are recorded already.
        let hints = Hints::default();
        let target = held.target.clone();
        let failure = target.vendor.redacted(failure);
        let run = &mut self.sending.run;
        run.end_attempt(now, Some(&failure), Some(status));
        if !spoke {
            self.state = State::Moving(run.failed(held, failure, &hints));
            return;
        }
        let used = held.cut_off();
        if let Some(usage) = held.taken_so_far() {
            let (own, started) = (&run.calls.dispatch.prices, held.reservation.at);
            let provider = &target.vendor.provider.name;
            let cost = cost_of_answer(own, provider, &target.model, Some(&usage), b"", started);
            self.spent.add(&usage, cost);
        }
        let event = run.failed_as(held, used, failure.clone(), &hints);
        let broken = run.attempts.last().cloned();
        self.before.push_str(reader.text_so_far());
        let (message, class) = (failure.message.clone(), failure.class);
        // Asked to continue, a model that was done would add to its answer; asking again loses nothing.
        let was_whole = reader.is_said() && !self.before.is_empty();
        let resume = self.resume.filter(|resume| *resume == Resume::Restart || !was_whole);
        let (Some(resume), Some(attempt)) = (resume, broken) else {
            let error = errors::error(GiveUp::Failed(Box::new(failure)), &target, false, now);
            let (text, was_resumed) = (self.before.clone(), self.was_resumed);
            let how = Break { text, class, was_resumed, was_whole, spent: self.spent };
            self.state = State::Failed(errors::interrupted(error, how));
            return;
        };
        // Without text there is nothing to continue.
        let restarts = resume == Resume::Restart || self.before.is_empty();
        if !restarts {
            let (asked, said) = (self.asked, self.before.clone());
            self.sending.ask_instead(|request| go_on(request, asked, said));
        }
        self.broke = Some(Broke { attempt, message, restarts });
        self.was_resumed = true;
        self.state = State::Moving(event);
    }

    /// The error with all facts of this call, which is over.
    fn failed(&mut self, error: Error) -> Error {
        self.state = State::Over;
        let error = match self.broke.take() {
            Some(broke) => {
                let text = std::mem::take(&mut self.before);
                let class = broke.attempt.failure.unwrap_or(FailureClass::Network);
                let (was_resumed, was_whole, spent) = (true, false, self.spent);
                let how = Break { text, class, was_resumed, was_whole, spent };
                errors::interrupted(error, how)
            }
            None => error,
        };
        self.sending.run.with_facts(error)
    }
}

/// A whole answer in pieces again: word by word, and each call of a tool at once.
fn pieces_of(answer: &Answer) -> impl Iterator<Item = StreamPiece> {
    let words = answer.text.split_inclusive(' ').map(|word| StreamPiece::Text(word.to_owned()));
    words.chain(answer.tool_calls.iter().enumerate().map(whole_call))
}

/// The caller's conversation, then the text so far and the wish to continue.
fn go_on(request: &mut ChatRequest, asked: usize, said: String) {
    let turn = |role, text| Message {
        role,
        content: Content::Text(text),
        tool_calls: Vec::new(),
        tool_call_id: None,
        name: None,
    };
    request.messages.truncate(asked);
    request.messages.push(turn(Role::Assistant, said));
    request.messages.push(turn(Role::User, GO_ON.to_owned()));
}
