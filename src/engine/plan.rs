//! The plan of a batch: when it finishes, what it costs, what limits it.

use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::iter::repeat_n;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use super::call::Calls;
use super::call::errors::no_route;
use super::call::request::Request;
use super::call::route::Stop;
use super::call::send::demand;
use super::dispatch::lanes::{conform, conform_user, with_own};
use super::dispatch::prices::rates_of;
use super::dispatch::types::Target;
use crate::error::Error;
use crate::kernel::{
    Amounts, Forecast, Ledger, LedgerId, Moment, ONE_BY_ONE, Patience, PlannedManner,
    PlannedPrompt, PlannedShare, PlannedTarget, Standing, USUAL_OUTPUT, Usage, WhyRefused, doubled,
    forecast,
};
use crate::providers::{ChatRequest, Message, Tokenizer};

/// How many prompts are gone through between two checks whether the plan is still wanted.
const ASKED_EVERY: u32 = 4_096;
/// The latency before the first answer.
const USUAL_LATENCY: Duration = Duration::from_secs(1);

/// How prompts are to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// How many are under way at once at most.
    pub most_in_flight: usize,
    /// How many wait at once at most; the next one begins when one of them has left.
    pub most_waiting: usize,
    /// How long an answer takes; `None`: as long as lately, or a second.
    pub latency: Option<Duration>,
    /// How many tokens an answer has; `None`: as many as so far on average, or 256, at most what the call allows.
    pub output_tokens: Option<u64>,
}

/// Prompts of the same size that follow each other and are sent the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedRun {
    /// The place of the way among those that are planned together.
    pub ask: usize,
    /// Tokens of a prompt.
    pub size: u64,
    /// How many.
    pub count: u64,
}

/// The forecast.
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
    /// When all would be done if calls waited for every limit; `None`: never, or nothing is refused anyway.
    pub patient_finish: Option<f64>,
    /// How many calls wait already and go first.
    pub ahead: u64,
    /// What each key would have to do.
    pub keys: Vec<PlannedKey>,
    /// What decides how it goes: what refuses most first, then what would be waited for longest.
    pub limits: Vec<PlannedLimit>,
    /// When it would finish if the first of them were twice as large, in seconds since the epoch.
    pub finish_if_doubled: Option<f64>,
    /// How many would be answered then.
    pub answered_if_doubled: Option<u64>,
    /// What it costs in picodollars, low, expected and at most; `None` when the price of a model is unknown.
    pub cost: Option<(u64, u64, Option<u64>)>,
    /// The provider and the model whose price is unknown.
    pub unpriced: Option<(String, String)>,
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
    /// How many prompts would be refused because of it.
    pub refused: u64,
}

/// The routes of what is planned, one after the other.
#[derive(Default)]
struct Routes {
    /// The stop of each planned target.
    stops: Vec<Stop>,
    /// For each way to send: the place of its first target, or why it cannot be sent like that.
    firsts: Vec<Option<Result<usize, Error>>>,
}

/// What makes two ways to send the same for a plan: the targets with their most output tokens, the priority, the user.
type Sameness = (Vec<(*const Target, Option<u64>)>, u8, bool, Option<String>);

/// The ledgers of some routes as they are now, and the targets among them.
pub(super) struct Present {
    pub(super) ledgers: Vec<Ledger>,
    pub(super) targets: Vec<PlannedTarget>,
    pub(super) now: Moment,
}

impl Calls {
    /// How many tokens each of these conversations will be billed as at the first target of the route: counted where
    /// the model's tokenizer is known, else estimated and corrected by earlier bills.
    pub(in crate::engine) fn prompt_sizes(
        &self,
        ask: &Request,
        prompts: Vec<Vec<Message>>,
    ) -> Result<Vec<u64>, Error> {
        let route = self.route(ask)?;
        let Some(stop) = route.first() else { return Err(no_route()) };
        let tokenizer = Tokenizer::of_model(&stop.target.model)
            .filter(|_| self.counts_exactly.load(Ordering::Relaxed));
        if tokenizer.is_some() {
            self.catch_up(&stop.target)?;
        }
        let lessons = self.lessons(&stop.target)?;
        let size = |messages| {
            let request = ChatRequest { messages, params: serde_json::Map::new() };
            let counted = tokenizer.and_then(|known| known.count_chat(&request, &stop.params));
            let estimated = || request.estimated_input_tokens(&stop.params);
            let counted = counted.map(|counted| lessons.counts.of_count(counted));
            counted.unwrap_or_else(|| lessons.inputs.expected(estimated()))
        };
        Ok(prompts.into_iter().map(size).collect())
    }

    /// See [`Engine::plan`](crate::engine::Engine::plan).
    pub(in crate::engine) fn plan(
        &self,
        asks: &[&Request],
        runs: &[PlannedRun],
        load: &Load,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Option<Plan>, Error> {
        let Some(first) = asks.first() else { return Err(no_route()) };
        let (routes, present) = self.routes(asks, runs, load)?;
        let patience = self.patience(first);
        let place = |ask: usize| routes.firsts[ask].as_ref()?.as_ref().ok().copied();
        let unsent: u64 =
            runs.iter().filter(|run| place(run.ask).is_none()).map(|run| run.count).sum();
        let why_unsent = runs.iter().find_map(|run| match &routes.firsts[run.ask] {
            Some(Err(error)) => Some(error.to_string()),
            _ => None,
        });
        let prompts = runs.iter().map(|run| run.count).sum::<u64>() - unsent;
        let (seen, is_left) = (Cell::new(0_u32), Cell::new(false));
        let is_wanted = || {
            seen.set(seen.get().wrapping_add(1));
            if seen.get().is_multiple_of(ASKED_EVERY) && !goes_on() {
                is_left.set(true);
            }
            !is_left.get()
        };
        let before = self.standing_before(asks, &routes, runs);
        let manner = PlannedManner {
            patience,
            in_flight: 0,
            most_in_flight: load.most_in_flight,
            most_waiting: load.most_waiting,
            stands_for: ONE_BY_ONE,
        };
        let go_through = |ledgers: Vec<Ledger>, manner: PlannedManner| {
            let others = before.iter().flat_map(|(prompt, count)| repeat_n(*prompt, *count));
            let ours = runs.iter().filter_map(|run| Some((place(run.ask)?, run)));
            let ours = ours.flat_map(|(target, run)| {
                let prompt = PlannedPrompt { target, ..run.size.into() };
                repeat_n(prompt, usize::try_from(run.count).unwrap_or(usize::MAX))
            });
            let prompts = others.chain(ours).take_while(|_| is_wanted());
            forecast(ledgers, &present.targets, prompts, manner, present.now)
        };
        let made = go_through(present.ledgers.clone(), manner);
        let patient = (made.refused > 0).then(|| {
            let manner = PlannedManner { patience: Patience::FOR_EVER, ..manner };
            go_through(present.ledgers.clone(), manner)
        });
        let doubled = made.waits.first().and_then(|wait| {
            let (mut ledgers, mut manner) = (present.ledgers.clone(), manner);
            doubled(&mut ledgers, &mut manner, &wait.bound).then(|| go_through(ledgers, manner))
        });
        if is_left.get() {
            return Ok(None);
        }
        let cost = self.cost_of_plan(&routes.stops, &made, &present);
        let why = made.why_refused.as_ref().map(|why| told(why, &routes.stops));
        // When only time is lacking, no limit stands in the way of the first one.
        let is_late = made.refused > 0 && matches!(patience, Patience::Until(_));
        let too_late = || is_late.then(|| "the deadline comes before their answers".to_owned());
        Ok(Some(Plan {
            start: present.now.as_seconds(),
            finish: made.finish.as_seconds(),
            prompts: prompts + unsent,
            answered: prompts - made.refused,
            refused: made.refused + unsent,
            why_refused: why.or(why_unsent).or_else(too_late),
            patient_finish: patient
                .filter(|patient| patient.refused == 0 && unsent == 0)
                .map(|patient| patient.finish.as_seconds()),
            ahead: before.iter().map(|(_, count)| *count as u64).sum(),
            keys: keys(&routes.stops, &made),
            limits: limits(&routes.stops, &made),
            finish_if_doubled: doubled.as_ref().map(|doubled| doubled.finish.as_seconds()),
            answered_if_doubled: doubled.as_ref().map(|doubled| prompts - doubled.refused),
            cost: cost.as_ref().ok().copied(),
            unpriced: cost.err(),
        }))
    }

    /// The targets of all ways to send, each different one once, and their ledgers as they are now.
    fn routes(
        &self,
        asks: &[&Request],
        runs: &[PlannedRun],
        load: &Load,
    ) -> Result<(Routes, Present), Error> {
        let mut routes = Routes::default();
        let mut present = Gathered::new(self.dispatch.now());
        let mut known: HashMap<Sameness, usize> = HashMap::new();
        let mut is_used = vec![runs.is_empty(); asks.len()];
        runs.iter().for_each(|run| is_used[run.ask] = true);
        for (place, ask) in asks.iter().enumerate() {
            if !is_used[place] {
                routes.firsts.push(None);
                continue;
            }
            let route = match self.route(ask) {
                Ok(route) if route.is_empty() => Err(no_route()),
                found => found,
            };
            let route = match route {
                Err(error) if place == 0 => return Err(error),
                Err(error) => {
                    routes.firsts.push(Some(Err(error)));
                    continue;
                }
                Ok(route) => route,
            };
            let most = |stop: &Stop| ChatRequest::max_output_tokens(&stop.params);
            let targets = route.iter().map(|stop| (Arc::as_ptr(&stop.target), most(stop)));
            let same = (targets.collect(), ask.priority, ask.skip_rate_limit, ask.user.clone());
            let first = match known.entry(same) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(place) => {
                    let first = *place.insert(present.targets.len());
                    self.gather(&mut present, &route, ask, load.latency, load.output_tokens)?;
                    routes.stops.extend(route);
                    first
                }
            };
            routes.firsts.push(Some(Ok(first)));
        }
        Ok((routes, present.into()))
    }

    /// The calls that wait already and are served before the planned ones, and how many.
    fn standing_before(
        &self,
        asks: &[&Request],
        routes: &Routes,
        runs: &[PlannedRun],
    ) -> Vec<(PlannedPrompt, usize)> {
        let mut seen: Vec<*const Target> = Vec::new();
        let mut before = Vec::new();
        for run in runs {
            let Some(Some(Ok(target))) = routes.firsts.get(run.ask) else { continue };
            let line = &routes.stops[*target].target;
            if seen.contains(&Arc::as_ptr(line)) {
                continue;
            }
            seen.push(Arc::as_ptr(line));
            let user = self.dispatch.user(asks[run.ask].user.as_deref());
            let standing = Standing {
                priority: asks[run.ask].priority,
                tenant: user.name.clone(),
                weight: user.weight,
                size: Amounts { requests: 1, input_tokens: run.size, ..Amounts::default() },
            };
            let ahead = line.line.lock().ahead_of(&standing);
            if let Some(input_tokens) = ahead.input_tokens.checked_div(ahead.requests) {
                let prompt = PlannedPrompt { input_tokens, target: *target, is_ours: false };
                before.push((prompt, usize::try_from(ahead.requests).unwrap_or(usize::MAX)));
            }
        }
        before
    }

    /// The calls of a target are alike to a price book but for the sizes of their prompts.
    ///
    /// # Errors
    /// The provider and the model whose price is unknown.
    fn cost_of_plan(
        &self,
        stops: &[Stop],
        made: &Forecast,
        present: &Present,
    ) -> Result<(u64, u64, Option<u64>), (String, String)> {
        let (mut low, mut expected, mut high) = (0_u64, 0_u64, Some(0_u64));
        for ((stop, sizes), planned) in stops.iter().zip(&made.sizes).zip(&present.targets) {
            if sizes.is_empty() {
                continue;
            }
            let (provider, model) = (&stop.target.vendor.provider.name, &stop.target.model);
            let unpriced = || (provider.clone(), model.clone());
            let rates = rates_of(&self.dispatch.prices, provider, model, present.now);
            let rates = rates.ok_or_else(unpriced)?;
            for (size, count) in sizes {
                let cost = |output_tokens: u64| {
                    let input_tokens = *size;
                    let usage = Usage { input_tokens, output_tokens, ..Usage::default() };
                    Some(rates.cost(&usage, 0)?.saturating_mul(*count))
                };
                let usual = cost(planned.output_tokens).ok_or_else(unpriced)?;
                low = low.saturating_add(cost(0).unwrap_or(usual));
                expected = expected.saturating_add(usual);
                let most = planned.demand.max_output_tokens.and_then(cost);
                high = high.zip(most).map(|(one, other)| one.saturating_add(other));
            }
        }
        Ok((low, expected, high))
    }

    /// The patience of such calls at the head of a line.
    pub(super) fn patience(&self, ask: &Request) -> Patience {
        ask.deadline.map_or(Patience::AtHead(self.settings.max_wait), Patience::Until)
    }

    /// Reads every ledger of the route, and that of the user's own limits, at one instant. An answer takes `latency`
    /// and has `output_tokens`, if given.
    pub(super) fn present(
        &self,
        route: &[Stop],
        ask: &Request,
        latency: Option<Duration>,
        output_tokens: Option<u64>,
    ) -> Result<Present, Error> {
        let mut present = Gathered::new(self.dispatch.now());
        self.gather(&mut present, route, ask, latency, output_tokens)?;
        Ok(present.into())
    }

    /// Adds the targets of a route, with their ledgers and that of the user's own limits, as they are now. An answer
    /// takes `latency` and has `output_tokens`, if given.
    fn gather(
        &self,
        present: &mut Gathered,
        route: &[Stop],
        ask: &Request,
        latency: Option<Duration>,
        output_tokens: Option<u64>,
    ) -> Result<(), Error> {
        let now = present.now;
        let user = self.dispatch.user(ask.user.as_deref());
        for (place, stop) in route.iter().enumerate() {
            let lanes = stop.target.lanes();
            let ids = with_own(&lanes.ids, &user);
            let mut here = Vec::new();
            // A ledger of another route may be read again; the first copy stays.
            if ids.iter().any(|id| !present.places.contains_key(id)) {
                self.dispatch.store.update(&ids, &mut |held| {
                    conform(held, &lanes, now);
                    conform_user(held, &lanes, &user, now);
                    here = (0..held.len()).map(|place| held.get(place).clone()).collect();
                })?;
            }
            for (id, mut ledger) in ids.iter().zip(here) {
                // Sizes of prompts are what will be billed.
                ledger.trust_counts();
                present.places.entry(id.clone()).or_insert_with(|| {
                    present.ledgers.push(ledger);
                    present.ledgers.len() - 1
                });
            }
            let picked: Vec<usize> = ids.iter().map(|id| present.places[id]).collect();
            let outputs = lanes.lanes.iter().map(|lane| picked[lane.group_model]);
            let learned = outputs.filter_map(|place| present.ledgers[place].outputs().mean()).max();
            let output = output_tokens.or(learned).unwrap_or(USUAL_OUTPUT);
            let nothing = ChatRequest { messages: Vec::new(), params: serde_json::Map::new() };
            let demand = demand(self, &nothing, stop, &user, ask.skip_rate_limit, ask.priority);
            let line = present.lines.len();
            let line = *present.lines.entry(Arc::as_ptr(&stop.target)).or_insert(line);
            let next = present.targets.len() + 1;
            present.targets.push(PlannedTarget {
                picked,
                own: user.own.as_ref().map(|_| lanes.ids.len()),
                lanes: lanes.lanes.clone(),
                output_tokens: demand.max_output_tokens.map_or(output, |most| output.min(most)),
                demand,
                latency: latency.or(stop.target.usual_latency()).unwrap_or(USUAL_LATENCY),
                line,
                next: (place + 1 < route.len()).then_some(next),
            });
        }
        Ok(())
    }
}

/// A present while its routes are read.
struct Gathered {
    ledgers: Vec<Ledger>,
    targets: Vec<PlannedTarget>,
    now: Moment,
    places: HashMap<LedgerId, usize>,
    lines: HashMap<*const Target, usize>,
}

impl Gathered {
    fn new(now: Moment) -> Self {
        let (places, lines) = (HashMap::new(), HashMap::new());
        Gathered { ledgers: Vec::new(), targets: Vec::new(), now, places, lines }
    }
}

impl From<Gathered> for Present {
    fn from(Gathered { ledgers, targets, now, .. }: Gathered) -> Present {
        Present { ledgers, targets, now }
    }
}

fn told(why: &WhyRefused, stops: &[Stop]) -> String {
    let target = &stops[why.target].target;
    let obstacle = &why.refusal.obstacle;
    match why.refusal.lane().and_then(|lane| target.vendor.keys.get(lane)) {
        Some(key) => format!("{} ({}): {obstacle}", target.name, key.label),
        None => format!("the user's own limit: {obstacle}"),
    }
}

fn keys(stops: &[Stop], made: &Forecast) -> Vec<PlannedKey> {
    let mut keys: Vec<PlannedKey> = Vec::new();
    let mut places: HashMap<(*const Target, usize), usize> = HashMap::new();
    for (stop, shares) in stops.iter().zip(&made.shares) {
        let vendor = &stop.target.vendor;
        for (lane, (key, share)) in vendor.keys.iter().zip(shares).enumerate() {
            if *share == PlannedShare::default() {
                continue;
            }
            let place = *places.entry((Arc::as_ptr(&stop.target), lane)).or_insert(keys.len());
            if place == keys.len() {
                keys.push(PlannedKey {
                    provider: vendor.provider.name.clone(),
                    model: stop.target.model.clone(),
                    key: key.label.clone(),
                    requests: 0,
                    input_tokens: 0,
                    output_tokens: 0,
                });
            }
            let known = &mut keys[place];
            known.requests += share.requests;
            known.input_tokens += share.input_tokens;
            known.output_tokens += share.output_tokens;
        }
    }
    keys
}

fn limits(stops: &[Stop], made: &Forecast) -> Vec<PlannedLimit> {
    let waits = made.waits.iter().map(|wait| {
        let target = &stops[wait.target].target;
        PlannedLimit {
            provider: target.vendor.provider.name.clone(),
            model: target.model.clone(),
            limit: wait.bound.to_string(),
            seconds: wait.time.as_secs_f64(),
            refused: wait.refused,
        }
    });
    waits.collect()
}
