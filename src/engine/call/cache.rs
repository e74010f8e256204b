//! Was this asked before, or is it being asked right now?

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::request::{Answer, CacheWish};
use super::route::Stop;
use super::run::Next;
use super::send::Sending;
use crate::engine::Engine;
use crate::engine::world::observer::Notice;
use crate::error::{Error, Spent};
use crate::kernel::{Event, Moment, Usage};
use crate::providers::Message;
use crate::stores::{KeptAnswer, StoreError};

/// What is asked of whom, as a digest: the questions themselves are not kept.
pub(in crate::engine) type Name = [u8; 32];

/// How far those are who ask one question at the same time.
#[derive(Debug)]
enum Stage {
    /// Nobody's request is on its way: each stands in line for itself.
    Open,
    /// Somebody's is; whoever comes now waits for what comes back.
    Sent,
    /// What came back, if it is the same for everybody.
    Ended(Result<Box<Answer>, Box<Error>>),
}

type ByName = Arc<Mutex<HashMap<Name, Weak<Flight>>>>;

/// Questions that are being asked, by name.
#[derive(Debug, Default)]
pub(in crate::engine) struct Flights(ByName);

/// One question that is being asked; it is known as long as one who asks it holds it.
#[derive(Debug)]
struct Flight {
    name: Name,
    stage: watch::Sender<Stage>,
    others: ByName,
}

/// The one whose request is on its way. Dropped without an end, somebody else may send theirs.
struct Asking(Arc<Flight>);

impl Flights {
    fn join(&self, name: Name) -> Arc<Flight> {
        let mut flights = self.0.lock();
        let known = flights.get(&name).and_then(Weak::upgrade);
        if let Some(flight) = known.as_ref().filter(|flight| !flight.has_ended()) {
            return flight.clone();
        }
        let stage = watch::Sender::new(Stage::Open);
        let flight = Arc::new(Flight { name, stage, others: self.0.clone() });
        flights.insert(name, Arc::downgrade(&flight));
        // If nobody else holds the old one any more, dropping it takes the lock.
        drop(flights);
        drop(known);
        flight
    }
}

impl Flight {
    fn has_ended(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::Ended(_))
    }

    /// Waits while somebody's request is on its way. Gives what came back if it is for everybody.
    async fn settled(&self) -> Option<Result<Box<Answer>, Box<Error>>> {
        self.when(|stage| !matches!(stage, Stage::Sent)).await
    }

    /// Waits until there is an end for everybody.
    async fn ended(&self) -> Option<Result<Box<Answer>, Box<Error>>> {
        self.when(|stage| matches!(stage, Stage::Ended(_))).await
    }

    async fn when(
        &self,
        wanted: impl FnMut(&Stage) -> bool,
    ) -> Option<Result<Box<Answer>, Box<Error>>> {
        let mut stage = self.stage.subscribe();
        let seen = stage.wait_for(wanted).await.ok()?;
        match &*seen {
            Stage::Ended(outcome) => Some(outcome.clone()),
            Stage::Open | Stage::Sent => None,
        }
    }

    /// The caller's request leaves now; `None` when somebody else's has.
    fn begin(self: &Arc<Self>) -> Option<Asking> {
        let begins = self.stage.send_if_modified(|stage| {
            let is_open = matches!(stage, Stage::Open);
            if is_open {
                *stage = Stage::Sent;
            }
            is_open
        });
        begins.then(|| Asking(self.clone()))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut others = self.others.lock();
        if others.get(&self.name).is_some_and(|flight| flight.strong_count() == 0) {
            others.remove(&self.name);
        }
    }
}

impl Asking {
    fn ends(self, outcome: Result<&Answer, &Error>) {
        let outcome = outcome.cloned().map(Box::new).map_err(|error| Box::new(error.clone()));
        self.0.stage.send_replace(Stage::Ended(outcome));
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.stage.send_if_modified(|stage| {
            let is_sent = matches!(stage, Stage::Sent);
            if is_sent {
                *stage = Stage::Open;
            }
            is_sent
        });
    }
}

/// Where an answer stands that would be given again.
#[derive(Clone)]
pub struct KeptAs {
    engine: Weak<Engine>,
    name: Name,
}

impl KeptAs {
    /// Forgets it: it turned out not to be what was asked for. A state that cannot be written is a warning.
    pub fn forget(&self) {
        let Some(engine) = self.engine.upgrade() else { return };
        if let Err(error) = engine.dispatch.store.forget_answers(Some(&self.name)) {
            engine.warn(&error);
        }
    }
}

impl fmt::Debug for KeptAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeptAs")
    }
}

impl PartialEq for KeptAs {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// An answer as it is kept. No question and no key is in it.
#[derive(Serialize, Deserialize)]
struct Kept {
    text: String,
    provider: String,
    model: String,
    key: String,
    usage: Option<Usage>,
    finish_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Value>,
    raw: String,
}

impl Engine {
    /// How old an answer may be that is given again; `None` when none may be.
    pub(in crate::engine) fn answers_hold(&self, wish: CacheWish) -> Option<Duration> {
        let configured = &self.settings.answer_cache;
        match wish {
            CacheWish::Never => None,
            CacheWish::AsConfigured => configured.always.then_some(configured.ttl),
            CacheWish::UpTo(ttl) => Some(ttl.unwrap_or(configured.ttl)),
        }
    }

    /// The answer that was kept, if there is one; a store that cannot be read has none.
    pub(in crate::engine) fn given_before(
        self: &Arc<Self>,
        name: &Name,
        ttl: Duration,
        began: Moment,
    ) -> Option<Answer> {
        let kept = self.dispatch.store.answer(name, self.dispatch.now().before(ttl));
        let kept = kept.unwrap_or_else(|error| {
            self.warn(&error);
            None
        })?;
        let kept: Kept = serde_json::from_slice(&kept).ok()?;
        let answer = Answer {
            text: kept.text,
            provider: kept.provider,
            model: kept.model,
            key: kept.key,
            usage: kept.usage,
            spent_before: Spent::default(),
            finish_reason: kept.finish_reason,
            tool_calls: kept.tool_calls,
            raw: Bytes::from(kept.raw),
            prices: self.dispatch.prices.clone(),
            latency: Duration::ZERO,
            first_token: None,
            attempts: Vec::new(),
            cached: true,
            kept_as: Some(KeptAs { engine: Arc::downgrade(self), name: *name }),
        };
        Some(self.given_again(answer, began))
    }

    /// What somebody else was told.
    fn told(
        &self,
        outcome: Result<Box<Answer>, Box<Error>>,
        began: Moment,
    ) -> Result<Answer, Error> {
        match outcome {
            Ok(answer) => Ok(self.given_again(*answer, began)),
            Err(error) => Err(*error),
        }
    }

    fn given_again(&self, answer: Answer, began: Moment) -> Answer {
        let latency = self.dispatch.now().since(began);
        Answer { latency, attempts: Vec::new(), cached: true, ..answer }
    }

    /// Keeps an answer for the next who ask, unless it was cut off, withheld or empty: who asks again hopes for more.
    pub(in crate::engine) fn keep(self: &Arc<Self>, name: &Name, mut answer: Answer) -> Answer {
        let is_empty = answer.text.trim().is_empty() && answer.tool_calls.is_empty();
        let was_cut = matches!(answer.finish_reason.as_deref(), Some("length" | "content_filter"));
        if is_empty || was_cut {
            return answer;
        }
        let kept = Kept {
            text: answer.text.clone(),
            provider: answer.provider.clone(),
            model: answer.model.clone(),
            key: answer.key.clone(),
            usage: answer.usage,
            finish_reason: answer.finish_reason.clone(),
            tool_calls: answer.tool_calls.clone(),
            raw: String::from_utf8_lossy(&answer.raw).into_owned(),
        };
        // What cannot be written as JSON was never read as JSON.
        let Ok(bytes) = serde_json::to_vec(&kept) else { return answer };
        let kept = KeptAnswer { name, answer: &bytes, at: self.dispatch.now() };
        match self.dispatch.store.keep_answer(&kept, self.settings.answer_cache.max_bytes) {
            Ok(()) => {
                answer.kept_as = Some(KeptAs { engine: Arc::downgrade(self), name: *name });
            }
            Err(error) => self.warn(&error),
        }
        answer
    }

    /// Forgets all answers that might be given again; says how many.
    ///
    /// # Errors
    /// [`Error`] when the state cannot be written.
    pub fn clear_cache(&self) -> Result<u64, Error> {
        Ok(self.dispatch.store.forget_answers(None)?)
    }

    fn warn(&self, error: &StoreError) {
        let words = format!("answers are not kept: {error}; {}", error.hint());
        self.dispatch.notice(&Notice::Warning(words));
    }
}

impl Sending {
    /// What is asked, and of whom: of the stop the call is at.
    pub(in crate::engine) fn question(&self) -> Name {
        name(&self.run.route[self.run.stop()], &self.request.messages)
    }

    /// Answers from what was answered before or is being answered, and asks if there is neither, in the time it has.
    pub(in crate::engine) async fn carry_out_once(
        &mut self,
        ttl: Duration,
    ) -> Result<Answer, Error> {
        let engine = self.run.engine.clone();
        let expires = self.expires;
        let outcome = {
            let work = pin!(self.drive_once(&engine, ttl));
            engine.in_time(expires, work).await
        };
        outcome.map_err(|error| self.run.with_facts(error))
    }

    /// Each call stands in line for itself, as its own priority, user and patience have it. Only a request that has
    /// left is waited for, and only an answer, or a refusal of the question itself, is taken from it.
    async fn drive_once(&mut self, engine: &Arc<Engine>, ttl: Duration) -> Result<Answer, Error> {
        let began = self.run.began;
        let mut name = self.question();
        if let Some(answer) = engine.given_before(&name, ttl, began) {
            return Ok(answer);
        }
        let mut flight = engine.flights.join(name);
        if let Some(outcome) = flight.settled().await {
            return engine.told(outcome, began);
        }
        let mut asking: Option<Asking> = None;
        let mut event = Event::Begin;
        loop {
            let next = tokio::select! {
                biased;
                Some(outcome) = flight.ended(), if asking.is_none() => {
                    return engine.told(outcome, began);
                }
                next = self.advance(event) => next,
            };
            let outcome = match next {
                Ok(Next::Send(held)) => Ok(Some(held)),
                Ok(Next::Succeed) => Ok(None),
                Err(error) => Err(self.run.with_facts(error)),
            };
            let Ok(Some(held)) = outcome else {
                let answer = self.answer.take();
                let outcome = outcome.and_then(|_| self.finish(answer.map(|answer| *answer)));
                let outcome = outcome.map(|answer| engine.keep(&name, answer));
                if let Some(asking) = asking {
                    asking.ends(outcome.as_ref());
                }
                return outcome;
            };
            if self.question() != name {
                // It went on to a fallback, which is another one to be asked.
                name = self.question();
                if let Some(answer) = engine.given_before(&name, ttl, began) {
                    return Ok(answer);
                }
                flight = engine.flights.join(name);
            }
            let mine = loop {
                if let Some(outcome) = flight.settled().await {
                    return engine.told(outcome, began);
                }
                if let Some(mine) = flight.begin() {
                    break mine;
                }
            };
            event = self.attempt(held).await?;
            asking = is_for_everybody(&event).then_some(mine);
        }
    }
}

/// Whether what came back would have come back to anybody who asks the same.
fn is_for_everybody(event: &Event) -> bool {
    match event {
        Event::Failed { failure, .. } => failure.remedy().is_none(),
        event => *event == Event::Answered,
    }
}

/// The digest of everything that an answer follows from. Parameters count in any order.
fn name(stop: &Stop, messages: &[Message]) -> Name {
    #[derive(Serialize)]
    struct Question<'a> {
        provider: &'a str,
        base_url: &'a str,
        model: &'a str,
        messages: &'a [Message],
        params: BTreeMap<&'a str, &'a Value>,
        /// Only of who is asked in another than its own: `raw` is another then.
        #[serde(skip_serializing_if = "Option::is_none")]
        dialect: Option<String>,
    }
    let provider = &stop.target.vendor.provider;
    let question = Question {
        provider: &provider.name,
        base_url: &provider.base_url,
        model: &stop.target.model,
        messages,
        params: stop.params.iter().map(|(name, value)| (name.as_str(), value)).collect(),
        dialect: provider.speaks_otherwise().then(|| format!("{:?}", provider.dialect)),
    };
    // Messages and parameters came as JSON; they are written as such, or are nothing that anybody asks twice.
    let text = serde_json::to_vec(&question).unwrap_or_default();
    Sha256::digest(text).into()
}
