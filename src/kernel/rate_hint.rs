//! Rate hints: what headers and refusals state about limits.

use std::time::Duration;

use serde::Serialize;

use super::limits::{Period, Resource};

/// One limit as an answer's headers, or the body of a refusal, describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RateHint {
    /// What is limited.
    pub resource: Resource,
    /// Over which window; already inferred where the header does not say (OpenAI's minute or day).
    pub period: Period,
    /// The limit.
    pub amount: Option<u64>,
    /// What is left of it.
    pub remaining: Option<u64>,
    /// How long until it is whole again.
    pub reset_after: Option<Duration>,
    /// The header's own arithmetic shows a bucket that refills continuously and holds `amount`.
    pub refills_continuously: bool,
    /// The zone at whose civil turn it comes back (Gemini's and OpenRouter's days); `None`: it does not turn so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<&'static str>,
}

/// Everything that one answer states about quotas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// The organisation (and project) the key belongs to, when the answer names it: its quota group.
    pub organization: Option<String>,
    /// The limits described.
    pub rates: Vec<RateHint>,
}

impl Hints {
    /// Takes in what the body of a refusal says: it is exact about the limit that was hit, headers add the rest.
    ///
    /// ```
    /// use quotaflow::kernel::{Hints, Period, RateHint, Resource};
    /// let told = RateHint {
    ///     resource: Resource::Tokens,
    ///     period: Period::Day,
    ///     amount: Some(200_000),
    ///     remaining: Some(2_506),
    ///     reset_after: None,
    ///     refills_continuously: true,
    ///     zone: None,
    /// };
    /// let mut hints = Hints { organization: None, rates: vec![RateHint { remaining: None, ..told }] };
    /// hints.refine(&[told]);
    /// assert_eq!(hints.rates, [told]);
    /// ```
    pub fn refine(&mut self, told: &[RateHint]) {
        for rate in told {
            let same = |known: &&mut RateHint| {
                known.resource == rate.resource && known.period == rate.period
            };
            match self.rates.iter_mut().find(same) {
                Some(known) => {
                    // What is left belongs to the amount it was stated with.
                    let news = rate.amount.is_some_and(|amount| known.amount != Some(amount));
                    known.remaining = rate.remaining.or(known.remaining.filter(|_| !news));
                    known.amount = rate.amount.or(known.amount);
                    known.reset_after = rate.reset_after.or(known.reset_after);
                    known.refills_continuously |= rate.refills_continuously;
                    known.zone = known.zone.or(rate.zone);
                }
                None => self.rates.push(*rate),
            }
        }
    }
}

/// In what the count here differs from that of a provider when it stated what was left, without either being wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinceTold {
    /// By how many tokens the prompt was thought to be longer than it is, which settling gives back; less than nothing
    /// when it was thought to be shorter, which settling takes.
    pub over_prompt: i64,
    /// Tokens of answers that turned out shorter than what the provider had charged for them then.
    pub answers_returned: u64,
}

impl SinceTold {
    /// What would have been counted here by now where the provider stated that `used` of a limit on `resource` were
    /// used.
    pub(super) fn counted_here(self, resource: Resource, used: u64) -> u64 {
        let SinceTold { over_prompt, answers_returned } = self;
        match resource {
            Resource::Tokens => {
                used.saturating_add_signed(over_prompt).saturating_sub(answers_returned)
            }
            Resource::InputTokens => used.saturating_add_signed(over_prompt),
            Resource::OutputTokens => used.saturating_sub(answers_returned),
            _ => used,
        }
    }
}
