//! Statistics and timeline of the simulator.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

/// The counts since the start or the last reset. Keys appear under their labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Every request to a path of a provider.
    pub requests: u64,
    /// Those that got a completion.
    pub accepted: u64,
    /// Those that did not, by reason: `rpm`, `tpm`, `rpd`, …, `too_large`, `concurrency`, `auth`, `not_found`,
    /// `invalid`, `injected`.
    pub refused: BTreeMap<&'static str, u64>,
    /// Requests that the provider works on now.
    pub in_flight: u64,
    /// The most there ever were.
    pub largest_in_flight: u64,
    /// The same for each key.
    pub keys: BTreeMap<String, KeyStats>,
}

/// The counts of one key.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct KeyStats {
    /// Every request with this key.
    pub requests: u64,
    /// Those that got a completion.
    pub accepted: u64,
    /// Those that did not, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Input tokens of the completions.
    pub input_tokens: u64,
    /// Output tokens of the completions.
    pub output_tokens: u64,
}

/// One request on the timeline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TimelineEntry {
    /// When it came, in seconds since the start.
    pub seconds: f64,
    /// The label of its key; empty when the key is unknown.
    pub key: String,
    /// The status it got; 0 when there was no whole answer.
    pub status: u16,
}

/// What one request came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    pub(super) key: Option<usize>,
    pub(super) seconds: f64,
    pub(super) status: u16,
    /// `None` for a completion.
    pub(super) refused: Option<&'static str>,
    pub(super) tokens: (u64, u64),
}

/// Counts without allocating.
#[derive(Debug, Default)]
pub(super) struct Counter {
    labels: Vec<String>,
    total: KeyStats,
    keys: Vec<KeyStats>,
    in_flight: u64,
    largest_in_flight: u64,
    timeline: VecDeque<(f64, Option<usize>, u16)>,
    longest_timeline: usize,
}

impl Counter {
    pub(super) fn new(labels: Vec<String>, longest_timeline: usize) -> Self {
        let keys = vec![KeyStats::default(); labels.len()];
        Counter { labels, keys, longest_timeline, ..Counter::default() }
    }

    pub(super) fn label(&self, key: usize) -> &str {
        self.labels.get(key).map_or("", String::as_str)
    }

    pub(super) fn count(&mut self, outcome: Outcome) {
        let key = outcome.key.and_then(|key| self.keys.get_mut(key));
        for counts in std::iter::once(&mut self.total).chain(key) {
            counts.requests += 1;
            match outcome.refused {
                Some(reason) => *counts.refused.entry(reason).or_default() += 1,
                None => {
                    counts.accepted += 1;
                    counts.input_tokens += outcome.tokens.0;
                    counts.output_tokens += outcome.tokens.1;
                }
            }
        }
        if self.longest_timeline > 0 {
            if self.timeline.len() == self.longest_timeline {
                self.timeline.pop_front();
            }
            self.timeline.push_back((outcome.seconds, outcome.key, outcome.status));
        }
    }

    pub(super) fn begin(&mut self) {
        self.in_flight += 1;
        self.largest_in_flight = self.largest_in_flight.max(self.in_flight);
    }

    pub(super) fn end(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Forgets everything but what is in flight.
    pub(super) fn reset(&mut self) {
        self.total = KeyStats::default();
        self.keys.fill(KeyStats::default());
        self.largest_in_flight = self.in_flight;
        self.timeline.clear();
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            requests: self.total.requests,
            accepted: self.total.accepted,
            refused: self.total.refused.clone(),
            in_flight: self.in_flight,
            largest_in_flight: self.largest_in_flight,
            keys: self.labels.iter().cloned().zip(self.keys.iter().cloned()).collect(),
        }
    }

    /// The newest requests, oldest first.
    pub(super) fn timeline(&self) -> Vec<TimelineEntry> {
        let entry = |&(seconds, key, status): &(f64, Option<usize>, u16)| TimelineEntry {
            seconds,
            key: key.map_or(String::new(), |key| self.label(key).to_owned()),
            status,
        };
        self.timeline.iter().map(entry).collect()
    }
}
