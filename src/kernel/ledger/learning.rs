//! What a ledger learns: limits from hints and refusals, sizes from bills.

use super::{Ledger, Obstacle};
use crate::kernel::ledger::input_factor::InputFactor;
use crate::kernel::ledger::learned_limits::{Refused, only_watches};
use crate::kernel::ledger::output_sizes::{OutputSizes, USUAL_OUTPUT};
use crate::kernel::limits::{Limit, Period, Resource, Source};
use crate::kernel::moment::Moment;
use crate::kernel::rate_hint::{RateHint, SinceTold};

impl Ledger {
    /// Whether the user stated the limit that `hint` tells of, or a lower one.
    pub fn is_stated(&self, hint: &RateHint) -> bool {
        self.rules().iter().any(|rule| {
            rule.limit.source == Source::Configured
                && rule.counts_like(hint.resource, hint.period)
                && hint.amount.is_some_and(|amount| rule.limit.amount.get() <= amount)
        })
    }

    /// Takes the provider's word on what a limit is: it replaces what was assumed. The call
    /// that it answers left at `sent`.
    pub fn learn_limit(&mut self, hint: &RateHint, since: SinceTold, sent: Moment, now: Moment) {
        if self.is_stated(hint) {
            return;
        }
        if self.learned.observe(hint, now) {
            self.relearn(now);
            self.apply_remaining(hint, since, sent, now);
        } else {
            self.changed |= self.learned.refresh(hint, now);
        }
    }

    /// What was learned changed a rule.
    fn relearn(&mut self, now: Moment) {
        self.changed = true;
        if let Some(effective) = self.rules.take() {
            self.rebuild(effective.configured, now);
        }
    }

    /// An answer came: what was learned and is used up by now is right.
    pub(super) fn confirm(&mut self, now: Moment) {
        let Some(effective) = &self.rules else { return };
        let mut relearns = false;
        for (rule, counted) in effective.rules.iter().zip(&self.meters) {
            let limit = &rule.limit;
            let was_learned = matches!(limit.source, Source::Provider | Source::Observed);
            if !was_learned || only_watches(limit) {
                continue;
            }
            let amount = rule.most();
            if counted.meter.used(rule, self.in_flight, now) >= amount - amount / 10 {
                let (resource, period) = (limit.resource, limit.period);
                let (more, changed) = self.learned.was_enough(resource, period, now);
                relearns |= more;
                self.changed |= changed;
            }
        }
        if relearns {
            self.relearn(now);
        }
    }

    /// Counts requests from now on although nothing limits them: no limit is configured here, so refusals must teach
    /// it.
    pub fn watch(&mut self, now: Moment) {
        if self.learned.watch(now) {
            self.answered = 0;
            self.relearn(now);
        }
    }

    /// A request that left at `sent` was refused for coming too fast, and is settled. `is_used_up`: the provider said
    /// that nothing is left of a limit.
    pub fn was_refused(&mut self, sent: Moment, is_used_up: bool, now: Moment) {
        // It counts at the provider or not; what it accepted is what teaches.
        self.each_meter(|rule, meter| {
            if rule.limit.source == Source::Observed {
                meter.give_back(rule, 1, sent, now);
            }
        });
        let accepted = self.requests_last_minute(now).saturating_sub(self.in_flight);
        let refused = Refused { accepted, sent, is_used_up };
        if self.learned.was_refused(refused, now) {
            self.relearn(now);
        }
    }

    fn requests_last_minute(&self, now: Moment) -> u64 {
        self.metered()
            .find(|(rule, _)| rule.counts_like(Resource::Requests, Period::Minute))
            .map_or(0, |(rule, meter)| meter.used(rule, 0, now))
    }

    /// How many calls may be under way while nothing is known to limit requests and the lane `feels_its_way`: four, and
    /// one more for each eight that were answered. A provider whose limit is met for the first time refuses no more
    /// than are under way. One, as long as the size of an answer is a guess that was `cut_short`; answers of which
    /// eight did not tell their size never will.
    pub fn first_steps(&self, feels_its_way: bool, cut_short: bool) -> Option<Obstacle> {
        const TELL_NOTHING: u64 = 8;
        if cut_short && self.answered < TELL_NOTHING && self.in_flight > 0 {
            return Some(Obstacle::Concurrency { most: 1 });
        }
        if !feels_its_way {
            return None;
        }
        const AT_FIRST: u64 = 4;
        const SHARE: u64 = 8;
        /// A provider that answered so many has no limit that a step would find.
        const FAR: u64 = 2_048;
        if self.answered >= FAR || self.knows_its_pace() {
            return None;
        }
        let most = AT_FIRST + self.answered / SHARE;
        (self.in_flight >= most).then_some(Obstacle::Concurrency { most })
    }

    fn knows_its_pace(&self) -> bool {
        self.rules().iter().any(|rule| {
            let limit = &rule.limit;
            limit.resource == Resource::Requests
                && limit.period <= Period::Minute
                && !only_watches(limit)
        })
    }

    /// Takes the provider's word on what is left of a limit that is known: never believe more than that.
    pub fn apply_remaining(
        &mut self,
        hint: &RateHint,
        since: SinceTold,
        sent: Moment,
        now: Moment,
    ) {
        let Some(remaining) = hint.remaining else { return };
        let Some(effective) = &self.rules else { return };
        for (rule, counted) in effective.rules.iter().zip(&mut self.meters) {
            let same_scale = hint.amount.is_none_or(|amount| amount == rule.limit.amount.get());
            if rule.counts_like(hint.resource, hint.period) && same_scale {
                let before = counted.meter.clone();
                let used = rule.limit.amount.get().saturating_sub(remaining);
                let used = since.counted_here(rule.limit.resource, used);
                counted.meter.tighten(rule, used, sent, now);
                self.changed |= counted.meter != before;
            }
        }
    }

    /// Counts at least `used` of the limit over `period`, all of which will be back at `whole_at`: another
    /// program counted that. In any window it counts from now on, in a bucket what came back since does not count.
    pub fn count_at_least(
        &mut self,
        resource: Resource,
        period: Period,
        used: u64,
        whole_at: Moment,
        now: Moment,
    ) {
        if whole_at <= now {
            return;
        }
        self.each_meter(|rule, meter| {
            if rule.counts_like(resource, period) {
                let used = meter.left_of(rule, used, whole_at, now);
                meter.tighten(rule, used.min(rule.limit.amount.get()), now, now);
            }
        });
    }

    /// When a limit of this ledger was learned, if it was.
    pub fn told_at(&self, limit: &Limit) -> Option<Moment> {
        self.learned.told_at(limit)
    }

    /// How long answers of this model are: what to reserve for one that has not come yet.
    pub fn outputs(&self) -> &OutputSizes {
        &self.outputs
    }

    /// Remembers how long an answer was. One that `most` cut short says that answers are at least that long, which is
    /// news only if they were thought to be shorter.
    pub fn record_output_size(&mut self, tokens: u64, most: Option<u64>) {
        let was_cut = most.is_some_and(|most| most > 0 && tokens >= most);
        if was_cut && tokens < self.outputs.longest().unwrap_or(USUAL_OUTPUT) {
            return;
        }
        self.outputs.record(tokens);
        self.changed = true;
    }

    /// By how much estimates of prompts of this model are wrong.
    pub fn inputs(&self) -> &InputFactor {
        &self.inputs
    }

    /// Learns that a prompt of this estimate was billed as `billed` tokens.
    pub fn record_input_size(&mut self, estimated: u64, billed: u64) {
        self.changed |= self.inputs.record(estimated, billed);
    }

    /// By how much bills contradict what was counted with the model's own tokenizer.
    pub fn counts(&self) -> &InputFactor {
        &self.counts
    }

    /// Learns that a prompt of this count was billed as `billed` tokens.
    pub fn record_token_count(&mut self, counted: u64, billed: u64) {
        self.changed |= self.counts.record(counted, billed);
    }

    /// From now on what is counted is what will be billed: a plan has corrected it already.
    pub fn trust_counts(&mut self) {
        self.counts = InputFactor::default();
    }
}
