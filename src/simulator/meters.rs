//! The meters of an organisation: admission of requests.

use std::collections::HashMap;

use super::allowance::{Allowance, Wait};
use super::answer::Ticket;
use super::settings::{Counts, LimitKind, LimitsSetting, PoolSettings, Provider};

/// The limits of an organisation, and which of its meters each model uses.
#[derive(Debug)]
pub(super) struct Organization {
    pub(super) name: String,
    pub(super) provider: Provider,
    pub(super) free_tier: bool,
    pub(super) limits: LimitsSetting,
    pub(super) pools: Vec<PoolSettings>,
    /// Where in the list of all meters those of a model, or of a pool's first model, are.
    pub(super) places: HashMap<String, usize>,
}

impl Organization {
    /// The name under which the meters of `model` are kept, and their limits.
    pub(super) fn meter_of<'a>(&'a self, model: &'a str) -> (&'a str, &'a LimitsSetting) {
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => model.starts_with(beginning),
            None => pattern == model,
        };
        if let Some(pool) = self.pools.iter().find(|pool| pool.models.iter().any(fits)) {
            return (pool.models.first().map_or(model, String::as_str), &pool.limits);
        }
        // OpenRouter counts all free models of an account together.
        if self.provider == Provider::Openrouter && model.ends_with(":free") {
            return (":free", &self.limits);
        }
        (model, &self.limits)
    }
}

/// The limits of one set of models of one organisation, and what is left of them.
#[derive(Debug)]
pub(super) struct Meters {
    provider: Provider,
    limits: Vec<(LimitKind, u64, Allowance)>,
    slots: Option<u32>,
    in_flight: u32,
}

/// What a request wants of its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) input: u64,
    /// The most that the answer may have, 0 when the request does not say.
    pub(super) output: u64,
}

/// A limit that a request broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) kind: LimitKind,
    pub(super) amount: u64,
    pub(super) left: u64,
    pub(super) requested: u64,
    pub(super) wait: Wait,
    /// Nanoseconds until all of it is there again.
    pub(super) whole_in: i64,
}

/// A limit as headers show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LimitView {
    pub(super) kind: LimitKind,
    pub(super) amount: u64,
    pub(super) left: u64,
    pub(super) whole_in: i64,
}

/// Why a request may not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// At least one limit is broken; the one with the longest wait comes first.
    Limits(Vec<Broken>),
    /// All slots are taken.
    Busy(u32),
}

impl Meters {
    pub(super) fn new(provider: Provider, settings: &LimitsSetting, now: i64) -> Self {
        let limit = |kind: LimitKind| {
            let setting = settings.get(kind)?;
            Some((kind, setting.amount, setting.allowance(kind, provider, now)))
        };
        Meters {
            provider,
            limits: LimitKind::ALL.into_iter().filter_map(limit).collect(),
            slots: settings.concurrency,
            in_flight: 0,
        }
    }

    /// Whether a request may pass; takes nothing.
    pub(super) fn check(&mut self, wanted: Wanted, now: i64) -> Result<(), Refusal> {
        let provider = self.provider;
        let mut broken = Vec::new();
        for (kind, amount, allowance) in &mut self.limits {
            let requested = charge(provider, *kind, wanted.input, wanted.output);
            // What is counted afterwards needs room for one, or the debt would grow without end.
            let wait = match kind.counts() {
                Counts::Output => allowance.wait_for(1, now),
                _ => allowance.wait_for(requested, now),
            };
            if wait != Wait::Not {
                let (left, whole_in) = (allowance.left(now), allowance.whole_in(now));
                broken.push(Broken {
                    kind: *kind,
                    amount: *amount,
                    left,
                    requested,
                    wait,
                    whole_in,
                });
            }
        }
        if !broken.is_empty() {
            broken.sort_by_key(|broken| std::cmp::Reverse(broken.wait));
            return Err(Refusal::Limits(broken));
        }
        match self.slots {
            Some(slots) if self.in_flight >= slots => Err(Refusal::Busy(slots)),
            _ => Ok(()),
        }
    }

    /// Takes what a request wants and one slot.
    pub(super) fn take(&mut self, wanted: Wanted, now: i64) {
        self.in_flight += 1;
        for (kind, _, allowance) in &mut self.limits {
            let charged = charge(self.provider, *kind, wanted.input, wanted.output);
            allowance.take(charged, now);
        }
    }

    /// Gives the slot back and makes the tokens what they really were.
    pub(super) fn finish(&mut self, ticket: &Ticket, now: i64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        for (kind, _, allowance) in &mut self.limits {
            let charged = charge(self.provider, *kind, ticket.input, ticket.output_charged);
            let real = match (kind.counts(), ticket.tokens_count) {
                (Counts::Requests, _) => 1,
                (_, false) => 0,
                (Counts::Output, true) => ticket.output,
                (Counts::Tokens, true) if self.provider == Provider::Anthropic => {
                    ticket.input.saturating_add(ticket.output)
                }
                (_, true) => charge(self.provider, *kind, ticket.input, ticket.output),
            };
            if real != charged {
                let change = i64::try_from(i128::from(real) - i128::from(charged)).unwrap_or(0);
                allowance.correct(change, ticket.taken_at, now);
            }
        }
    }

    /// All limits as headers show them.
    pub(super) fn views(&mut self, now: i64) -> Vec<LimitView> {
        let view = |(kind, amount, allowance): &mut (LimitKind, u64, Allowance)| LimitView {
            kind: *kind,
            amount: *amount,
            left: allowance.left(now),
            whole_in: allowance.whole_in(now),
        };
        self.limits.iter_mut().map(view).collect()
    }
}

/// What a provider charges at the door: OpenAI, Groq and their like take the prompt and the most the answer may have,
/// Anthropic counts output when it is there, Gemini never.
fn charge(provider: Provider, kind: LimitKind, input: u64, output: u64) -> u64 {
    match (kind.counts(), provider) {
        (Counts::Requests, _) => 1,
        (Counts::Output, _) => 0,
        (Counts::Input, _) | (Counts::Tokens, Provider::Gemini | Provider::Anthropic) => input,
        (Counts::Tokens, _) => input.saturating_add(output),
    }
}
