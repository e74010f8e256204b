//! Which lane takes a call, and if none can now, when could one and what stands in the way?

use super::reservation::Reservation;
use crate::kernel::health::key_health::DEGRADED_BELOW;
use crate::kernel::ledger::output_sizes::USUAL_OUTPUT;
use crate::kernel::ledger::{Ledger, Obstacle};
use crate::kernel::limits::{Amounts, Resource};
use crate::kernel::meters::charge::AnswerCharged;
use crate::kernel::moment::Moment;
use crate::kernel::price::Price;

/// Some ledgers of a store, addressed by their place in the list of names they were asked for by.
pub struct Ledgers<'a> {
    all: &'a mut [Ledger],
    picked: &'a [usize],
}

impl<'a> Ledgers<'a> {
    /// A view of `all` in which place `i` is `all[picked[i]]`.
    pub fn new(all: &'a mut [Ledger], picked: &'a [usize]) -> Self {
        Ledgers { all, picked }
    }

    /// The ledger at `place`.
    pub fn get(&self, place: usize) -> &Ledger {
        &self.all[self.picked[place]]
    }

    /// The ledger at `place`, to change it.
    pub fn get_mut(&mut self, place: usize) -> &mut Ledger {
        &mut self.all[self.picked[place]]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.picked.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.picked.is_empty()
    }
}

/// One way a call can go: a key at a model, and the places of the ledgers that must allow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The key's place in the provider's list of keys.
    pub key: usize,
    /// The ledger of the key's quota group for this model.
    pub group_model: usize,
    /// The ledger of the key's quota group for all models.
    pub group: usize,
    /// The ledger of the key alone; the same as `group` while the key is a group of its own.
    pub key_alone: usize,
    /// The ledger of the group's free models, where they share a quota (OpenRouter).
    pub free_models: Option<usize>,
    /// All of them, each once.
    pub ledgers: Vec<usize>,
    /// Nobody stated a limit here and the server is not one's own: what the provider allows must be found out.
    pub feels_its_way: bool,
}

impl Lane {
    /// A lane of these ledgers.
    pub fn new(
        key: usize,
        group_model: usize,
        group: usize,
        key_alone: usize,
        free_models: Option<usize>,
    ) -> Self {
        let mut ledgers = vec![group_model];
        // A call that names no model counts in its group and nowhere else.
        ledgers.extend((group != group_model).then_some(group));
        ledgers.extend((key_alone != group).then_some(key_alone));
        ledgers.extend(free_models);
        Lane { key, group_model, group, key_alone, free_models, ledgers, feels_its_way: false }
    }

    /// The same lane where nobody stated a limit.
    #[must_use]
    pub fn feeling_its_way(self) -> Self {
        Lane { feels_its_way: true, ..self }
    }
}

/// What a call needs, before it is known how long its answer will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The prompt, estimated; what answers of the model taught corrects it.
    pub input_tokens: u64,
    /// The prompt, counted with the model's own tokenizer; taken instead of the estimate, as it is unless bills
    /// contradict it by far.
    pub counted_tokens: Option<u64>,
    /// The longest answer the caller allows, if it said so.
    pub max_output_tokens: Option<u64>,
    /// The provider charges `max_output_tokens` when it admits the call (OpenAI, not Anthropic or Gemini).
    pub reserves_max_tokens: bool,
    /// The provider counts the answer against its token limits at all (Gemini does not).
    pub counts_output: bool,
    /// What it costs; `None` where no money is limited, or nobody knows the price.
    pub price: Option<Price>,
    /// An attempt of the same call was sent before: its user has paid with a request already.
    pub is_again: bool,
    /// Go ahead of the local limits (`skip_rate_limit=`): they are counted and not waited for. Blocks still hold.
    pub ahead_of_limits: bool,
    /// How many thousandths of every limit are left to calls that matter more (`pause_threshold`).
    pub kept: u16,
    /// Only this key may take it; its place in the provider's list of keys.
    pub only_key: Option<usize>,
    /// Everything is closed: a lane that is closed by our guess alone may be tried, by one call a minute.
    pub last_resort: bool,
}

/// What of a limit such a guess takes at most: an eighth.
const UNLEARNED_SHARE: u64 = 8;

impl Demand {
    /// A call whose size is known: it takes `tokens` and asks for no answer.
    ///
    /// ```
    /// use quotaflow::kernel::Demand;
    /// assert_eq!(Demand::of(1_000).input_tokens, 1_000);
    /// ```
    pub const fn of(tokens: u64) -> Demand {
        Demand {
            input_tokens: tokens,
            counted_tokens: Some(tokens),
            max_output_tokens: Some(0),
            reserves_max_tokens: false,
            counts_output: false,
            price: None,
            is_again: false,
            ahead_of_limits: false,
            kept: 0,
            only_key: None,
            last_resort: false,
        }
    }

    /// How large the call is before a lane is known: what its user pays with in the waiting line.
    pub fn size(&self) -> Amounts {
        let output_tokens = match self.max_output_tokens {
            _ if !self.counts_output => 0,
            Some(max) if self.reserves_max_tokens => max,
            Some(max) => max.min(USUAL_OUTPUT),
            None => USUAL_OUTPUT,
        };
        Amounts { requests: 1, input_tokens: self.input_tokens, output_tokens, spend: 0 }
    }

    /// What to reserve on a lane, judged by its answers so far, never more than its limits allow for a part that is only
    /// a guess; and whether it is a guess that a small limit cut short.
    fn amounts(&self, lane: &Lane, ledgers: &Ledgers<'_>) -> (Amounts, bool) {
        let input_tokens = self
            .counted_tokens
            .map(|counted| ledgers.get(lane.group_model).counts().of_count(counted))
            .unwrap_or_else(|| ledgers.get(lane.group_model).inputs().bound(self.input_tokens));
        let mut amounts = Amounts { requests: 1, input_tokens, output_tokens: 0, spend: 0 };
        if !self.counts_output && self.price.is_none() {
            return (amounts, false);
        }
        let sizes = ledgers.get(lane.group_model).outputs();
        let learned = sizes.p95().or_else(|| sizes.longest());
        let mut cut_short = false;
        let mut output = match self.max_output_tokens {
            Some(max) if self.reserves_max_tokens => max,
            Some(max) => learned.unwrap_or(USUAL_OUTPUT).min(max),
            None => learned.unwrap_or(USUAL_OUTPUT),
        };
        let most = |resource| {
            lane.ledgers.iter().filter_map(|place| ledgers.get(*place).most(resource)).min()
        };
        if let Some(price) = self.price {
            let spend = price.spend(input_tokens, output);
            amounts.spend = self.cut_spend(spend, input_tokens, most(Resource::Spend));
        }
        if !self.counts_output {
            return (amounts, false);
        }
        if self.answer_charged() == AnswerCharged::AtOnce {
            return (Amounts { output_tokens: output, ..amounts }, false);
        }
        let limits = [(Resource::Tokens, input_tokens), (Resource::OutputTokens, 0)];
        for (resource, taken) in limits {
            let Some(most) = most(resource) else { continue };
            output = output.min(most.saturating_sub(taken));
            if learned.is_none() {
                // A guess must not make a call wait until a small limit is whole again.
                cut_short |= output > most / UNLEARNED_SHARE;
                output = output.min(most / UNLEARNED_SHARE);
            }
        }
        amounts.output_tokens = output;
        (amounts, cut_short)
    }

    /// What of `spend` is reserved where at most `most` can ever be: what is only a guess, the length of an answer that
    /// nothing bounds, makes no call too expensive.
    fn cut_spend(&self, spend: u64, input_tokens: u64, most: Option<u64>) -> u64 {
        let (Some(price), Some(most), None) = (self.price, most, self.max_output_tokens) else {
            return spend;
        };
        spend.min(most.max(price.spend(input_tokens, 0)))
    }

    /// When the provider charges the answer.
    pub(in crate::kernel) fn answer_charged(&self) -> AnswerCharged {
        match self.max_output_tokens {
            Some(_) if self.reserves_max_tokens => AnswerCharged::AtOnce,
            _ => AnswerCharged::WhenMade,
        }
    }

    /// What the call takes from the ledger of its user's own limits, if it takes `amounts` from its lane.
    pub(in crate::kernel) fn of_own(&self, amounts: &Amounts, own: &Ledger) -> Amounts {
        let spend = self.cut_spend(amounts.spend, amounts.input_tokens, own.most(Resource::Spend));
        Amounts { requests: u64::from(!self.is_again), spend, ..*amounts }
    }
}

/// What the lane decided upon, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This lane; its amounts have been taken from all its meters.
    Reserved(Reservation),
    /// No lane now.
    NotNow(Refusal),
    /// No lane ever: the request is larger than every lane's limits, or there is no lane left to try.
    Never(Option<Refusal>),
}

/// A lane that said no, and why: the one that will say yes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The place of the lane.
    pub lane: usize,
    /// When trying makes sense; `None`: when a call in flight ends.
    pub at: Option<Moment>,
    /// The first instant at which a lane opens whatever calls in flight do; on this lane or another one.
    pub opens: Option<Moment>,
    /// What stands in the way.
    pub obstacle: Obstacle,
    /// Whether calls in flight may give back enough before that; on this lane or another one.
    pub may_return: bool,
}

/// Chooses among `lanes` as [`choose`] does and takes `demand` from the chosen one.
pub fn reserve(
    ledgers: &mut Ledgers<'_>,
    lanes: &[Lane],
    excluded: &[usize],
    demand: &Demand,
    now: Moment,
) -> Choice {
    let choice = choose(ledgers, lanes, excluded, demand, now);
    if let Choice::Reserved(reservation) = &choice {
        take_lane(ledgers, lanes, reservation, demand, now);
    }
    choice
}

/// Takes what was chosen.
pub(in crate::kernel) fn take_lane(
    ledgers: &mut Ledgers<'_>,
    lanes: &[Lane],
    reservation: &Reservation,
    demand: &Demand,
    now: Moment,
) {
    take(ledgers, &lanes[reservation.lane], reservation);
    if demand.last_resort {
        for place in &lanes[reservation.lane].ledgers {
            ledgers.get_mut(*place).probe_early(now);
        }
    }
}

/// Takes what a call took that nobody could hold up: it was sent already. Its lane is the one that would be chosen, or
/// would be free first; the first there is when none would ever be.
pub fn reserve_anyway(
    ledgers: &mut Ledgers<'_>,
    lanes: &[Lane],
    demand: &Demand,
    now: Moment,
) -> Option<Reservation> {
    let may = |lane: &Lane| demand.only_key.is_none_or(|key| key == lane.key);
    let lane = match choose(ledgers, lanes, &[], demand, now) {
        Choice::Reserved(reservation) => reservation.lane,
        Choice::NotNow(refusal) | Choice::Never(Some(refusal)) => refusal.lane,
        Choice::Never(None) => lanes.iter().position(may)?,
    };
    let (amounts, _) = demand.amounts(&lanes[lane], ledgers);
    let reservation = Reservation::new(lane, &lanes[lane], amounts, demand, ledgers, now);
    take(ledgers, &lanes[lane], &reservation);
    Some(reservation)
}

fn take(ledgers: &mut Ledgers<'_>, lane: &Lane, reservation: &Reservation) {
    if lane.feels_its_way {
        ledgers.get_mut(lane.group_model).watch(reservation.at);
    }
    for place in &lane.ledgers {
        ledgers.get_mut(*place).take(&reservation.amounts, reservation.answer, reservation.at);
    }
}

/// The lane among `lanes` that would take `demand` now, those `excluded` left out: one whose key did well lately before one
/// that did not, then the least used, then the one with the fewest calls in flight, then the one that rested longest; if
/// there is none, the one that will first. Takes nothing.
pub fn choose(
    ledgers: &Ledgers<'_>,
    lanes: &[Lane],
    excluded: &[usize],
    demand: &Demand,
    now: Moment,
) -> Choice {
    let mut best: Option<(Wear, Reservation)> = None;
    let mut soonest: Option<Refusal> = None;
    let mut too_large: Option<Refusal> = None;
    let mut may_return = false;
    let mut opens = None;
    for (place, lane) in lanes.iter().enumerate() {
        if excluded.contains(&place) || demand.only_key.is_some_and(|key| key != lane.key) {
            continue;
        }
        let (amounts, cut_short) = demand.amounts(lane, ledgers);
        let found = obstacle(ledgers, lane, &amounts, demand, now)
            .or_else(|| ledgers.get(lane.group_model).first_steps(lane.feels_its_way, cut_short))
            .filter(|found| !demand.ahead_of_limits || matches!(found, Obstacle::Block(_)));
        match found {
            None => {
                let wear = wear(ledgers, lane, now);
                if best.as_ref().is_none_or(|(known, _)| wear < *known) {
                    best =
                        Some((wear, Reservation::new(place, lane, amounts, demand, ledgers, now)));
                }
            }
            Some(obstacle @ Obstacle::TooLarge { .. }) => {
                let may_return = false;
                let (at, opens) = (None, None);
                too_large = Some(Refusal { lane: place, at, opens, obstacle, may_return });
            }
            Some(obstacle) => {
                may_return |= matches!(obstacle, Obstacle::Limit { .. })
                    && lane.ledgers.iter().all(|place| {
                        let ledger = ledgers.get(*place);
                        ledger.may_return(&amounts, demand.kept, demand.last_resort, now)
                    });
                let at = obstacle.until();
                opens = opens.into_iter().chain(at).min();
                let refusal = Refusal { lane: place, at, opens, obstacle, may_return: false };
                if soonest.as_ref().is_none_or(|known| sooner(refusal.at, known.at)) {
                    soonest = Some(refusal);
                }
            }
        }
    }
    match (best, soonest) {
        (Some((_, reservation)), _) => Choice::Reserved(reservation),
        (None, Some(refusal)) => Choice::NotNow(Refusal { may_return, opens, ..refusal }),
        (None, None) => Choice::Never(too_large),
    }
}

/// A call in flight may end at any moment, so that counts as sooner than any instant.
fn sooner(at: Option<Moment>, than: Option<Moment>) -> bool {
    match (at, than) {
        (None, Some(_)) => true,
        (Some(at), Some(than)) => at < than,
        (_, None) => false,
    }
}

fn obstacle(
    ledgers: &Ledgers<'_>,
    lane: &Lane,
    amounts: &Amounts,
    demand: &Demand,
    now: Moment,
) -> Option<Obstacle> {
    let mut worst: Option<Obstacle> = None;
    for place in &lane.ledgers {
        match ledgers.get(*place).obstacle(amounts, demand.kept, demand.last_resort, now) {
            Some(found @ Obstacle::TooLarge { .. }) => return Some(found),
            Some(found) if worst.as_ref().is_none_or(|known| found.until() > known.until()) => {
                worst = Some(found);
            }
            _ => {}
        }
    }
    worst
}

/// What speaks against a lane that is free, the first thing most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Wear {
    is_degraded: bool,
    fullness: u64,
    in_flight: u64,
    last_sent: Moment,
}

fn wear(ledgers: &Ledgers<'_>, lane: &Lane, now: Moment) -> Wear {
    let health = ledgers.get(lane.key_alone).health().percent(now);
    let mut wear = Wear {
        is_degraded: health < DEGRADED_BELOW,
        fullness: 0,
        in_flight: 0,
        last_sent: Moment::EPOCH,
    };
    for place in &lane.ledgers {
        let ledger = ledgers.get(*place);
        wear.fullness = wear.fullness.max(ledger.fullness(now));
        wear.in_flight = wear.in_flight.max(ledger.in_flight());
        wear.last_sent = wear.last_sent.max(ledger.totals().last_sent);
    }
    wear
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::limits::{Limit, Period, Refill, Source};
    use crate::kernel::reserve::reservation::{Ending, settle_reservation};
    use std::num::NonZeroU64;

    const NOW: Moment = Moment::from_seconds(1_800_000_000);

    #[test]
    fn a_small_token_limit_is_not_taken_whole_by_a_guess() {
        let amount = NonZeroU64::new(200).unwrap();
        let limit = Limit {
            resource: Resource::Tokens,
            period: Period::Minute,
            amount,
            refill: Refill::Bucket { burst: amount },
            source: Source::Configured,
        };
        let lane = Lane::new(0, 0, 1, 1, None);
        let limits = [Vec::new().into(), vec![limit].into()];
        let mut all = [Ledger::default(), Ledger::default()];
        let mut ledgers = Ledgers::new(&mut all, &[0, 1]);
        (0..2).for_each(|place| ledgers.get_mut(place).conform(&limits[place], NOW));
        let demand = Demand {
            input_tokens: 5,
            max_output_tokens: None,
            reserves_max_tokens: true,
            counts_output: true,
            ..Demand::of(5)
        };
        let lanes = std::slice::from_ref(&lane);
        let Choice::Reserved(first) = reserve(&mut ledgers, lanes, &[], &demand, NOW) else {
            panic!("nothing was used yet")
        };
        // How long answers are only one call finds out.
        let second = reserve(&mut ledgers, lanes, &[], &demand, NOW);
        assert!(matches!(second, Choice::NotNow(_)), "{second:?}");
        settle_reservation(&mut ledgers, &lane, &first, Ending::Answered(Some(first.amounts)), NOW);
        for _ in 0..4 {
            let choice = reserve(&mut ledgers, lanes, &[], &demand, NOW);
            assert!(matches!(choice, Choice::Reserved(_)), "{choice:?}");
        }
        assert!(matches!(reserve(&mut ledgers, lanes, &[], &demand, NOW), Choice::NotNow(_)));
    }
}
