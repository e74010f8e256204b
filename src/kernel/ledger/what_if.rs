//! Ledgers for forecasts: larger limits, and calls that stand for several.

use super::{Ledger, is_short};
use crate::kernel::amounts::Amounts;
use crate::kernel::limits::{Limit, Refill, Resource};
use crate::kernel::meters::{Meter, Rule};
use crate::kernel::moment::Moment;

impl Ledger {
    /// The same ledger if `limit` were `times` as large, for as long as nothing else is learned: what a plan asks.
    pub fn scale(&mut self, limit: &Limit, times: u32) {
        let Some(effective) = &mut self.rules else { return };
        for (rule, counted) in effective.rules.iter_mut().zip(&mut self.meters) {
            if rule.limit == *limit {
                *rule = Rule::new(limit.scaled(times));
                counted.under = rule.limit.clone();
            }
        }
    }

    /// How many calls of this size the slowest of the limits over a minute or less lets through in its period, less
    /// where few may pass at once; `None` when there is no such limit. Calls in flight are another matter.
    pub fn calls_a_period(&self, each: &Amounts) -> Option<f64> {
        const AT_ONCE: f64 = 15.0;
        let short = self.rules().iter().map(|rule| &rule.limit).filter(|limit| is_short(limit));
        let calls = short.filter_map(|limit| {
            let each = each.of(limit.resource);
            (each > 0).then(|| (limit, limit.amount.get() as f64 / each as f64))
        });
        let by_second =
            |(limit, calls): &(&Limit, f64)| calls / limit.period.length().as_secs_f64();
        let (limit, calls) = calls.min_by(|a, b| by_second(a).total_cmp(&by_second(b)))?;
        Some(match limit.refill {
            // Where few may pass at once, each of them matters.
            Refill::Bucket { burst } => {
                let bursts = burst.get() as f64 / each.of(limit.resource) as f64;
                calls.min(AT_ONCE * bursts)
            }
            _ => calls,
        })
    }

    /// How many calls may be in flight, if anything says so.
    pub fn most_in_flight(&self) -> Option<u64> {
        self.most(Resource::Concurrency)
    }

    /// The same ledger where a call stands for `short` of them, and for `long` of them as far as limits over an hour or
    /// longer are concerned. None of them gets too small for a call of `least`.
    pub fn thin_out(&mut self, short: f64, long: f64, least: &Amounts, now: Moment) {
        let in_flight = self.in_flight;
        self.in_flight = (in_flight as f64 / short).round() as u64;
        let Some(effective) = &mut self.rules else { return };
        for (rule, counted) in effective.rules.iter_mut().zip(&mut self.meters) {
            let is_short = is_short(&rule.limit) || rule.limit.resource == Resource::Concurrency;
            let by = if is_short { short } else { long };
            if by <= 1.0 {
                continue;
            }
            let used = counted.meter.used(rule, in_flight, now);
            let least = least.of(rule.limit.resource).max(1);
            *rule = Rule::new(rule.limit.thinned(by, least));
            counted.meter = Meter::fresh(rule);
            counted.meter.take(rule, (used as f64 / by).round() as u64, now);
            counted.under = rule.limit.clone();
        }
    }
}
