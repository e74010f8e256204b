//! The time left of a batch: a forecast of a part that stands for the whole.

use std::time::Duration;

use super::{Bound, PlannedManner, PlannedTarget, StandsFor, forecast};
use crate::kernel::amounts::Amounts;
use crate::kernel::ledger::Ledger;
use crate::kernel::limits::Period;
use crate::kernel::moment::Moment;

/// What is still to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// How many prompts, those of others that go first included.
    pub prompts: u64,
    /// How many tokens each of them has.
    pub tokens: u64,
    /// No more of them are gone through than this; the others are judged by these.
    pub judged_by: u64,
}

/// How long it takes from `now` on until `rest` and what is under way is answered, or has nowhere to go.
///
/// Of many prompts only some are gone through ([`forecast`]). Each of them stands for several: limits are made smaller
/// by as much, as long as that leaves enough of them in a period to tell them apart; beyond that, the time is
/// stretched. Limits over an hour or longer are made smaller by all of it, so that they bind where they would, and time
/// spent on waiting for them is not stretched.
///
/// ```
/// use std::time::Duration;
/// use quotaflow::kernel::{
///     Lane, Ledger, Moment, Demand, ONE_BY_ONE, Patience, PlannedManner, PlannedTarget, Rest,
///     time_left,
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
/// let rest = Rest { prompts: 2_000, tokens: 10, judged_by: 500 };
/// let left = time_left(vec![Ledger::default(); 2], &[target], rest, manner, Moment::EPOCH);
/// assert!((990..1_010).contains(&left.as_secs()), "{left:?}");
/// ```
pub fn time_left(
    mut ledgers: Vec<Ledger>,
    targets: &[PlannedTarget],
    rest: Rest,
    mut manner: PlannedManner,
    now: Moment,
) -> Duration {
    let judged = rest.prompts.min(rest.judged_by.max(1));
    let by = rest.prompts as f64 / judged.max(1) as f64;
    let mut targets = targets.to_vec();
    let mut stretch = 1.0;
    if by > 1.0 {
        let each = largest(rest.tokens, &targets);
        let stands_for = stands_for(&ledgers, &each, by, judged);
        stretch = by / stands_for;
        let most = ledgers.iter().filter_map(Ledger::most_in_flight).min();
        let most = most.map_or(manner.most_in_flight as f64, |most| {
            (most as f64).min(manner.most_in_flight as f64)
        });
        // Calls in flight are few and cannot be made fewer at will: what that leaves too many, they take longer.
        let fewer = (most / stands_for).round().max(1.0);
        let slower = fewer * stands_for / most.max(1.0);
        for target in &mut targets {
            target.latency = target.latency.mul_f64(slower);
        }
        let thin = |count: usize| (count as f64 / stands_for).round() as usize;
        manner.stands_for = StandsFor { short: stands_for, long: by };
        manner.in_flight = thin(manner.in_flight);
        manner.most_in_flight = thin(manner.most_in_flight).max(1);
        ledgers.iter_mut().for_each(|ledger| ledger.thin_out(stands_for, by, &each, now));
    }
    let sizes = std::iter::repeat_n(rest.tokens, usize::try_from(judged).unwrap_or(usize::MAX));
    let made = forecast(ledgers, &targets, sizes, manner, now);
    let took = made.finish.since(now);
    let long = made.waits.iter().filter(|wait| is_long(&wait.bound)).map(|wait| wait.time);
    // The last answer takes no longer because there were many before it.
    let last = targets.first().map_or(Duration::ZERO, |target| target.latency).min(took);
    let short = took.saturating_sub(long.sum::<Duration>()).saturating_sub(last);
    let stretched = Duration::try_from_secs_f64(short.as_secs_f64() * stretch);
    took.max(stretched.unwrap_or(Duration::MAX).saturating_add(last))
}

/// The most that a call takes at any target.
fn largest(tokens: u64, targets: &[PlannedTarget]) -> Amounts {
    let outputs = targets.iter().map(|target| {
        let output = target.demand.size().output_tokens.max(target.output_tokens);
        if target.demand.counts_output { output } else { 0 }
    });
    let output_tokens = outputs.max().unwrap_or(0);
    Amounts { requests: 1, input_tokens: tokens, output_tokens, spend: 0 }
}

/// For how many calls one stands, of the `by` that it could.
fn stands_for(ledgers: &[Ledger], each: &Amounts, by: f64, judged: u64) -> f64 {
    /// So many in a period tell one limit from another well enough.
    const ENOUGH: f64 = 30.0;
    /// With fewer, rounding spoils it.
    const TOO_FEW: f64 = 4.0;
    /// So many periods have to be gone through: in the first one, all of a limit is there at once.
    const PERIODS: f64 = 5.0;
    let limited = ledgers.iter().filter_map(|ledger| ledger.calls_a_period(each));
    let (count, fewest) = limited
        .fold((0.0, f64::INFINITY), |(count, fewest), calls| (count + 1.0, calls.min(fewest)));
    if count == 0.0 {
        return 1.0;
    }
    let enough = (judged as f64 / (PERIODS * count)).clamp(TOO_FEW, ENOUGH);
    (fewest / enough).clamp(1.0, by)
}

fn is_long(bound: &Bound) -> bool {
    matches!(bound, Bound::Limit(limit) if limit.period >= Period::Hour)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::kernel::limits::{Limit, Refill, Resource, Source};
    use crate::kernel::{Demand, Lane, ONE_BY_ONE, Patience};

    const NOW: Moment = Moment::from_seconds(1_800_000_000);
    const PATIENT: Patience = Patience::AtHead(Duration::from_secs(300));

    fn limit(resource: Resource, period: Period, amount: u64, refill: Refill) -> Limit {
        let amount = NonZeroU64::new(amount).unwrap();
        Limit { resource, period, amount, refill, source: Source::Configured }
    }

    fn per(period: Period, amount: u64) -> Limit {
        limit(Resource::Requests, period, amount, Refill::Rolling)
    }

    fn left(limits: &[Limit], prompts: u64, judged_by: u64, patience: Patience) -> f64 {
        let mut ledgers = vec![Ledger::default(); 2];
        ledgers[1].conform(&limits.to_vec().into(), NOW);
        let target = PlannedTarget {
            picked: vec![0, 1],
            own: None,
            lanes: vec![Lane::new(0, 0, 1, 1, None)],
            demand: Demand::of(0),
            output_tokens: 20,
            latency: Duration::from_secs(1),
            line: 0,
            next: None,
        };
        let manner = PlannedManner {
            patience,
            in_flight: 0,
            most_in_flight: 1_000,
            most_waiting: 64,
            stands_for: ONE_BY_ONE,
        };
        let rest = Rest { prompts, tokens: 80, judged_by };
        time_left(ledgers, &[target], rest, manner, NOW).as_secs_f64()
    }

    /// What a part says is near what the whole says.
    #[track_caller]
    fn agrees(limits: &[Limit], prompts: u64, patience: Patience, within: f64) {
        let whole = left(limits, prompts, u64::MAX, patience);
        let part = left(limits, prompts, 1_000, patience);
        let wrong = (part / whole).max(whole / part);
        assert!(wrong <= within, "{limits:?}: {part} s by a part, {whole} s by all of it");
    }

    #[test]
    fn limits_over_a_minute() {
        agrees(&[per(Period::Minute, 60)], 5_000, PATIENT, 1.1);
        agrees(&[per(Period::Minute, 3_000)], 60_000, PATIENT, 1.1);
        agrees(&[per(Period::Minute, 600), per(Period::Second, 50)], 20_000, PATIENT, 1.1);
        let burst = |burst| Refill::Bucket { burst: NonZeroU64::new(burst).unwrap() };
        for most in [1, 20, 600] {
            let limit = limit(Resource::Requests, Period::Minute, 600, burst(most));
            agrees(&[limit], 20_000, PATIENT, 1.1);
        }
        let tokens = limit(Resource::Tokens, Period::Minute, 20_000, Refill::Rolling);
        agrees(&[tokens], 9_000, PATIENT, 1.1);
    }

    #[test]
    fn calls_in_flight() {
        let flying = |most| limit(Resource::Concurrency, Period::Second, most, Refill::Release);
        for most in [1, 7, 64] {
            agrees(&[flying(most)], 20_000, PATIENT, 1.1);
            agrees(&[flying(most), per(Period::Minute, 30_000)], 60_000, PATIENT, 1.15);
            agrees(&[flying(most), per(Period::Minute, 300)], 20_000, PATIENT, 1.1);
        }
    }

    #[test]
    fn a_day_that_ends_the_rest_is_not_missed() {
        let limits = [per(Period::Minute, 600), per(Period::Day, 5_000)];
        agrees(&limits, 50_000, PATIENT, 1.3);
        let tokens = limit(Resource::Tokens, Period::Day, 400_000, Refill::Rolling);
        agrees(&[per(Period::Minute, 600), tokens], 50_000, PATIENT, 1.3);
    }

    #[test]
    fn a_day_that_comes_back_bit_by_bit_is_waited_for() {
        let all = Refill::Bucket { burst: NonZeroU64::new(10_000).unwrap() };
        let day = limit(Resource::Requests, Period::Day, 10_000, all);
        agrees(&[per(Period::Minute, 600), day.clone()], 60_000, PATIENT, 1.3);
        let slow = limit(Resource::Requests, Period::Day, 100, day.refill);
        agrees(&[per(Period::Minute, 600), slow], 60_000, PATIENT, 2.0);
        let burst = Refill::Bucket { burst: NonZeroU64::new(20).unwrap() };
        let short = limit(Resource::Requests, Period::Minute, 600, burst);
        agrees(&[short], 60_000, Patience::AtHead(Duration::from_secs(1)), 1.1);
    }

    #[test]
    fn days_that_are_waited_for_are_not_missed() {
        let limits = [per(Period::Minute, 600), per(Period::Day, 5_000)];
        agrees(&limits, 50_000, Patience::FOR_EVER, 1.5);
        agrees(&[per(Period::Minute, 60), per(Period::Day, 50_000)], 40_000, PATIENT, 1.3);
        agrees(&[per(Period::Day, 200)], 40_000, Patience::FOR_EVER, 2.0);
        agrees(&[per(Period::Hour, 1_000)], 40_000, Patience::FOR_EVER, 1.5);
    }

    #[test]
    fn nothing_left_is_no_time() {
        assert!(left(&[per(Period::Minute, 60)], 0, 1_000, PATIENT) < 1e-9);
    }
}
