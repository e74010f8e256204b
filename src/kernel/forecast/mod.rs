//! The forecast of a workload: the real choice and meters in virtual time.
//!
//! The ledgers of all routes are copied as they are. Prompts then go through the same `reserve` and `settle` as real
//! calls, and the clock jumps to the next instant at which a lane opens or a call ends. There is one line for each
//! model. A prompt names the first target of its route and moves on as a real call would.
//!
//! Calls in flight at the beginning have no reservation here. They give their places back evenly over the latency. When
//! nothing has happened for ten thousand steps, the rest is refused, so that every forecast ends.
//!
//! What the head of a line waits for is added up by limit, and what refuses is counted. The limit that refuses most,
//! else the one that is waited for longest, is the one that binds. With [`doubled`] the same workload goes through once
//! more as if that limit were twice as large. `tests/sim/planned.rs` compares forecasts with what happens.

pub(super) mod time_left;
mod types;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use super::amounts::Amounts;
use super::ledger::{Ledger, Obstacle};
use super::limits::{Limit, Resource};
use super::moment::Moment;
use super::reserve::choose::reserve;
use super::reserve::demand::{Demand, Patience};
use super::reserve::lane::Ledgers;
use super::reserve::refusal::{Choice, Refusal};
use super::reserve::reservation::{Ending, Reservation, settle_reservation};

pub use types::{
    Bound, Forecast, ONE_BY_ONE, PlannedManner, PlannedPrompt, PlannedShare, PlannedTarget,
    PlannedWait, StandsFor, WhyRefused,
};

/// A call that is under way, ordered by its end.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct UnderWay {
    ends: Moment,
    number: u64,
    target: usize,
}

struct SentCall {
    reservation: Reservation,
    prompt: PlannedPrompt,
}

/// A place for a call in flight that one of the present ones leaves.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Freed {
    at: Moment,
    ledger: usize,
}

/// A line before a target: the prompts that wait, and what its head waits for.
#[derive(Default)]
struct Line {
    prompts: VecDeque<PlannedPrompt>,
    head: Option<Head>,
}

/// What the head of a line waits for.
struct Head {
    until: Moment,
    bound: Bound,
    target: usize,
}

/// What becomes of a prompt whose turn it is.
enum Turn {
    /// It left, or stands elsewhere, or has nowhere to go.
    Gone,
    /// It waits.
    Waits {
        until: Moment,
        bound: Bound,
        /// For a limit of its user: only calls of that user wait behind it.
        for_user: bool,
    },
}

struct Forecaster<'a> {
    ledgers: Vec<Ledger>,
    targets: &'a [PlannedTarget],
    manner: PlannedManner,
    clock: Moment,
    lines: Vec<Line>,
    waiting: usize,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    freed: BinaryHeap<Reverse<Freed>>,
    held: HashMap<u64, SentCall>,
    sent: u64,
    /// A call went on to the line of another target.
    has_moved: bool,
    /// How often time passed since something happened last.
    idle: u32,
    forecast: Forecast,
}

/// After so many steps in which nothing leaves, ends or is refused nothing ever will.
const MOST_IDLE: u32 = 10_000;

/// Sends calls with prompts of `sizes` tokens in virtual time from `now` on, in their order.
///
/// ```
/// use std::time::Duration;
/// use quotaflow::kernel::{
///     Lane, Ledger, Moment, Demand, ONE_BY_ONE, Patience, PlannedManner, PlannedTarget, forecast,
/// };
/// let target = PlannedTarget {
///     picked: vec![0, 1],
///     own: None,
///     lanes: vec![Lane::new(0, 0, 1, 1, None)],
///     demand: Demand::of(0),
///     output_tokens: 20,
///     latency: Duration::from_secs(1),
///     line: 0,
///     next: None,
/// };
/// let manner = PlannedManner {
///     patience: Patience::FOR_EVER,
///     in_flight: 0,
///     most_in_flight: 2,
///     most_waiting: 10,
///     stands_for: ONE_BY_ONE,
/// };
/// let now = Moment::from_seconds(1_800_000_000);
/// let forecast = forecast(vec![Ledger::default(); 2], &[target], [10; 4], manner, now);
/// assert_eq!(forecast.finish.since(now), Duration::from_secs(2));
/// ```
pub fn forecast(
    ledgers: Vec<Ledger>,
    targets: &[PlannedTarget],
    prompts: impl IntoIterator<Item = impl Into<PlannedPrompt>>,
    manner: PlannedManner,
    now: Moment,
) -> Forecast {
    let lines = targets.iter().map(|target| target.line + 1).max().unwrap_or(0);
    let shares = targets.iter().map(|target| vec![PlannedShare::default(); target.lanes.len()]);
    let mut forecaster = Forecaster {
        ledgers,
        targets,
        manner,
        clock: now,
        lines: (0..lines).map(|_| Line::default()).collect(),
        waiting: 0,
        under_way: BinaryHeap::new(),
        freed: BinaryHeap::new(),
        held: HashMap::new(),
        sent: 0,
        has_moved: false,
        idle: 0,
        forecast: Forecast {
            finish: now,
            answered: 0,
            refused: 0,
            why_refused: None,
            shares: shares.collect(),
            sizes: vec![BTreeMap::new(); targets.len()],
            waits: Vec::new(),
        },
    };
    if !targets.is_empty() {
        forecaster.take_over();
        forecaster.run(prompts.into_iter().map(Into::into));
    }
    let mut forecast = forecaster.forecast;
    forecast.waits.sort_by_key(|wait| (Reverse(wait.refused), Reverse(wait.time)));
    forecast
}

/// Makes what binds twice as large. Returns whether that can be: a closed key cannot, and neither can the steps in
/// which a limit is found out that is not configured.
pub fn doubled(ledgers: &mut [Ledger], manner: &mut PlannedManner, bound: &Bound) -> bool {
    match bound {
        Bound::Limit(limit) => {
            ledgers.iter_mut().for_each(|ledger| ledger.scale(limit, 2));
            true
        }
        Bound::InFlight(most) => {
            let stated = |limit: &&Limit| {
                limit.resource == Resource::Concurrency && limit.amount.get() == *most
            };
            let limit = ledgers.iter().find_map(|ledger| ledger.limits().find(stated).cloned());
            let Some(limit) = limit else { return false };
            ledgers.iter_mut().for_each(|ledger| ledger.scale(&limit, 2));
            true
        }
        Bound::Concurrency(most) => {
            manner.most_in_flight = most.saturating_mul(2);
            manner.most_waiting = manner.most_waiting.saturating_mul(2);
            true
        }
        Bound::Block(_) => false,
    }
}

impl Forecaster<'_> {
    /// What is in flight now ends evenly over the time an answer takes.
    fn take_over(&mut self) {
        let now = self.clock;
        let nth = |latency: Duration, place: usize, of: usize| {
            now + latency.mul_f64((place + 1) as f64 / of as f64)
        };
        for place in 0..self.manner.in_flight {
            let ends = nth(self.targets[0].latency, place, self.manner.in_flight);
            self.sent += 1;
            self.under_way.push(Reverse(UnderWay { ends, number: self.sent, target: 0 }));
        }
        for (ledger, held) in self.ledgers.iter().enumerate() {
            let leads_here = |target: &&PlannedTarget| target.picked.contains(&ledger);
            let Some(target) = self.targets.iter().find(leads_here) else { continue };
            let count = usize::try_from(held.in_flight()).unwrap_or(usize::MAX);
            let ends = |place| nth(target.latency, place, count);
            self.freed.extend((0..count).map(|place| Reverse(Freed { at: ends(place), ledger })));
        }
    }

    fn run(&mut self, mut prompts: impl Iterator<Item = PlannedPrompt>) {
        let mut next = prompts.next();
        loop {
            while let Some(prompt) =
                next.take_if(|_| self.waiting < self.manner.most_waiting.max(1))
            {
                let line = self.targets[prompt.target].line;
                self.lines[line].prompts.push_back(prompt);
                self.waiting += 1;
                next = prompts.next();
                // A call at the head of its line is served as it comes.
                if self.lines[line].prompts.len() == 1 {
                    self.serve();
                }
            }
            self.serve();
            if next.is_some() && self.waiting < self.manner.most_waiting.max(1) {
                continue;
            }
            if !self.pass_time() {
                return;
            }
        }
    }

    /// Advances the clock to what happens next. Returns whether anything does.
    fn pass_time(&mut self) -> bool {
        let ends = self.under_way.peek().map(|Reverse(next)| next.ends);
        let opens =
            self.lines.iter().filter_map(|line| line.head.as_ref().map(|head| head.until)).min();
        let Some(until) = ends.into_iter().chain(opens).min() else { return false };
        let freed = self.freed.peek().map(|Reverse(next)| next.at);
        let until = freed.map_or(until, |at| until.min(at));
        // Time passes, whatever the meters say.
        let until = until.max(self.clock + Duration::from_nanos(1));
        let time = until.since(self.clock);
        for line in 0..self.lines.len() {
            if let Some(Head { bound, target, .. }) = &self.lines[line].head {
                let (bound, target) = (bound.clone(), *target);
                self.wait_for(target, bound).time += time;
            }
        }
        self.clock = until;
        self.idle += 1;
        while self.freed.peek().is_some_and(|Reverse(next)| next.at <= until) {
            if let Some(Reverse(freed)) = self.freed.pop() {
                self.ledgers[freed.ledger].forget_in_flight();
                self.idle = 0;
            }
        }
        while self.under_way.peek().is_some_and(|Reverse(next)| next.ends <= until) {
            self.end_one();
        }
        true
    }

    /// What was waited for before the line of this target because of `bound`.
    fn wait_for(&mut self, target: usize, bound: Bound) -> &mut PlannedWait {
        let line = self.targets[target].line;
        let waits = &mut self.forecast.waits;
        let same =
            |wait: &PlannedWait| self.targets[wait.target].line == line && wait.bound == bound;
        let place = waits.iter().position(same).unwrap_or_else(|| {
            waits.push(PlannedWait { target, bound, time: Duration::ZERO, refused: 0 });
            waits.len() - 1
        });
        &mut waits[place]
    }

    /// The head of each line leaves, moves on, or waits.
    fn serve(&mut self) {
        loop {
            self.has_moved = false;
            (0..self.lines.len()).for_each(|line| self.serve_line(line));
            // A call that joined a line that was served already has had no turn there.
            if !self.has_moved {
                return;
            }
        }
    }

    fn serve_line(&mut self, line: usize) {
        self.lines[line].head = None;
        let mut held_up: Vec<usize> = Vec::new();
        let mut place = 0;
        while let Some(prompt) = self.lines[line].prompts.get(place).copied() {
            let target = prompt.target;
            let own = self.targets[target].own.map(|own| self.targets[target].picked[own]);
            if own.is_some_and(|own| held_up.contains(&own)) {
                place += 1;
                continue;
            }
            let turn = self.take_turn(line, place, prompt);
            let (until, bound) = match &turn {
                Turn::Gone => continue,
                Turn::Waits { until, bound, .. } => (*until, bound),
            };
            match &mut self.lines[line].head {
                Some(head) => head.until = head.until.min(until),
                head => *head = Some(Head { until, bound: bound.clone(), target }),
            }
            match turn {
                Turn::Waits { for_user: true, .. } => held_up.extend(own),
                _ => return,
            }
        }
    }

    /// Lets the prompt at `place` of a line go if there is a lane. Otherwise returns until when it waits there and for
    /// what.
    fn take_turn(&mut self, line: usize, place: usize, prompt: PlannedPrompt) -> Turn {
        if self.under_way.len() >= self.manner.most_in_flight.max(1) {
            let ends = self.under_way.peek().map_or(self.clock, |Reverse(next)| next.ends);
            let bound = Bound::Concurrency(self.manner.most_in_flight);
            return Turn::Waits { until: ends, bound, for_user: false };
        }
        let target = &self.targets[prompt.target];
        let over = |end| self.clock + target.latency > end;
        if matches!(self.manner.patience, Patience::Until(end) if over(end))
            && self.manner.stands_for == ONE_BY_ONE
        {
            // It would be answered too late, here and everywhere.
            self.lines[line].prompts.remove(place);
            self.gives_up(prompt, None);
            return Turn::Gone;
        }
        let size = prompt.input_tokens;
        let (counted_tokens, user) = (Some(size), target.own);
        let demand = Demand { input_tokens: size, counted_tokens, user, ..target.demand };
        let mut ledgers = Ledgers::new(&mut self.ledgers, &target.picked);
        let now = self.clock;
        let is_stuck = self.idle > MOST_IDLE;
        let refusal = match reserve(&mut ledgers, &target.lanes, &[], &demand, now) {
            Choice::Reserved(reservation) => {
                self.leaves(prompt, reservation);
                self.lines[line].prompts.remove(place);
                return Turn::Gone;
            }
            // It would stand in the way at every target.
            Choice::NotNow(refusal) | Choice::Never(Some(refusal)) if refusal.is_by_user() => {
                let waits = refusal.is_worth_waiting(self.manner.patience, now) && !is_stuck;
                let Some(until) = refusal.at.filter(|_| waits) else {
                    self.lines[line].prompts.remove(place);
                    self.gives_up(prompt, Some(refusal));
                    return Turn::Gone;
                };
                return Turn::Waits { until, bound: Bound::of(refusal.obstacle), for_user: true };
            }
            Choice::Never(refusal) => {
                self.moves_on(line, place, prompt, refusal);
                return Turn::Gone;
            }
            Choice::NotNow(refusal) => refusal,
        };
        let too_far = refusal.at.is_some_and(|at| {
            let wait = at.since(self.clock);
            let each = self.manner.stands_for.each_waits(wait, &refusal.obstacle);
            at == Moment::FAR_FUTURE || !self.manner.patience.covers(self.clock + each, self.clock)
        });
        // What is under way may give back enough before that, and there is nowhere else to go.
        let may_wait_for_refund =
            refusal.may_return && !self.under_way.is_empty() && target.next.is_none();
        let too_far = too_far && !may_wait_for_refund;
        let next = self.under_way.peek().map(|Reverse(next)| next.ends);
        let freed = self.freed.peek().map(|Reverse(next)| next.at);
        // While one lane waits for a call to end, another one may open.
        let opens = refusal.opens.filter(|at| self.manner.patience.covers(*at, now));
        // What waits for a call to end waits for nothing when there is none.
        let until = refusal.at.or(next.into_iter().chain(freed).chain(opens).min());
        match until.filter(|_| !too_far && !is_stuck) {
            Some(until) => {
                Turn::Waits { until, bound: Bound::of(refusal.obstacle), for_user: false }
            }
            None => {
                self.moves_on(line, place, prompt, Some(refusal));
                Turn::Gone
            }
        }
    }

    /// A call joins the line of the next target, or has nowhere to go.
    fn moves_on(&mut self, line: usize, place: usize, prompt: PlannedPrompt, why: Option<Refusal>) {
        self.idle = 0;
        self.lines[line].prompts.remove(place);
        match self.targets[prompt.target].next {
            Some(next) => {
                self.note_why(prompt, why);
                self.has_moved = true;
                let line = self.targets[next].line;
                self.lines[line].prompts.push_back(PlannedPrompt { target: next, ..prompt });
            }
            None => self.gives_up(prompt, why),
        }
    }

    fn gives_up(&mut self, prompt: PlannedPrompt, why: Option<Refusal>) {
        self.idle = 0;
        self.waiting -= 1;
        if !prompt.is_ours {
            return;
        }
        // What is too large for a limit would be so whenever it came.
        let used_up = why.as_ref().map(|why| &why.obstacle);
        if let Some(obstacle) = used_up.filter(|why| !matches!(why, Obstacle::TooLarge { .. })) {
            let bound = Bound::of(obstacle.clone());
            self.wait_for(prompt.target, bound).refused += 1;
        }
        self.note_why(prompt, why);
        self.forecast.refused += 1;
    }

    fn note_why(&mut self, prompt: PlannedPrompt, why: Option<Refusal>) {
        let (target, known) = (prompt.target, &mut self.forecast.why_refused);
        if prompt.is_ours && self.forecast.refused == 0 && known.is_none() {
            *known = why.map(|refusal| WhyRefused { target, refusal });
        }
    }

    fn leaves(&mut self, prompt: PlannedPrompt, reservation: Reservation) {
        let planned = &self.targets[prompt.target];
        if prompt.is_ours {
            let share = &mut self.forecast.shares[prompt.target][reservation.lane];
            share.requests += 1;
            share.input_tokens += prompt.input_tokens;
            share.output_tokens += planned.output_tokens;
            *self.forecast.sizes[prompt.target].entry(prompt.input_tokens).or_default() += 1;
        }
        self.idle = 0;
        self.waiting -= 1;
        self.sent += 1;
        self.held.insert(self.sent, SentCall { reservation, prompt });
        let ends = self.clock + planned.latency;
        let target = prompt.target;
        self.under_way.push(Reverse(UnderWay { ends, number: self.sent, target }));
    }

    /// The call that ends first ends.
    fn end_one(&mut self) {
        let Some(Reverse(over)) = self.under_way.pop() else { return };
        self.idle = 0;
        let held = self.held.remove(&over.number);
        if held.as_ref().is_none_or(|held| held.prompt.is_ours) {
            self.forecast.finish = self.forecast.finish.max(over.ends);
            self.forecast.answered += 1;
        }
        let Some(SentCall { reservation, prompt }) = held else { return };
        let input_tokens = prompt.input_tokens;
        let target = &self.targets[over.target];
        let output_tokens = if target.demand.counts_output { target.output_tokens } else { 0 };
        let spend =
            target.demand.price.map_or(0, |price| price.spend(input_tokens, target.output_tokens));
        let used = Amounts { requests: 1, input_tokens, output_tokens, spend };
        let mut ledgers = Ledgers::new(&mut self.ledgers, &target.picked);
        let lane = &target.lanes[reservation.lane];
        let ending = Ending::Answered(Some(used));
        settle_reservation(&mut ledgers, lane, &reservation, ending, over.ends);
    }
}

#[cfg(test)]
mod tests;
