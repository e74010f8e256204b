//! The estimated time left of a batch.

use std::time::Duration;

use super::{Batch, Undone};
use crate::engine::call::Calls;
use crate::engine::call::errors::no_route;
use crate::engine::call::request::Request;
use crate::error::Error;
use crate::kernel::{MOST_AT_ONCE, ONE_BY_ONE, PlannedManner, Rest, time_left};

/// A longer rest is judged by this many prompts.
const GONE_THROUGH: u64 = 2_000;
/// The size of a prompt before the first answer, in tokens.
const USUAL_TOKENS: u64 = 100;
/// How many calls of a batch stand in line at most.
const FEW_WAIT: usize = 64;

impl Calls {
    /// The time until everything in `undone` is answered, by the quotas as they are now: calls like `ask`, after those
    /// that wait before them. Refused calls take no time.
    pub(in crate::engine) fn time_left(
        &self,
        ask: &Request,
        undone: Undone,
    ) -> Result<Duration, Error> {
        let route = self.route(ask)?;
        let first = route.first().ok_or_else(no_route)?;
        let line = first.target.line.lock().len();
        let others = line.saturating_sub(undone.waiting) as u64;
        let (tokens, answer) = undone.size.unzip();
        let present = self.present(&route, ask, None, answer)?;
        let rest = Rest {
            prompts: others.saturating_add(undone.unsent),
            tokens: tokens.unwrap_or(USUAL_TOKENS),
            judged_by: GONE_THROUGH,
        };
        let most_in_flight = undone.most.unwrap_or(MOST_AT_ONCE);
        let manner = PlannedManner {
            patience: self.patience(ask),
            in_flight: undone.in_flight,
            most_in_flight,
            most_waiting: most_in_flight.min(FEW_WAIT),
            stands_for: ONE_BY_ONE,
        };
        Ok(time_left(present.ledgers, &present.targets, rest, manner, present.now))
    }
}

impl Batch {
    /// The time until `left` more prompts are answered, those under way included, if they are like the usual call of
    /// this batch. `size` is the tokens of a prompt and of an answer. Takes some ten milliseconds.
    ///
    /// # Errors
    /// [`Error`] when the usual call has no route, or the state cannot be read.
    pub fn time_left(&self, left: u64, size: Option<(u64, u64)>) -> Result<Duration, Error> {
        self.calls.time_left(&self.usual, self.undone(left, size))
    }
}
