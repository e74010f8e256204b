//! A batch of calls: many calls in flight, few crossings of the Python border.
//!
//! Python reads prompts and results; the engine sends, waits and retries. They meet a few hundred times a second at
//! most. `wants` returns how many more calls to start (`kernel::batch_intake`). `put` starts them, each a task
//! of `Engine::send`. `take` returns finished ones. `wait` sleeps until a quarter of the calls in flight has ended,
//! or 256 answers are ready, or 5 ms after the first. The background thread that drives unattended calls drives a
//! batch too, so slow code between two items of `iter_batch` holds nothing up.
//!
//! A call of a batch that finds its line full tries again a moment later. Its `timeout` begins when it leaves the
//! line.
//!
//! What a batch waits for is reported by its calls (`Request.watch`): each counts in the batch's `Gauge` while it
//! waits, and the first in line names the limit. A second in which fifty calls wait is one second lost, not fifty.
//!
//! Two prompts are the same when their resolved calls are the same: `Question` digests provider, address, model,
//! parameters and instructions.

pub(super) mod time_left;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::task::AbortHandle;

use super::call::Calls;
use super::call::answer::Answer;
use super::call::request::Request;
use super::dispatch::gauge::{Gauge, Reading, Watch};
use super::dispatch::types::Target;
use crate::error::{Error, ErrorKind};
use crate::kernel::Intake;

/// A finished call of a batch: the number it was put in with, and its outcome.
pub type Finished = (u64, Result<Answer, Error>);

/// Calls that are under way together. Dropping it ends them all.
pub struct Batch {
    pub(super) calls: Arc<Calls>,
    /// What its calls are mostly like.
    pub(super) usual: Request,
    most: Option<usize>,
    /// The target most of them wait for; `None` when the usual call cannot be made.
    target: Option<Arc<Target>>,
    gauge: Arc<Gauge>,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    heard: Condvar,
    bell: Box<dyn Fn() + Send + Sync>,
}

struct State {
    intake: Intake,
    /// Put in, and not started yet.
    entering: Vec<(u64, Request)>,
    running: HashMap<u64, (AbortHandle, Arc<Watch>)>,
    finished: Vec<Finished>,
    /// How many are finished so far.
    came: u64,
    /// Whether the bell rang since [`Batch::take`].
    rung: bool,
    /// Whether it will ring in a moment.
    ringing_soon: bool,
}

/// The rest of a batch, and how its calls are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Undone {
    /// Prompts that were not sent, those in line included.
    pub(in crate::engine) unsent: u64,
    /// How many of them wait.
    pub(in crate::engine) waiting: usize,
    /// How many calls were sent and have no answer yet.
    pub(in crate::engine) in_flight: usize,
    /// The most at once, if there is a maximum.
    pub(in crate::engine) most: Option<usize>,
    /// Tokens of a prompt and of an answer, once an answer reported them.
    pub(in crate::engine) size: Option<(u64, u64)>,
}

/// The bell rings when this many answers are ready.
const ENOUGH: usize = 256;
/// No answer waits longer than this for the bell.
const SOON: Duration = Duration::from_millis(5);

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state.lock();
        f.debug_struct("Batch")
            .field("under_way", &state.under_way())
            .field("finished", &state.finished.len())
            .finish_non_exhaustive()
    }
}

impl State {
    fn under_way(&self) -> usize {
        self.running.len() + self.entering.len()
    }
}

impl Calls {
    /// An empty batch of calls that are mostly like `usual`, at most so many at once; without a number the quotas
    /// decide (see [`Intake`]). `bell` is called on the engine's threads when there is something to take: it must
    /// return at once.
    pub(in crate::engine) fn batch(
        self: &Arc<Self>,
        usual: &Request,
        most: Option<usize>,
        bell: impl Fn() + Send + Sync + 'static,
    ) -> Batch {
        // An error of the usual call is raised when it is made; a call with another model may be valid.
        let route = self.route(usual).unwrap_or_default();
        let lanes: usize = route.iter().map(|stop| stop.target.lanes().lanes.len()).sum();
        let target = route.first().map(|stop| stop.target.clone());
        let state = State {
            intake: Intake::new(
                most,
                lanes.max(1),
                self.dispatch.queue_max_size,
                self.dispatch.now(),
            ),
            entering: Vec::new(),
            running: HashMap::new(),
            finished: Vec::new(),
            came: 0,
            rung: false,
            ringing_soon: false,
        };
        let shared = Shared { state: state.into(), heard: Condvar::new(), bell: Box::new(bell) };
        let (calls, usual, gauge) = (self.clone(), usual.clone(), Arc::default());
        Batch { calls, usual, most, target, gauge, shared: shared.into() }
    }
}

impl Batch {
    /// How many more calls to start now: never more than half of the free room in their waiting line.
    pub fn wants(&self) -> usize {
        let waiting = self.gauge.waiting();
        let room = self.target.as_ref().map_or(usize::MAX, |target| {
            self.calls.dispatch.queue_max_size.saturating_sub(target.line.lock().len())
        });
        let mut state = self.shared.state.lock();
        let under_way = state.under_way() + state.finished.len();
        let came = state.came;
        let more = state.intake.more(self.calls.dispatch.now(), waiting, under_way, came);
        more.min(room.div_ceil(2))
    }

    /// Starts calls. Call it inside a tokio runtime.
    pub fn put(&self, calls: Vec<(u64, Request)>) {
        let mut state = self.shared.state.lock();
        let is_first = state.entering.is_empty();
        state.entering.extend(calls);
        if is_first && !state.entering.is_empty() {
            // Started from inside of the runtime, a call does not wake it up once more.
            let (calls, gauge) = (self.calls.clone(), self.gauge.clone());
            tokio::spawn(enter(calls, gauge, self.shared.clone()));
        }
    }

    /// The calls that finished since the last `take`.
    pub fn take(&self) -> Vec<Finished> {
        let mut state = self.shared.state.lock();
        state.rung = false;
        std::mem::take(&mut state.finished)
    }

    /// Waits on this thread until the bell rings or `patience` is over. Returns whether it rang.
    pub fn wait(&self, patience: Duration) -> bool {
        let mut state = self.shared.state.lock();
        if !state.rung {
            self.shared.heard.wait_for(&mut state, patience);
        }
        state.rung
    }

    /// How many calls are not finished.
    pub fn under_way(&self) -> usize {
        self.shared.state.lock().under_way()
    }

    /// How many of them wait and for what, and how much time each limit cost.
    pub fn reading(&self) -> Reading {
        self.gauge.read(self.calls.dispatch.now())
    }

    /// The rest until `left` more prompts are answered.
    pub(super) fn undone(&self, left: u64, size: Option<(u64, u64)>) -> Undone {
        let waiting = self.gauge.waiting();
        let state = self.shared.state.lock();
        // A call that began a moment ago neither waits nor was sent.
        let sent = state.running.values().filter(|(_, watch)| watch.was_sent()).count();
        let in_flight = state.running.len().saturating_sub(waiting).min(sent);
        let done = in_flight.saturating_add(state.finished.len()) as u64;
        Undone { unsent: left.saturating_sub(done), waiting, in_flight, most: self.most, size }
    }

    /// Drops the calls that were never sent; the others go on. Returns the numbers of the dropped ones.
    pub fn withdraw(&self) -> Vec<u64> {
        self.end(|watch| !watch.was_sent())
    }

    /// Drops all calls. Returns their numbers. What was sent stays counted against the quotas.
    pub fn abandon(&self) -> Vec<u64> {
        self.end(|_| true)
    }

    fn end(&self, which: impl Fn(&Watch) -> bool) -> Vec<u64> {
        let mut state = self.shared.state.lock();
        let mut dropped: Vec<u64> = state.entering.drain(..).map(|(number, _)| number).collect();
        let ended: Vec<(u64, AbortHandle)> = state
            .running
            .extract_if(|_, (_, watch)| which(watch))
            .map(|(number, (task, _))| (number, task))
            .collect();
        drop(state);
        for (number, task) in ended {
            task.abort();
            dropped.push(number);
        }
        dropped
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.abandon();
    }
}

async fn enter(calls: Arc<Calls>, gauge: Arc<Gauge>, shared: Arc<Shared>) {
    let mut state = shared.state.lock();
    for (number, mut ask) in std::mem::take(&mut state.entering) {
        let watch = Arc::new(Watch::new(gauge.clone()));
        ask.watch = Some(watch.clone());
        let calls = calls.clone();
        let place = Place { number, shared: Some(shared.clone()) };
        // A task keeps room for everything it was made with.
        let ask = Box::new(ask);
        let task = tokio::spawn(async move {
            let outcome = calls.send_boxed(ask).await.map(alone);
            place.finish(outcome);
        });
        state.running.insert(number, (task.abort_handle(), watch));
    }
}

/// The answer without spare memory. A body is a piece of the buffer its connection read into, ten times as
/// large, and many answers of a batch are kept.
fn alone(mut answer: Answer) -> Answer {
    answer.raw = Bytes::copy_from_slice(&answer.raw);
    answer.text.shrink_to_fit();
    answer.attempts.shrink_to_fit();
    answer
}

/// A call's place in its batch: it finishes in any case, even when the call panics.
struct Place {
    number: u64,
    shared: Option<Arc<Shared>>,
}

impl Place {
    fn finish(mut self, outcome: Result<Answer, Error>) {
        if let Some(shared) = self.shared.take() {
            shared.finish(self.number, outcome);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            let words = "a call of a batch ended without an outcome";
            shared.finish(self.number, Err(Error::new(ErrorKind::Internal, words)));
        }
    }
}

impl Shared {
    fn finish(self: Arc<Self>, number: u64, outcome: Result<Answer, Error>) {
        let mut state = self.state.lock();
        // A call that was dropped is not in it any more.
        if state.running.remove(&number).is_none() {
            return;
        }
        state.finished.push((number, outcome));
        state.came += 1;
        let there = state.finished.len();
        if there >= ENOUGH || there * 4 >= state.under_way() {
            self.ring(&mut state);
        } else if !state.rung && !std::mem::replace(&mut state.ringing_soon, true) {
            drop(state);
            let shared = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(SOON).await;
                let mut state = shared.state.lock();
                state.ringing_soon = false;
                if !state.finished.is_empty() {
                    shared.ring(&mut state);
                }
            });
        }
    }

    fn ring(&self, state: &mut State) {
        if !std::mem::replace(&mut state.rung, true) {
            self.heard.notify_all();
            (self.bell)();
        }
    }
}
