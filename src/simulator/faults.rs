//! Fault rules at work: which one applies to a request.

use super::random::Random;
use super::settings::{FaultEffect, FaultRule, Provider};

/// The rules and how many requests each has seen.
#[derive(Debug, Default)]
pub(super) struct Faults {
    rules: Vec<(FaultRule, u64)>,
}

/// What rules look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Occasion<'a> {
    pub(super) provider: Provider,
    pub(super) label: &'a str,
    pub(super) model: &'a str,
    pub(super) streams: bool,
    /// Seconds since the start.
    pub(super) seconds: f64,
}

impl Faults {
    pub(super) fn new(rules: Vec<FaultRule>) -> Self {
        Faults { rules: rules.into_iter().map(|rule| (rule, 0)).collect() }
    }

    pub(super) fn add(&mut self, rules: Vec<FaultRule>) {
        self.rules.extend(rules.into_iter().map(|rule| (rule, 0)));
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    /// What goes wrong with this request. Every rule counts it, the first that fits is taken.
    pub(super) fn strike(
        &mut self,
        occasion: Occasion<'_>,
        random: &mut Random,
    ) -> Option<FaultEffect> {
        let mut struck = None;
        for (rule, seen) in &mut self.rules {
            let when = &rule.when;
            let concerned = when.provider.is_none_or(|provider| provider == occasion.provider)
                && when.key.as_deref().is_none_or(|label| label == occasion.label)
                && when.model.as_deref().is_none_or(|model| model == occasion.model)
                && when.stream.is_none_or(|stream| stream == occasion.streams)
                && (rule.effect.then.is_none() || occasion.streams)
                && when.between.is_none_or(|(from, to)| (from..to).contains(&occasion.seconds));
            if !concerned {
                continue;
            }
            *seen += 1;
            // Chance is asked even when the rule would not fit, so that rules do not shift each other's luck.
            let lucky = when.rate.is_none_or(|rate| random.fraction() < rate);
            let fits = lucky
                && when.nth.as_ref().is_none_or(|numbers| numbers.contains(seen))
                && when.every.is_none_or(|every| seen.is_multiple_of(every))
                && when.first.is_none_or(|first| *seen <= first);
            if fits && struck.is_none() {
                struck = Some(rule.effect.clone());
            }
        }
        struck
    }
}
