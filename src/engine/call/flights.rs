//! Identical calls in flight: one request leaves and answers all of them.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::answer::Answer;
use super::question::QuestionDigest;
use crate::error::Error;

/// How far the calls are that ask one question at the same time.
#[derive(Debug)]
enum Stage {
    /// No request is on its way: each call stands in line for itself.
    Open,
    /// A request is on its way; calls that come now wait for its outcome.
    Sent,
    /// The outcome, if it is the same for all of them.
    Ended(Result<Box<Answer>, Box<Error>>),
}

type ByQuestion = Arc<Mutex<HashMap<QuestionDigest, Weak<Flight>>>>;

/// The questions that are being asked.
#[derive(Debug, Default)]
pub(in crate::engine) struct Flights(ByQuestion);

/// One question that is being asked; it is known as long as a call that asks it holds it.
#[derive(Debug)]
pub(super) struct Flight {
    question: QuestionDigest,
    stage: watch::Sender<Stage>,
    others: ByQuestion,
}

/// The call whose request is on its way. Dropped without an end, another call may send its own.
pub(super) struct Leader(Arc<Flight>);

impl Flights {
    pub(super) fn join(&self, question: QuestionDigest) -> Arc<Flight> {
        let mut flights = self.0.lock();
        let known = flights.get(&question).and_then(Weak::upgrade);
        if let Some(flight) = known.as_ref().filter(|flight| !flight.has_ended()) {
            return flight.clone();
        }
        let stage = watch::Sender::new(Stage::Open);
        let flight = Arc::new(Flight { question, stage, others: self.0.clone() });
        flights.insert(question, Arc::downgrade(&flight));
        // When this holds the old one last, dropping it takes the lock.
        drop(flights);
        drop(known);
        flight
    }
}

impl Flight {
    fn has_ended(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::Ended(_))
    }

    /// Waits while a request is on its way. Returns its outcome if it is for all calls.
    pub(super) async fn settled(&self) -> Option<Result<Box<Answer>, Box<Error>>> {
        self.when(|stage| !matches!(stage, Stage::Sent)).await
    }

    /// Waits until there is an outcome for all calls.
    pub(super) async fn ended(&self) -> Option<Result<Box<Answer>, Box<Error>>> {
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

    /// The caller's request leaves now; `None` when another call's has left.
    pub(super) fn begin(self: &Arc<Self>) -> Option<Leader> {
        let begins = self.stage.send_if_modified(|stage| {
            let is_open = matches!(stage, Stage::Open);
            if is_open {
                *stage = Stage::Sent;
            }
            is_open
        });
        begins.then(|| Leader(self.clone()))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut others = self.others.lock();
        if others.get(&self.question).is_some_and(|flight| flight.strong_count() == 0) {
            others.remove(&self.question);
        }
    }
}

impl Leader {
    pub(super) fn ends(self, outcome: Result<&Answer, &Error>) {
        let outcome = outcome.cloned().map(Box::new).map_err(|error| Box::new(error.clone()));
        self.0.stage.send_replace(Stage::Ended(outcome));
    }
}

impl Drop for Leader {
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
