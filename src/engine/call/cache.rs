//! The answer cache (`cache=`), and one request for identical calls in flight.
//!
//! A question is a digest over provider, base URL, model, messages and parameters of the stop that the call is at. So
//! the answer of a fallback is cached for calls to that fallback. The store is asked before anything is reserved, and
//! again when the call moves to another stop. A hit reserves nothing and costs nothing.
//!
//! Identical calls at the same time share a `Flight`. Each stands in line for itself, with its own priority, user and
//! patience. The first whose request leaves is waited for by the others, later ones included. They receive its
//! answer, or a refusal that would meet all of them (`Remedy::is_none`). After any other failure, the request of the
//! next one leaves. A lane reserved by a call that waits this way was never used, and is given back.
//!
//! Not cached: truncated, withheld or empty answers, and answers that turn out not to fit their `response_format`
//! (`forget`). A store that fails is a warning.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Calls;
use super::answer::Answer;
use super::flights::Leader;
use super::kept::{KeptAs, warn};
use super::question::{QuestionDigest, digest_of_call};
use super::request::CacheWish;
use super::run::Next;
use super::send::Sending;
use crate::error::{Error, Spent};
use crate::kernel::{Event, Moment, Usage};
use crate::stores::KeptAnswer;

/// An answer as it is stored. No question and no key is in it.
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

impl Calls {
    /// How old a cached answer may be; `None` when none may be used.
    pub(in crate::engine) fn answers_hold(&self, wish: CacheWish) -> Option<Duration> {
        let configured = &self.settings.answer_cache;
        match wish {
            CacheWish::Never => None,
            CacheWish::AsConfigured => configured.always.then_some(configured.ttl),
            CacheWish::UpTo(ttl) => Some(ttl.unwrap_or(configured.ttl)),
        }
    }

    /// The cached answer, if there is one; a store that cannot be read has none.
    pub(in crate::engine) fn given_before(
        &self,
        question: &QuestionDigest,
        ttl: Duration,
        began: Moment,
    ) -> Option<Answer> {
        let kept = self.dispatch.store.answer(question, self.dispatch.now().before(ttl));
        let kept = kept.unwrap_or_else(|error| {
            warn(&self.dispatch, &error);
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
            kept_as: Some(KeptAs::new(&self.dispatch, *question)),
        };
        Some(self.given_again(answer, began))
    }

    /// The outcome of another call for the same question.
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

    /// Keeps an answer for the next calls, unless it was cut off, withheld or empty: asking again may give more.
    pub(in crate::engine) fn keep(&self, question: &QuestionDigest, mut answer: Answer) -> Answer {
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
        let kept = KeptAnswer { name: question, answer: &bytes, at: self.dispatch.now() };
        match self.dispatch.store.keep_answer(&kept, self.settings.answer_cache.max_bytes) {
            Ok(()) => {
                answer.kept_as = Some(KeptAs::new(&self.dispatch, *question));
            }
            Err(error) => warn(&self.dispatch, &error),
        }
        answer
    }

    /// Forgets all cached answers. Returns how many.
    pub(in crate::engine) fn clear_cache(&self) -> Result<u64, Error> {
        Ok(self.dispatch.store.forget_answers(None)?)
    }
}

impl Sending {
    /// What is asked, and of whom: of the stop the call is at.
    pub(in crate::engine) fn question(&self) -> QuestionDigest {
        let stop = &self.run.route[self.run.stop()];
        let provider = &stop.target.vendor.provider;
        digest_of_call(provider, &stop.target.model, &stop.params, &self.request.messages)
    }

    /// Answers from what was answered before or is being answered, and asks if there is neither, in the time it has.
    pub(in crate::engine) async fn carry_out_once(
        &mut self,
        ttl: Duration,
    ) -> Result<Answer, Error> {
        let calls = self.run.calls.clone();
        let expires = self.expires;
        let outcome = {
            let work = pin!(self.drive_once(&calls, ttl));
            calls.in_time(expires, work).await
        };
        outcome.map_err(|error| self.run.with_facts(error))
    }

    /// Each call stands in line for itself, as its own priority, user and patience have it. Only a request that has
    /// left is waited for, and only an answer, or a refusal of the question itself, is taken from it.
    async fn drive_once(&mut self, calls: &Calls, ttl: Duration) -> Result<Answer, Error> {
        let began = self.run.began;
        let mut question = self.question();
        if let Some(answer) = calls.given_before(&question, ttl, began) {
            return Ok(answer);
        }
        let mut flight = calls.flights.join(question);
        if let Some(outcome) = flight.settled().await {
            return calls.told(outcome, began);
        }
        let mut leader: Option<Leader> = None;
        let mut event = Event::Begin;
        loop {
            let next = tokio::select! {
                biased;
                Some(outcome) = flight.ended(), if leader.is_none() => {
                    return calls.told(outcome, began);
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
                let outcome = outcome.map(|answer| calls.keep(&question, answer));
                if let Some(leader) = leader {
                    leader.ends(outcome.as_ref());
                }
                return outcome;
            };
            if self.question() != question {
                // It went on to a fallback, which is another question.
                question = self.question();
                if let Some(answer) = calls.given_before(&question, ttl, began) {
                    return Ok(answer);
                }
                flight = calls.flights.join(question);
            }
            let mine = loop {
                if let Some(outcome) = flight.settled().await {
                    return calls.told(outcome, began);
                }
                if let Some(mine) = flight.begin() {
                    break mine;
                }
            };
            event = self.attempt(held).await?;
            leader = is_for_all(&event).then_some(mine);
        }
    }
}

/// Whether every call with the same question would have got the same outcome.
fn is_for_all(event: &Event) -> bool {
    match event {
        Event::Failed { failure, .. } => failure.remedy().is_none(),
        event => *event == Event::Answered,
    }
}
