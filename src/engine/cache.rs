//! Was this asked before, or is it being asked right now?

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::Engine;
use super::ask::{Answer, CacheWish};
use super::drive::Sending;
use super::observe::Notice;
use super::route::Stop;
use crate::error::{Error, ErrorKind};
use crate::kernel::{Moment, Usage};
use crate::providers::Message;
use crate::stores::{KeptAnswer, StoreError};

/// What is asked of whom, as a digest: the questions themselves are not kept.
pub(super) type Name = [u8; 32];

/// What came of a call that others wait for: nothing yet, or how it ended; its sender goes when it was cancelled.
type Outcome = Option<Result<Answer, Box<Error>>>;

/// Calls under way, by what they ask.
#[derive(Debug, Default)]
pub(super) struct Flights(Arc<Mutex<HashMap<Name, Weak<watch::Sender<Outcome>>>>>);

/// Whether a call asks, or waits for one that does.
enum Role {
    Asks(Flight),
    Waits(watch::Receiver<Outcome>),
}

/// A call that others may wait for. Dropped without an outcome, one of them asks instead.
struct Flight {
    name: Name,
    flights: Arc<Mutex<HashMap<Name, Weak<watch::Sender<Outcome>>>>>,
    outcome: Arc<watch::Sender<Outcome>>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.name);
    }
}

impl Flights {
    fn join(&self, name: Name) -> Role {
        let mut flights = self.0.lock();
        if let Some(flight) = flights.get(&name).and_then(Weak::upgrade) {
            return Role::Waits(flight.subscribe());
        }
        let outcome = Arc::new(watch::Sender::new(None));
        flights.insert(name, Arc::downgrade(&outcome));
        Role::Asks(Flight { name, flights: self.0.clone(), outcome })
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
    pub(super) fn answers_hold(&self, wish: CacheWish) -> Option<Duration> {
        let configured = &self.settings.answer_cache;
        match wish {
            CacheWish::Never => None,
            CacheWish::AsConfigured => configured.always.then_some(configured.ttl),
            CacheWish::UpTo(ttl) => Some(ttl.unwrap_or(configured.ttl)),
        }
    }

    /// Answers from what was answered before or is being answered, and asks if there is neither.
    pub(super) async fn send_once(
        &self,
        sending: &mut Sending,
        ttl: Duration,
    ) -> Result<Answer, Error> {
        let (began, expires) = (sending.run.began, sending.expires);
        let name = sending.question();
        let flight = loop {
            if let Some(answer) = self.given_before(&name, ttl, began) {
                return Ok(answer);
            }
            let mut waits = match self.flights.join(name) {
                Role::Asks(flight) => break flight,
                Role::Waits(waits) => waits,
            };
            let ended = async {
                // An error: it was cancelled, and somebody else must ask.
                Ok(waits.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone()))
            };
            let ended = self.in_time(expires, ended).await;
            match ended.map_err(|error| sending.run.with_facts(error))? {
                Some(Ok(answer)) => return Ok(self.given_again(answer, began)),
                // Whose time was over says nothing about others'.
                Some(Err(error)) if error.kind != ErrorKind::Deadline => return Err(*error),
                _ => {}
            }
        };
        let answered = sending.carry_out().await;
        if let Ok(answer) = &answered {
            self.keep(&name, answer);
        }
        let outcome = answered.clone().map_err(Box::new);
        // Nobody may be waiting.
        flight.outcome.send_replace(Some(outcome));
        answered
    }

    /// The answer that was kept, if there is one; a store that cannot be read has none.
    pub(super) fn given_before(&self, name: &Name, ttl: Duration, began: Moment) -> Option<Answer> {
        let kept = self.store.answer(name, self.clock.now().before(ttl));
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
            finish_reason: kept.finish_reason,
            tool_calls: kept.tool_calls,
            raw: Bytes::from(kept.raw),
            prices: self.settings.prices.clone(),
            latency: Duration::ZERO,
            first_token: None,
            attempts: Vec::new(),
            cached: true,
        };
        Some(self.given_again(answer, began))
    }

    fn given_again(&self, answer: Answer, began: Moment) -> Answer {
        let latency = self.clock.now().since(began);
        Answer { latency, attempts: Vec::new(), cached: true, ..answer }
    }

    pub(super) fn keep(&self, name: &Name, answer: &Answer) {
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
        let Ok(bytes) = serde_json::to_vec(&kept) else { return };
        let kept = KeptAnswer { name, answer: &bytes, at: self.clock.now() };
        if let Err(error) = self.store.keep_answer(&kept, self.settings.answer_cache.max_bytes) {
            self.warn(&error);
        }
    }

    fn warn(&self, error: &StoreError) {
        let words = format!("answers are not kept: {error}; {}", error.hint());
        self.observer.notice(&Notice::Warns(words));
    }
}

impl Sending {
    /// What is asked, and of whom.
    pub(super) fn question(&self) -> Name {
        name(&self.run.route[0], &self.request.messages)
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
    }
    let provider = &stop.target.vendor.provider;
    let question = Question {
        provider: &provider.name,
        base_url: &provider.base_url,
        model: &stop.target.model,
        messages,
        params: stop.params.iter().map(|(name, value)| (name.as_str(), value)).collect(),
    };
    // Messages and parameters came as JSON; they are written as such, or are nothing that anybody asks twice.
    let text = serde_json::to_vec(&question).unwrap_or_default();
    Sha256::digest(text).into()
}
