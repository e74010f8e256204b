//! When would so many calls be done, and what would they wait for?
//!
//! The ledgers as they are now, the same choice and the same meters as for real calls, and a clock that jumps: what a
//! plan says is what the kernel would do, not a formula beside it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

use super::call::Patience;
use super::choose::{Choice, Ending, Lane, Ledgers, Need, Refusal, Reservation, reserve, settle};
use super::failure::FailureClass;
use super::ledger::{Ledger, Obstacle};
use super::limits::{Amounts, Limit, Period, Refill};
use super::moment::Moment;
use super::own_limit::{reserve_for, settle_own};

/// A target of the route, as a plan sees it.
#[derive(Clone, Debug)]
pub struct PlannedTarget {
    /// The places of its ledgers among those of the plan.
    pub picked: Vec<usize>,
    /// Which of the picked ones counts the caller's own limits, if there are any.
    pub own: Option<usize>,
    /// Its lanes.
    pub lanes: Vec<Lane>,
    /// What a call needs here, but for the size of its prompt.
    pub need: Need,
    /// How many tokens an answer has.
    pub output_tokens: u64,
    /// How long an answer takes.
    pub latency: Duration,
}

/// How calls are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlannedManner {
    /// How long a call at the head of a line waits before it goes to the next target.
    pub patience: Patience,
    /// How many are under way at the first target already, each with its lane.
    pub in_flight: usize,
    /// How many are under way at once at most.
    pub most_in_flight: usize,
    /// How many stand in lines at once at most; the next call begins when one of them has left.
    pub most_waiting: usize,
    /// For how many calls each one stands; [`ONE_BY_ONE`] when all are gone through.
    pub stands_for: StandsFor,
}

/// For how many calls one stands, when only some are gone through and limits were made smaller for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StandsFor {
    /// As far as limits over a minute or less are concerned.
    pub short: f64,
    /// As far as longer ones are.
    pub long: f64,
}

/// Each call stands for itself.
pub const ONE_BY_ONE: StandsFor = StandsFor { short: 1.0, long: 1.0 };

impl StandsFor {
    /// How long one call waits where one that stands for many waits for `time`: what refills bit by bit does so by call.
    fn each_waits(self, time: Duration, obstacle: &Obstacle) -> Duration {
        let Obstacle::Limit { limit: Limit { refill: Refill::Bucket { .. }, period, .. }, .. } =
            obstacle
        else {
            return time;
        };
        time.div_f64(if *period <= Period::Minute { self.short } else { self.long })
    }
}

/// What calls waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A limit that was used up.
    Limit(Limit),
    /// So many calls were in flight at the target.
    InFlight(u64),
    /// A refusal closed everything.
    Block(FailureClass),
    /// The caller wanted no more at once.
    Concurrency(usize),
}

impl Bound {
    fn of(obstacle: Obstacle) -> Bound {
        match obstacle {
            Obstacle::Limit { limit, .. } | Obstacle::TooLarge { limit, .. } => Bound::Limit(limit),
            Obstacle::Concurrency { most } => Bound::InFlight(most),
            Obstacle::Block(block) => Bound::Block(block.class),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::Limit(limit) => write!(f, "{limit}"),
            Bound::InFlight(most) => write!(f, "{most} calls in flight"),
            Bound::Block(class) => write!(f, "closed after {}", class.name()),
            Bound::Concurrency(most) => write!(f, "concurrency {most}"),
        }
    }
}

/// Time spent on one bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedWait {
    /// The place of the target in the route.
    pub target: usize,
    /// What was waited for.
    pub bound: Bound,
    /// For how long nothing could leave because of it.
    pub time: Duration,
}

/// What goes down one lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlannedShare {
    /// Calls.
    pub requests: u64,
    /// Tokens of their prompts.
    pub input_tokens: u64,
    /// Tokens of the answers.
    pub output_tokens: u64,
}

/// What would come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// When the last answer is there.
    pub finish: Moment,
    /// How many calls are answered.
    pub answered: u64,
    /// How many have nowhere to go.
    pub refused: u64,
    /// Why the first of them has not: what the first target said that had something to say, and its place in the route.
    pub why_refused: Option<(usize, Refusal)>,
    /// For each target what goes down each of its lanes.
    pub shares: Vec<Vec<PlannedShare>>,
    /// What was waited for, the longest first.
    pub waits: Vec<PlannedWait>,
}

/// A call that is under way, ordered by its end.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct UnderWay {
    ends: Moment,
    number: u64,
    target: usize,
}

struct Held {
    reservation: Reservation,
    input_tokens: u64,
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
    prompts: VecDeque<u64>,
    head: Option<(Moment, Bound)>,
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
    held: HashMap<u64, Held>,
    sent: u64,
    forecast: Forecast,
}

/// What is not known to end is looked at again after this long.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Sends calls with prompts of `sizes` tokens in virtual time from `now` on, in their order.
///
/// ```
/// use std::time::Duration;
/// use quotaflow::kernel::{
///     Lane, Ledger, Moment, Need, ONE_BY_ONE, Patience, PlannedManner, PlannedTarget, forecast,
/// };
/// let target = PlannedTarget {
///     picked: vec![0, 1],
///     own: None,
///     lanes: vec![Lane::new(0, 0, 1, 1, None)],
///     need: Need::of(0),
///     output_tokens: 20,
///     latency: Duration::from_secs(1),
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
    sizes: impl IntoIterator<Item = u64>,
    manner: PlannedManner,
    now: Moment,
) -> Forecast {
    let shares = targets.iter().map(|target| vec![PlannedShare::default(); target.lanes.len()]);
    let mut forecaster = Forecaster {
        ledgers,
        targets,
        manner,
        clock: now,
        lines: targets.iter().map(|_| Line::default()).collect(),
        waiting: 0,
        under_way: BinaryHeap::new(),
        freed: BinaryHeap::new(),
        held: HashMap::new(),
        sent: 0,
        forecast: Forecast {
            finish: now,
            answered: 0,
            refused: 0,
            why_refused: None,
            shares: shares.collect(),
            waits: Vec::new(),
        },
    };
    if !targets.is_empty() {
        forecaster.take_over();
        forecaster.run(sizes.into_iter());
    }
    let mut forecast = forecaster.forecast;
    forecast.waits.sort_by_key(|wait| Reverse(wait.time));
    forecast
}

impl Forecaster<'_> {
    /// What is under way now ends evenly over the time an answer takes, whoever began it.
    fn take_over(&mut self) {
        let (now, latency) = (self.clock, self.targets[0].latency);
        let nth = |place: usize, of: usize| now + latency.mul_f64((place + 1) as f64 / of as f64);
        for place in 0..self.manner.in_flight {
            let ends = nth(place, self.manner.in_flight);
            self.sent += 1;
            self.under_way.push(Reverse(UnderWay { ends, number: self.sent, target: 0 }));
        }
        for (ledger, held) in self.ledgers.iter().enumerate() {
            let count = usize::try_from(held.in_flight()).unwrap_or(usize::MAX);
            self.freed
                .extend((0..count).map(|place| Reverse(Freed { at: nth(place, count), ledger })));
        }
    }

    fn run(&mut self, mut sizes: impl Iterator<Item = u64>) {
        let mut next = sizes.next();
        loop {
            while let Some(size) = next.take_if(|_| self.waiting < self.manner.most_waiting.max(1))
            {
                self.lines[0].prompts.push_back(size);
                self.waiting += 1;
                next = sizes.next();
                // A call that nobody stands before is served as it comes.
                if self.lines[0].prompts.len() == 1 {
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

    /// Lets the clock go on to whatever happens next. Says whether anything does.
    fn pass_time(&mut self) -> bool {
        let ends = self.under_way.peek().map(|Reverse(next)| next.ends);
        let opens =
            self.lines.iter().filter_map(|line| line.head.as_ref().map(|head| head.0)).min();
        let Some(until) = ends.into_iter().chain(opens).min() else { return false };
        let freed = self.freed.peek().map(|Reverse(next)| next.at);
        let until = freed.map_or(until, |at| until.min(at));
        // Time passes, whatever the meters say.
        let until = until.max(self.clock + Duration::from_nanos(1));
        let time = until.since(self.clock);
        for target in 0..self.lines.len() {
            if let Some((_, bound)) = &self.lines[target].head {
                let waits = &mut self.forecast.waits;
                match waits.iter_mut().find(|wait| wait.target == target && wait.bound == *bound) {
                    Some(known) => known.time += time,
                    None => waits.push(PlannedWait { target, bound: bound.clone(), time }),
                }
            }
        }
        self.clock = until;
        while self.freed.peek().is_some_and(|Reverse(next)| next.at <= until) {
            if let Some(Reverse(freed)) = self.freed.pop() {
                self.ledgers[freed.ledger].forget_in_flight();
            }
        }
        while self.under_way.peek().is_some_and(|Reverse(next)| next.ends <= until) {
            self.end_one();
        }
        true
    }

    /// Whoever is at the head of a line goes, goes elsewhere, or is seen to wait.
    fn serve(&mut self) {
        for target in 0..self.targets.len() {
            self.lines[target].head = None;
            while let Some(size) = self.lines[target].prompts.front().copied() {
                match self.serve_head(target, size) {
                    Ok(()) => {}
                    Err(None) => {
                        self.lines[target].prompts.pop_front();
                    }
                    Err(head) => {
                        self.lines[target].head = head;
                        break;
                    }
                }
            }
        }
    }

    /// Lets the head of a line go if there is a lane. Otherwise says until when it waits there and for what, or nothing
    /// when it does not wait there any more.
    fn serve_head(&mut self, place: usize, size: u64) -> Result<(), Option<(Moment, Bound)>> {
        if self.under_way.len() >= self.manner.most_in_flight.max(1) {
            let ends = self.under_way.peek().map_or(self.clock, |Reverse(next)| next.ends);
            return Err(Some((ends, Bound::Concurrency(self.manner.most_in_flight))));
        }
        let target = &self.targets[place];
        let need = Need { input_tokens: size, counted_tokens: Some(size), ..target.need };
        let mut ledgers = Ledgers::new(&mut self.ledgers, &target.picked);
        let now = self.clock;
        let choice = match target.own {
            Some(own) => reserve_for(own, &mut ledgers, &target.lanes, &[], &need, now),
            None => Ok(reserve(&mut ledgers, &target.lanes, &[], &need, now)),
        };
        let choice = match choice {
            Ok(choice) => choice,
            // It would stand in the way at every target.
            Err(own) => {
                let refusal = Refusal {
                    lane: 0,
                    at: own.until(),
                    obstacle: own.obstacle.clone(),
                    may_return: false,
                };
                let Some(until) = own.worth_waiting(self.manner.patience, now) else {
                    self.gives_up(place, Some(refusal));
                    return Err(None);
                };
                return Err(Some((until, Bound::of(refusal.obstacle))));
            }
        };
        let refusal = match choice {
            Choice::Reserved(reservation) => {
                self.lines[place].prompts.pop_front();
                self.leaves(place, size, reservation);
                return Ok(());
            }
            Choice::Never(refusal) => {
                self.moves_on(place, size, refusal);
                return Err(None);
            }
            Choice::NotNow(refusal) => refusal,
        };
        let too_far = refusal.at.is_some_and(|at| {
            let wait = at.since(self.clock);
            let each = self.manner.stands_for.each_waits(wait, &refusal.obstacle);
            at == Moment::FAR_FUTURE || !self.manner.patience.covers(self.clock + each, self.clock)
        });
        // What is under way may give back enough before that, and there is nowhere else to go.
        let hopes =
            refusal.may_return && !self.under_way.is_empty() && place + 1 == self.lines.len();
        if too_far && !hopes {
            self.moves_on(place, size, Some(refusal));
            return Err(None);
        }
        let until = match (refusal.at, self.under_way.peek()) {
            (Some(at), _) => at,
            (None, Some(Reverse(next))) => next.ends,
            (None, None) => self.clock + LOOK_AGAIN,
        };
        Err(Some((until, Bound::of(refusal.obstacle))))
    }

    /// A call joins the line of the next target, or has nowhere to go.
    fn moves_on(&mut self, from: usize, size: u64, why: Option<Refusal>) {
        match self.lines.get_mut(from + 1) {
            Some(line) => {
                line.prompts.push_back(size);
                self.note_why(from, why);
            }
            None => self.gives_up(from, why),
        }
    }

    fn gives_up(&mut self, at: usize, why: Option<Refusal>) {
        self.note_why(at, why);
        self.waiting -= 1;
        self.forecast.refused += 1;
    }

    fn note_why(&mut self, at: usize, why: Option<Refusal>) {
        if self.forecast.refused == 0 && self.forecast.why_refused.is_none() {
            self.forecast.why_refused = why.map(|why| (at, why));
        }
    }

    fn leaves(&mut self, target: usize, size: u64, reservation: Reservation) {
        let planned = &self.targets[target];
        let share = &mut self.forecast.shares[target][reservation.lane];
        share.requests += 1;
        share.input_tokens += size;
        share.output_tokens += planned.output_tokens;
        self.waiting -= 1;
        self.sent += 1;
        self.held.insert(self.sent, Held { reservation, input_tokens: size });
        let ends = self.clock + planned.latency;
        self.under_way.push(Reverse(UnderWay { ends, number: self.sent, target }));
    }

    /// The call that ends first ends.
    fn end_one(&mut self) {
        let Some(Reverse(over)) = self.under_way.pop() else { return };
        self.forecast.finish = self.forecast.finish.max(over.ends);
        self.forecast.answered += 1;
        let Some(Held { reservation, input_tokens }) = self.held.remove(&over.number) else {
            return;
        };
        let target = &self.targets[over.target];
        let output_tokens = if target.need.counts_output { target.output_tokens } else { 0 };
        let spend =
            target.need.price.map_or(0, |price| price.spend(input_tokens, target.output_tokens));
        let used = Amounts { requests: 1, input_tokens, output_tokens, spend };
        let mut ledgers = Ledgers::new(&mut self.ledgers, &target.picked);
        let lane = &target.lanes[reservation.lane];
        let ending = Ending::Answered(Some(used));
        settle(&mut ledgers, lane, &reservation, ending, over.ends);
        if let Some(own) = target.own {
            settle_own(ledgers.get_mut(own), &reservation, ending, over.ends);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::kernel::limits::{Resource, Source};

    const NOW: Moment = Moment::from_seconds(1_800_000_000);
    const FOR_EVER: PlannedManner = PlannedManner {
        patience: Patience::FOR_EVER,
        in_flight: 0,
        most_in_flight: 1_000,
        most_waiting: 40,
        stands_for: ONE_BY_ONE,
    };

    fn limit(resource: Resource, period: Period, amount: u64, refill: Refill) -> Limit {
        let amount = NonZeroU64::new(amount).unwrap();
        Limit { resource, period, amount, refill, source: Source::Configured }
    }

    fn ledgers(limits: &[Limit], keys: usize) -> Vec<Ledger> {
        let mut all = vec![Ledger::default(); 2 * keys];
        for ledger in all.iter_mut().skip(1).step_by(2) {
            ledger.conform(&limits.to_vec().into(), NOW);
        }
        all
    }

    fn target(keys: usize) -> PlannedTarget {
        PlannedTarget {
            picked: (0..2 * keys).collect(),
            own: None,
            lanes: (0..keys)
                .map(|key| Lane::new(key, 2 * key, 2 * key + 1, 2 * key + 1, None))
                .collect(),
            need: Need::of(0),
            output_tokens: 50,
            latency: Duration::from_secs(1),
        }
    }

    fn per_minute(amount: u64) -> Limit {
        limit(Resource::Requests, Period::Minute, amount, Refill::Rolling)
    }

    #[test]
    fn rolling_minutes_are_waited_out() {
        let made = forecast(ledgers(&[per_minute(10)], 3), &[target(3)], [5; 90], FOR_EVER, NOW);
        assert_eq!((made.answered, made.refused), (90, 0));
        let took = made.finish.since(NOW).as_secs_f64();
        assert!((121.0..122.0).contains(&took), "two more minutes and an answer: {took}");
        assert_eq!(made.waits[0].bound, Bound::Limit(per_minute(10)));
        assert!(made.shares[0].iter().all(|share| share.requests == 30));
    }

    #[test]
    fn twice_the_limit_that_binds_is_half_the_wait() {
        let mut doubled = ledgers(&[per_minute(10)], 1);
        doubled.iter_mut().for_each(|ledger| ledger.scale(&per_minute(10), 2));
        let took = |all| {
            forecast(all, &[target(1)], [5; 61], FOR_EVER, NOW).finish.since(NOW).as_secs() / 60
        };
        assert_eq!((took(ledgers(&[per_minute(10)], 1)), took(doubled)), (6, 3));
    }

    #[test]
    fn money_is_reserved_and_what_answers_do_not_cost_comes_back() {
        // A call may cost 100 and costs 50; of a thousand, ten may be under way.
        let day = limit(Resource::Spend, Period::Day, 1_000, Refill::Rolling);
        let price = Some(crate::kernel::Price { call: 0, input: 0, output: 1_000_000 });
        let need =
            Need { price, max_output_tokens: Some(100), reserves_max_tokens: true, ..Need::of(0) };
        let priced = PlannedTarget { need, ..target(1) };
        let patient =
            PlannedManner { patience: Patience::AtHead(Duration::from_secs(300)), ..FOR_EVER };
        let made = forecast(ledgers(&[day], 1), &[priced], [5; 30], patient, NOW);
        assert_eq!((made.answered, made.refused), (19, 11));
        assert!(made.finish.since(NOW) < Duration::from_secs(10));
    }

    #[test]
    fn what_is_too_far_away_goes_to_the_next_target_or_nowhere() {
        let day = limit(Resource::Requests, Period::Day, 20, Refill::Rolling);
        let mut all = ledgers(std::slice::from_ref(&day), 1);
        all.extend(ledgers(&[], 1));
        let second = PlannedTarget { picked: vec![2, 3], ..target(1) };
        let patient =
            PlannedManner { patience: Patience::AtHead(Duration::from_secs(300)), ..FOR_EVER };
        let both = [target(1), second];
        let made = forecast(all.clone(), &both, [5; 50], patient, NOW);
        let requests: Vec<u64> = made.shares.iter().map(|lanes| lanes[0].requests).collect();
        assert_eq!((requests, made.refused), (vec![20, 30], 0));

        let made = forecast(all, &both[..1], [5; 50], patient, NOW);
        assert_eq!((made.answered, made.refused), (20, 30));
        let (_, why) = made.why_refused.unwrap();
        assert!(matches!(why.obstacle, Obstacle::Limit { limit, .. } if limit == day));
    }

    #[test]
    fn what_never_fits_does_not_hold_up_the_rest() {
        let bucket = Refill::Bucket { burst: NonZeroU64::new(100).unwrap() };
        let tokens = limit(Resource::Tokens, Period::Minute, 100, bucket);
        let made = forecast(ledgers(&[tokens], 1), &[target(1)], [10, 5_000, 10], FOR_EVER, NOW);
        assert_eq!((made.answered, made.refused), (2, 1));
        assert!(matches!(made.why_refused.unwrap().1.obstacle, Obstacle::TooLarge { .. }));
    }

    #[test]
    fn calls_in_flight_bind_when_nothing_else_does() {
        let most = limit(Resource::Concurrency, Period::Second, 4, Refill::Release);
        let made = forecast(ledgers(&[most], 1), &[target(1)], [5; 40], FOR_EVER, NOW);
        assert_eq!(made.finish.since(NOW), Duration::from_secs(10));
        assert_eq!(made.waits[0].bound, Bound::InFlight(4));
    }

    #[test]
    fn a_deadline_is_how_long_they_wait() {
        let day = limit(Resource::Requests, Period::Day, 20, Refill::Rolling);
        let until = |hours: u64| {
            let end = NOW + Duration::from_secs(3_600 * hours);
            PlannedManner { patience: Patience::Until(end), ..FOR_EVER }
        };
        let go = |hours| {
            forecast(
                ledgers(std::slice::from_ref(&day), 1),
                &[target(1)],
                [5; 50],
                until(hours),
                NOW,
            )
        };
        assert_eq!((go(23).answered, go(23).refused), (20, 30));
        assert_eq!((go(25).answered, go(25).refused), (40, 10));
        assert_eq!(go(49).answered, 50);
    }

    #[test]
    fn calls_that_are_under_way_leave_room_when_they_end() {
        let most = limit(Resource::Concurrency, Period::Second, 4, Refill::Release);
        let mut all = ledgers(&[most], 1);
        for _ in 0..4 {
            let one = Amounts { requests: 1, ..Amounts::default() };
            all.iter_mut().for_each(|ledger| ledger.take(&one, NOW));
        }
        let made = forecast(all, &[target(1)], [5; 8], FOR_EVER, NOW);
        let took = made.finish.since(NOW).as_secs_f64();
        assert!((2.5..=3.0).contains(&took), "{took}");
        let ours = PlannedManner { in_flight: 4, ..FOR_EVER };
        let made = forecast(ledgers(&[], 1), &[target(1)], [], ours, NOW);
        assert_eq!((made.answered, made.finish.since(NOW)), (4, Duration::from_secs(1)));
    }

    #[test]
    fn limits_of_the_caller_hold_as_well() {
        let mut all = ledgers(&[per_minute(6_000)], 1);
        all.push(Ledger::default());
        all[2].conform(&vec![per_minute(10)].into(), NOW);
        let of_user = PlannedTarget { picked: vec![0, 1, 2], own: Some(2), ..target(1) };
        let made = forecast(all.clone(), std::slice::from_ref(&of_user), [5; 30], FOR_EVER, NOW);
        let took = made.finish.since(NOW).as_secs_f64();
        assert!((121.0..122.0).contains(&took), "{took}");
        assert_eq!(made.waits[0].bound, Bound::Limit(per_minute(10)));

        all[2] = Ledger::default();
        let day = limit(Resource::Requests, Period::Day, 10, Refill::Rolling);
        all[2].conform(&vec![day].into(), NOW);
        let made = forecast(all, &[of_user, target(1)], [5; 30], FOR_EVER, NOW);
        assert_eq!((made.answered, made.refused), (10, 20), "a day of one's own is told at once");
    }
}
