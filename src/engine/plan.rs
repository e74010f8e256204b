//! When would so many prompts be answered, and which limit decides that?

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use super::Engine;
use super::ask::Ask;
use super::booking::{conform, with_own};
use super::costs::cost_of_answer;
use super::drive::need;
use super::roster::Lanes;
use super::route::Stop;
use crate::error::{Error, ErrorKind};
use crate::kernel::{
    Bound, Forecast, Ledger, LedgerId, Moment, ONE_BY_ONE, Patience, PlannedManner, PlannedShare,
    PlannedTarget, Usage, forecast,
};
use crate::providers::{ChatRequest, Message, Tokenizer};

/// How long an answer takes when none came yet.
const USUAL_LATENCY: Duration = Duration::from_secs(1);
/// How many tokens an answer has when none came yet.
const USUAL_OUTPUT: u64 = 256;

/// What is to be sent, in runs of prompts of the same size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Tokens of a prompt, and how many such prompts follow each other.
    pub sizes: Vec<(u64, u64)>,
    /// How many are under way at once at most.
    pub most_in_flight: usize,
    /// How many wait at once at most; the next one begins when one of them has left.
    pub most_waiting: usize,
    /// How long an answer takes; `None`: as long as lately, or a second.
    pub latency: Option<Duration>,
    /// How many tokens an answer has; `None`: as many as so far on average, or 256, at most what the call allows.
    pub output_tokens: Option<u64>,
    /// From this many prompts on the rest is judged by these; `None`: all of them are gone through.
    pub judged_by: Option<u64>,
}

/// What would come of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// When it begins, in seconds since the epoch.
    pub start: f64,
    /// When the last of those that are answered is, in seconds since the epoch.
    pub finish: f64,
    /// How many prompts there are.
    pub prompts: u64,
    /// How many would be answered.
    pub answered: u64,
    /// How many would be refused because a limit is used up for longer than a call waits, or is too small.
    pub refused: u64,
    /// The first reason.
    pub why_refused: Option<String>,
    /// When all would be done by somebody who waits for every limit; `None`: never, or nothing is refused anyway.
    pub patient_finish: Option<f64>,
    /// How many calls wait already and go first.
    pub ahead: u64,
    /// What each key would have to do.
    pub keys: Vec<PlannedKey>,
    /// What would be waited for, the longest first.
    pub limits: Vec<PlannedLimit>,
    /// When it would finish if the first of them were twice as large, in seconds since the epoch.
    pub finish_if_doubled: Option<f64>,
    /// What it costs in picodollars, low, expected and at most; `None` when nobody knows the price of a model.
    pub cost: Option<(u64, u64, Option<u64>)>,
}

/// What a key would have to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedKey {
    /// The provider.
    pub provider: String,
    /// The model.
    pub model: String,
    /// The label.
    pub key: String,
    /// Calls.
    pub requests: u64,
    /// Tokens of their prompts.
    pub input_tokens: u64,
    /// Tokens of the answers.
    pub output_tokens: u64,
}

/// Something that would be waited for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedLimit {
    /// The provider.
    pub provider: String,
    /// The model.
    pub model: String,
    /// What it is, in words.
    pub limit: String,
    /// For how many seconds nothing could leave because of it.
    pub seconds: f64,
}

/// The ledgers of a route as they are now, and its targets among them.
pub(super) struct Present {
    pub(super) ledgers: Vec<Ledger>,
    pub(super) targets: Vec<PlannedTarget>,
    pub(super) now: Moment,
}

impl Engine {
    /// How many tokens each of these conversations will be billed as at the first target of the route: counted where the
    /// model's tokenizer is known, else estimated and corrected by what bills taught.
    ///
    /// # Errors
    /// [`Error`] when `ask` has no route, or the state cannot be read.
    pub fn prompt_sizes(&self, ask: &Ask, prompts: Vec<Vec<Message>>) -> Result<Vec<u64>, Error> {
        let route = self.route(ask)?;
        let Some(stop) = route.first() else { return Err(no_route()) };
        let tokenizer = Tokenizer::of_model(&stop.target.model)
            .filter(|_| self.counts_exactly.load(Ordering::Relaxed));
        let lessons = self.lessons(&stop.target)?;
        let size = |messages| {
            let request = ChatRequest { messages, params: serde_json::Map::new() };
            let counted = tokenizer.and_then(|known| known.count_chat(&request, &stop.params));
            let estimated = || request.estimated_input_tokens(&stop.params);
            counted.unwrap_or_else(|| lessons.inputs.expected(estimated()))
        };
        Ok(prompts.into_iter().map(size).collect())
    }

    /// What would come of sending `load` the way `ask` says, from what is used and closed now. Sends nothing and changes
    /// nothing.
    ///
    /// # Errors
    /// [`Error`] when `ask` has no route, or the state cannot be read.
    pub fn plan(&self, ask: &Ask, load: &Load) -> Result<Plan, Error> {
        let route = self.route(ask)?;
        if route.is_empty() {
            return Err(no_route());
        }
        let present = self.present(&route, ask, load.latency, load.output_tokens)?;
        let ahead = route[0].target.line.lock().len() as u64;
        let prompts: u64 = load.sizes.iter().map(|(_, count)| count).sum();
        let judged = load.judged_by.map_or(prompts, |most| prompts.min(most.max(1)));
        let first_size = load.sizes.first().map_or(0, |(size, _)| *size);
        let go_through = |ledgers: Vec<Ledger>, patience: Patience| {
            let before = std::iter::repeat_n(first_size, ahead as usize);
            let ours = load.sizes.iter().flat_map(|(size, count)| {
                std::iter::repeat_n(*size, usize::try_from(*count).unwrap_or(usize::MAX))
            });
            let sizes = before.chain(ours.take(judged as usize));
            let (most_in_flight, most_waiting) = (load.most_in_flight, load.most_waiting);
            let manner = PlannedManner {
                patience,
                in_flight: 0,
                most_in_flight,
                most_waiting,
                stands_for: ONE_BY_ONE,
            };
            forecast(ledgers, &present.targets, sizes, manner, present.now)
        };
        let patience = self.patience(ask);
        let made = go_through(present.ledgers.clone(), patience);
        let patient =
            (made.refused > 0).then(|| go_through(present.ledgers.clone(), Patience::FOR_EVER));
        let doubled = made.waits.first().and_then(|wait| match &wait.bound {
            Bound::Limit(limit) => {
                let mut ledgers = present.ledgers.clone();
                ledgers.iter_mut().for_each(|ledger| ledger.scale(limit, 2));
                Some(go_through(ledgers, patience))
            }
            _ => None,
        });
        let stretch = Stretch { now: present.now, by: prompts as f64 / judged.max(1) as f64 };
        let count = |number: u64| (number as f64 * stretch.by).round() as u64;
        let refused = count(made.refused).min(prompts);
        Ok(Plan {
            start: present.now.as_seconds(),
            finish: stretch.at(made.finish),
            prompts,
            answered: prompts - refused,
            refused,
            why_refused: made.why_refused.as_ref().map(|(place, refusal)| {
                let target = &route[*place].target;
                let key = &target.vendor.keys[refusal.lane].label;
                format!("{} ({key}): {}", target.name, refusal.obstacle)
            }),
            patient_finish: patient
                .filter(|patient| patient.refused == 0)
                .map(|patient| stretch.at(patient.finish)),
            ahead,
            keys: keys(&route, &made, stretch.by),
            limits: limits(&route, &made, stretch.by),
            finish_if_doubled: doubled.map(|doubled| stretch.at(doubled.finish)),
            cost: self.cost_of_plan(&route, &made, &present, stretch.by),
        })
    }

    /// The calls of a target are alike to a price book: what one costs is the same for each of them.
    fn cost_of_plan(
        &self,
        route: &[Stop],
        made: &Forecast,
        present: &Present,
        by: f64,
    ) -> Option<(u64, u64, Option<u64>)> {
        let (mut low, mut expected, mut high) = (0, 0, Some(0));
        for ((stop, shares), planned) in route.iter().zip(&made.shares).zip(&present.targets) {
            let calls: u64 = shares.iter().map(|share| share.requests).sum();
            if calls == 0 {
                continue;
            }
            let input = shares.iter().map(|share| share.input_tokens).sum::<u64>() / calls;
            let (provider, model) = (&stop.target.vendor.provider.name, &stop.target.model);
            let cost = |output_tokens: u64| {
                let usage = Usage { input_tokens: input, output_tokens, ..Usage::default() };
                let own = &self.settings.prices;
                let one = cost_of_answer(own, provider, model, Some(&usage), b"", present.now)?;
                Some((one as f64 * calls as f64 * by).round() as u64)
            };
            low += cost(0).or_else(|| cost(planned.output_tokens))?;
            expected += cost(planned.output_tokens)?;
            high = high.zip(planned.need.max_output_tokens.and_then(cost)).map(|(a, b)| a + b);
        }
        Some((low, expected, high))
    }

    /// How long such calls wait at the head of a line.
    pub(super) fn patience(&self, ask: &Ask) -> Patience {
        ask.deadline.map_or(Patience::AtHead(self.settings.max_wait), Patience::Until)
    }

    /// Reads every ledger of the route, and that of the user's own limits, at one instant. An answer takes `latency` and
    /// has `output_tokens`, if that is said.
    pub(super) fn present(
        &self,
        route: &[Stop],
        ask: &Ask,
        latency: Option<Duration>,
        output_tokens: Option<u64>,
    ) -> Result<Present, Error> {
        let now = self.clock.now();
        let user = self.user(ask.user.as_deref());
        let lanes: Vec<Arc<Lanes>> = route.iter().map(|stop| stop.target.lanes()).collect();
        let mut places: BTreeMap<LedgerId, usize> = BTreeMap::new();
        let mut ledgers: Vec<Ledger> = Vec::new();
        let mut targets = Vec::with_capacity(route.len());
        for (stop, lanes) in route.iter().zip(&lanes) {
            let mut here = Vec::new();
            let ids = with_own(&lanes.ids, &user);
            self.store.update(&ids, &mut |held| {
                conform(held, lanes, now);
                if let Some(own) = &user.own {
                    held.get_mut(lanes.ids.len()).conform(&own.limits, now);
                }
                here = (0..held.len()).map(|place| held.get(place).clone()).collect();
            })?;
            let picked: Vec<usize> = (ids.iter().zip(here))
                .map(|(id, ledger)| {
                    *places.entry(id.clone()).or_insert_with(|| {
                        ledgers.push(ledger);
                        ledgers.len() - 1
                    })
                })
                .collect();
            let sizes = lanes.lanes.iter().map(|lane| ledgers[picked[lane.group_model]].outputs());
            let learned = sizes.filter_map(crate::kernel::OutputSizes::mean).max();
            let output = output_tokens.or(learned).unwrap_or(USUAL_OUTPUT);
            let nothing = ChatRequest { messages: Vec::new(), params: serde_json::Map::new() };
            let need = need(self, &nothing, stop, &user, ask.skip_rate_limit, ask.priority);
            targets.push(PlannedTarget {
                picked,
                own: user.own.as_ref().map(|_| lanes.ids.len()),
                lanes: lanes.lanes.clone(),
                output_tokens: need.max_output_tokens.map_or(output, |most| output.min(most)),
                need,
                latency: latency.or(stop.target.usual_latency()).unwrap_or(USUAL_LATENCY),
            });
        }
        Ok(Present { ledgers, targets, now })
    }
}

/// What a part says of the whole.
struct Stretch {
    now: Moment,
    by: f64,
}

impl Stretch {
    fn at(&self, moment: Moment) -> f64 {
        self.now.as_seconds() + moment.since(self.now).as_secs_f64() * self.by
    }
}

fn keys(route: &[Stop], made: &Forecast, by: f64) -> Vec<PlannedKey> {
    let count = |number: u64| (number as f64 * by).round() as u64;
    let mut keys = Vec::new();
    for (stop, shares) in route.iter().zip(&made.shares) {
        let vendor = &stop.target.vendor;
        for (key, share) in vendor.keys.iter().zip(shares) {
            if *share == PlannedShare::default() {
                continue;
            }
            keys.push(PlannedKey {
                provider: vendor.provider.name.clone(),
                model: stop.target.model.clone(),
                key: key.label.clone(),
                requests: count(share.requests),
                input_tokens: count(share.input_tokens),
                output_tokens: count(share.output_tokens),
            });
        }
    }
    keys
}

fn limits(route: &[Stop], made: &Forecast, by: f64) -> Vec<PlannedLimit> {
    let waits = made.waits.iter().map(|wait| {
        let target = &route[wait.target].target;
        PlannedLimit {
            provider: target.vendor.provider.name.clone(),
            model: target.model.clone(),
            limit: wait.bound.to_string(),
            seconds: wait.time.as_secs_f64() * by,
        }
    });
    waits.collect()
}

pub(super) fn no_route() -> Error {
    Error::new(ErrorKind::Internal, "a call has no route")
}
