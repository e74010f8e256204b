//! Settling an attempt: release, record usage, apply headers, close or open.
//!
//! What headers say is left only ever tightens a meter. It is compared before the reservation of the call is settled,
//! and counts from when that call left: what left later comes on top, and what answers returned since is taken off. So
//! many calls in flight neither hide what others use of a key nor count anything twice.

use super::lane::{Lane, Ledgers};
use super::reservation::{Ending, Reservation, settle_reservation};
use crate::kernel::amounts::Usage;
use crate::kernel::failure::{Failure, FailureClass, Origin, Scope};
use crate::kernel::ledger::Ledger;
use crate::kernel::ledger::block::Block;
use crate::kernel::moment::Moment;
use crate::kernel::rate_hint::{RateHint, SinceTold};

/// How an attempt ended and what the provider said with it.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// What becomes of the reservation.
    pub ending: Ending,
    /// What the provider billed for the whole answer, whether it counts or not, if it said so of one that we estimated.
    pub bill: Option<Usage>,
    /// What the headers said about limits.
    pub rates: &'a [RateHint],
    /// The failure, if it was one.
    pub failure: Option<&'a Failure>,
    /// Randomness in `0.0..1.0`, to spread the ends of blocks.
    pub entropy: f64,
}

/// What booking an attempt changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// What the failure closed.
    pub closed: Option<Block>,
    /// Something that was closed was opened by the answer.
    pub recovered: bool,
}

/// Takes down what the head of an answer says about limits; the rest is on its way, and nothing is settled yet.
pub fn observe_headers(
    ledgers: &mut Ledgers<'_>,
    lane: &Lane,
    held: &Reservation,
    rates: &[RateHint],
    now: Moment,
) {
    apply_remaining(ledgers, lane, held, rates, 0, now);
    learn_limits(ledgers, lane, lane.group_model, held, rates, now);
}

fn apply_remaining(
    ledgers: &mut Ledgers<'_>,
    lane: &Lane,
    held: &Reservation,
    rates: &[RateHint],
    over_prompt: i64,
    now: Moment,
) {
    for hint in rates {
        // Learned once more beside it, a limit that the user stated would get the burst that we assume.
        let stated = ledgers.get(lane.group).is_stated(hint);
        let place = if stated { lane.group } else { lane.group_model };
        let answers_returned = held.answers_returned(lane, place, ledgers.get(place));
        let since = SinceTold { over_prompt, answers_returned };
        // The provider wrote it while the whole reservation was taken, so it is compared before that is settled.
        ledgers.get_mut(place).apply_remaining(hint, since, held.at, now);
    }
}

fn learn_limits(
    ledgers: &mut Ledgers<'_>,
    lane: &Lane,
    about: usize,
    held: &Reservation,
    rates: &[RateHint],
    now: Moment,
) {
    for hint in rates {
        if !ledgers.get(lane.group).is_stated(hint) {
            let answers_returned = held.answers_returned(lane, about, ledgers.get(about));
            let since = SinceTold { answers_returned, ..SinceTold::default() };
            ledgers.get_mut(about).learn_limit(hint, since, held.at, now);
        }
    }
}

/// Settles the reservation, learns, and closes what the failure speaks of.
pub fn settle(
    ledgers: &mut Ledgers<'_>,
    lane: &Lane,
    held: &Reservation,
    outcome: Outcome<'_>,
    now: Moment,
) -> Change {
    let rates = outcome.rates;
    let over = match outcome.ending {
        Ending::Answered(Some(used)) => {
            let whole = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
            whole(held.amounts.input_tokens) - whole(used.input_tokens)
        }
        _ => 0,
    };
    apply_remaining(ledgers, lane, held, rates, over, now);
    let recovered = settle_reservation(ledgers, lane, held, outcome.ending, now);
    if let Some(bill) = outcome.bill {
        let ledger = ledgers.get_mut(lane.group_model);
        ledger.record_input_size(held.estimated, bill.input_tokens);
        if let Some(counted) = held.counted {
            ledger.record_token_count(counted, bill.input_tokens);
        }
        // Where answers do not count, settling does not see how long this one was.
        let is_seen =
            matches!(outcome.ending, Ending::Answered(Some(used)) if used.output_tokens > 0);
        if !is_seen && bill.output_tokens > 0 {
            ledger.record_output_size(bill.output_tokens, held.longest_answer);
        }
    }
    let scope = outcome.failure.map(|failure| failure.scope);
    let about = match scope {
        Some(Scope::GroupFreeModels) => lane.free_models.unwrap_or(lane.group_model),
        _ => lane.group_model,
    };
    learn_limits(ledgers, lane, about, held, rates, now);
    if let Some(failure) = outcome.failure
        && failure.class == FailureClass::RateLimited
        && matches!(failure.scope, Scope::GroupModel | Scope::GroupFreeModels)
        && !failure.never_here
    {
        let nothing_left = |hint: &RateHint| hint.remaining == Some(0);
        ledgers.get_mut(about).was_refused(held.at, rates.iter().any(nothing_left), now);
    }
    let is_too_large = outcome.failure.is_some_and(|failure| failure.never_here);
    let is_over = match outcome.ending {
        Ending::NeverSent | Ending::Unknown | Ending::Failed => false,
        // A stream that was closed says nothing of the key.
        Ending::CutOff(_) => outcome.failure.is_some(),
        Ending::Answered(_) | Ending::Refused => true,
    };
    if is_over && !is_too_large {
        ledgers.get_mut(lane.key_alone).record_attempt(outcome.failure, now);
    }
    let closed = outcome.failure.and_then(|failure| {
        let place = place_of(failure.scope, lane)?;
        close(ledgers.get_mut(place), failure, outcome.entropy, now)
    });
    Change { closed, recovered }
}

/// The ledger that a refusal of this scope closes.
fn place_of(scope: Scope, lane: &Lane) -> Option<usize> {
    Some(match scope {
        Scope::Call => return None,
        Scope::Key => lane.key_alone,
        Scope::Group => lane.group,
        Scope::GroupFreeModels => lane.free_models.unwrap_or(lane.group_model),
        Scope::GroupModel | Scope::Model => lane.group_model,
    })
}

/// Closes a ledger for as long as `failure` says. Returns how it was closed; `None` when it was not. `entropy` in
/// `0.0..1.0` spreads the ends of blocks.
pub fn close(ledger: &mut Ledger, failure: &Failure, entropy: f64, now: Moment) -> Option<Block> {
    // A request too large for a group says nothing about smaller ones.
    if failure.never_here {
        return None;
    }
    let strikes = ledger.blocks().strikes(failure.class);
    if failure.needs_confirmation && strikes == 0 {
        let noted = Block {
            class: failure.class,
            until: now,
            origin: Origin::Guess,
            since: now,
            strikes: 1,
            probe_until: None,
        };
        ledger.block(noted, now);
        return None;
    }
    let block = Block::after(failure, strikes, now, entropy)?;
    ledger.block(block.clone(), now);
    Some(block)
}

impl Ending {
    /// What a failure means for what was reserved: refused before generation, unknown, or never sent.
    ///
    /// A request that failed on the provider's side still counts as a request (OpenAI and Gemini document that);
    /// its tokens do not, unless it may have been worked on. What has a status of 500 and above is not billed.
    pub fn of(failure: &Failure) -> Ending {
        match failure.class {
            _ if failure.never_sent => Ending::NeverSent,
            FailureClass::Timeout | FailureClass::Network => Ending::Unknown,
            FailureClass::ServerError => Ending::Failed,
            _ => Ending::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::time::Duration;

    use super::*;
    use crate::kernel::amounts::Amounts;
    use crate::kernel::limits::{Limit, Period, Refill, Resource, Source};
    use crate::kernel::{Choice, Demand, Ledger, Obstacle, reserve};

    const NOW: Moment = Moment::from_seconds(1_800_000_000);

    const DEMAND: Demand = Demand::of(1);

    fn requests(amount: u64, burst: u64) -> Limit {
        let number = |number| NonZeroU64::new(number).unwrap();
        Limit {
            resource: Resource::Requests,
            period: Period::Minute,
            amount: number(amount),
            refill: Refill::Bucket { burst: number(burst) },
            source: Source::Configured,
        }
    }

    /// How many calls leave at once, of which the first is answered with these headers, if `configured` holds for the
    /// whole group.
    fn leave_at_once(configured: Limit, told: RateHint) -> usize {
        let lane = Lane::new(0, 0, 1, 1, None);
        let limits = [Vec::new().into(), vec![configured].into()];
        let mut all = [Ledger::default(), Ledger::default()];
        let mut ledgers = Ledgers::new(&mut all, &[0, 1]);
        (0..2).for_each(|place| ledgers.get_mut(place).conform(&limits[place], NOW));
        let mut left = 0;
        while let Choice::Reserved(held) =
            reserve(&mut ledgers, std::slice::from_ref(&lane), &[], &DEMAND, NOW)
        {
            left += 1;
            let ending = Ending::Answered(Some(held.amounts));
            let rates: &[RateHint] = if left == 1 { &[told] } else { &[] };
            settle(
                &mut ledgers,
                &lane,
                &held,
                Outcome { ending, bill: None, rates, failure: None, entropy: 0.0 },
                NOW,
            );
        }
        left
    }

    fn told(amount: u64, remaining: u64) -> RateHint {
        RateHint {
            resource: Resource::Requests,
            period: Period::Minute,
            amount: Some(amount),
            remaining: Some(remaining),
            reset_after: None,
            refills_continuously: true,
            zone: None,
        }
    }

    #[test]
    fn a_header_that_tells_the_configured_limit_leaves_its_burst_alone() {
        assert_eq!(leave_at_once(requests(120, 60), told(120, 119)), 60);
    }

    #[test]
    fn what_a_header_says_is_left_holds_for_the_configured_limit() {
        // Somebody else has used 49 already.
        assert_eq!(leave_at_once(requests(120, 60), told(120, 70)), 11);
    }

    #[test]
    fn a_header_that_tells_of_less_than_is_configured_is_believed() {
        assert_eq!(leave_at_once(requests(120, 60), told(10, 9)), 10);
    }

    /// A group with this limit, in which one call of `demand` left at `NOW` and is answered with these headers after a
    /// while, having used `used` tokens. What stands in the way of `next` then?
    fn obstacle_after_an_answer(
        limit: Limit,
        demand: &Demand,
        used: u64,
        told: RateHint,
        while_: Duration,
        next: &Amounts,
    ) -> Option<Obstacle> {
        let lane = Lane::new(0, 0, 1, 1, None);
        let limits = [Vec::new().into(), vec![limit].into()];
        let mut all = [Ledger::default(), Ledger::default()];
        let mut ledgers = Ledgers::new(&mut all, &[0, 1]);
        (0..2).for_each(|place| ledgers.get_mut(place).conform(&limits[place], NOW));
        let lanes = std::slice::from_ref(&lane);
        let Choice::Reserved(held) = reserve(&mut ledgers, lanes, &[], demand, NOW) else {
            panic!("nothing was used yet")
        };
        let used = Amounts { requests: 1, input_tokens: 1, output_tokens: used - 1, spend: 0 };
        let ending = Ending::Answered(Some(used));
        let outcome = Outcome { ending, bill: None, rates: &[told], failure: None, entropy: 0.0 };
        let now = NOW + while_;
        settle(&mut ledgers, &lane, &held, outcome, now);
        ledgers.get(lane.group).obstacle(next, 0, false, now)
    }

    #[test]
    fn what_refilled_while_an_answer_was_on_its_way_is_there() {
        // When the call came, 20 were missing: the provider's bucket is full again after 20 seconds.
        let next = Amounts { requests: 20, ..Amounts::default() };
        let after = |seconds| {
            let span = Duration::from_secs(seconds);
            obstacle_after_an_answer(requests(60, 20), &DEMAND, 1, told(60, 40), span, &next)
        };
        assert_eq!(after(21), None);
        assert!(after(10).is_some(), "somebody else has used most of it");
    }

    #[test]
    fn how_long_an_answer_was_is_learned_where_it_does_not_count() {
        let lane = Lane::new(0, 0, 1, 1, None);
        let mut all = [Ledger::default(), Ledger::default()];
        let mut ledgers = Ledgers::new(&mut all, &[0, 1]);
        for counts_output in [false, true] {
            let demand = Demand { counts_output, ..DEMAND };
            let lanes = std::slice::from_ref(&lane);
            let Choice::Reserved(held) = reserve(&mut ledgers, lanes, &[], &demand, NOW) else {
                panic!("nothing is limited")
            };
            let usage = Usage { input_tokens: 9, output_tokens: 70, ..Usage::default() };
            let used = crate::kernel::counted(&usage, counts_output, true);
            let (ending, bill) = (Ending::Answered(Some(used)), Some(usage));
            let (rates, failure, entropy) = (&[][..], None, 0.0);
            settle(
                &mut ledgers,
                &lane,
                &held,
                Outcome { ending, bill, rates, failure, entropy },
                NOW,
            );
        }
        let outputs = ledgers.get(lane.group_model).outputs();
        assert_eq!((outputs.seen(), outputs.mean()), (2, Some(70)));
    }

    #[test]
    fn tokens_that_were_only_reserved_come_back_although_the_header_counted_them() {
        let tokens = Limit { resource: Resource::Tokens, ..requests(10_000, 10_000) };
        let demand = Demand {
            max_output_tokens: Some(4_999),
            reserves_max_tokens: true,
            counts_output: true,
            ..DEMAND
        };
        // Headers are written when a call is admitted: with all of `max_tokens` taken.
        let told = RateHint { resource: Resource::Tokens, ..told(10_000, 5_000) };
        let next = Amounts { requests: 1, input_tokens: 9_800, output_tokens: 0, spend: 0 };
        let span = Duration::from_secs(1);
        assert_eq!(obstacle_after_an_answer(tokens, &demand, 101, told, span, &next), None);
    }

    /// The ledgers of a model and its group, which has so many tokens a minute and at once.
    fn of_tokens(amount: u64) -> [Ledger; 2] {
        let mut all = [Ledger::default(), Ledger::default()];
        let tokens = Limit { resource: Resource::Tokens, ..requests(amount, amount) };
        all[1].conform(&vec![tokens].into(), NOW);
        all
    }

    #[test]
    fn a_prompt_that_was_longer_than_thought_is_counted_once_although_the_header_counted_it() {
        let lane = Lane::new(0, 0, 1, 1, None);
        let mut all = of_tokens(10_000);
        let mut ledgers = Ledgers::new(&mut all, &[0, 1]);
        let lanes = std::slice::from_ref(&lane);
        let Choice::Reserved(held) = reserve(&mut ledgers, lanes, &[], &Demand::of(1_000), NOW)
        else {
            panic!("nothing was used yet")
        };
        let used = Amounts { requests: 1, input_tokens: 3_000, output_tokens: 0, spend: 0 };
        let ending = Ending::Answered(Some(used));
        let rates = &[RateHint { resource: Resource::Tokens, ..told(10_000, 7_000) }];
        let outcome = Outcome { ending, bill: None, rates, failure: None, entropy: 0.0 };
        settle(&mut ledgers, &lane, &held, outcome, NOW);
        let spent = ledgers.get(lane.group).meters(NOW)[0].1;
        assert_eq!(spent, 3_000);
    }

    #[test]
    fn what_answers_returned_meanwhile_is_not_counted_again_because_a_header_is_older() {
        let lane = Lane::new(0, 0, 1, 1, None);
        let mut all = of_tokens(10_000);
        let mut ledgers = Ledgers::new(&mut all, &[0, 1]);
        let lanes = std::slice::from_ref(&lane);
        let demand = Demand {
            max_output_tokens: Some(999),
            reserves_max_tokens: true,
            counts_output: true,
            ..DEMAND
        };
        // Each is told what was left when it was admitted, with its whole reservation and those before it.
        let held = (1..=10).map(|nth| match reserve(&mut ledgers, lanes, &[], &demand, NOW) {
            Choice::Reserved(held) => (held, 10_000 - 1_000 * nth),
            other => panic!("{other:?}"),
        });
        let held: Vec<_> = held.collect();
        let now = NOW + Duration::from_secs(1);
        for (held, remaining) in held {
            let used = Amounts { requests: 1, input_tokens: 1, output_tokens: 99, spend: 0 };
            let rates = &[RateHint { resource: Resource::Tokens, ..told(10_000, remaining) }];
            let ending = Ending::Answered(Some(used));
            let outcome = Outcome { ending, bill: None, rates, failure: None, entropy: 0.0 };
            settle(&mut ledgers, &lane, &held, outcome, now);
        }
        let spent = ledgers.get(lane.group).meters(now)[0].1;
        assert!(spent <= 1_000, "{spent}");
    }
}
