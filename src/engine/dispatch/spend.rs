//! Money as a limited resource: the reserved price, the counted cost.

use super::prices::{MICRODOLLAR, cost_of_answer};
use super::types::{Dispatch, HeldReservation, Target};
use super::users::User;
use crate::engine::world::observer::Notice;
use crate::kernel::{Amounts, Configured, Moment, Price, Resource, Usage, counted};

/// How many tokens of an answer are priced to get the price of one.
const SAMPLE: u64 = 1_000;

/// Whether one of these limits is on cost.
pub(super) fn limits_money(limits: &Configured) -> bool {
    limits.iter().any(|limit| limit.resource == Resource::Spend)
}

/// Whether the cost of calls of this user counts against a limit of the user's own.
fn has_cost_limit(user: &User) -> bool {
    user.own.as_ref().is_some_and(|own| limits_money(&own.limits))
}

impl Dispatch {
    /// The price of a call at `target` with a prompt of about this size, where its cost counts against a limit; `None`
    /// where it does not, and when the price is unknown.
    pub(in crate::engine) fn price(
        &self,
        target: &Target,
        user: &User,
        input_tokens: u64,
    ) -> Option<Price> {
        if !has_cost_limit(user) && !target.lanes().counts_money {
            return None;
        }
        let (now, tokens) = (self.now(), input_tokens.max(1));
        let cost = |input_tokens, output_tokens| {
            let usage = Usage { input_tokens, output_tokens, ..Usage::default() };
            let (own, provider) = (&self.prices, &target.vendor.provider.name);
            cost_of_answer(own, provider, &target.model, Some(&usage), b"", now)
        };
        let (call, prompt, both) = (cost(0, 0)?, cost(tokens, 0)?, cost(tokens, SAMPLE)?);
        let input = prompt.saturating_sub(call).div_ceil(tokens);
        let output = both.saturating_sub(prompt).div_ceil(SAMPLE);
        Some(Price { call, input, output })
    }

    /// What counts against limits of an answer with this usage: its tokens and its cost. `body` is the answer, which
    /// may contain its price.
    pub(in crate::engine) fn billed(
        &self,
        held: &HeldReservation,
        usage: &Usage,
        body: &[u8],
    ) -> Amounts {
        let target = &held.target;
        let provider = &target.vendor.provider;
        let counted = counted(usage, provider.counts_output, provider.counts_cached_input);
        // Finding a price takes longer than all the rest of a call.
        if !has_cost_limit(held.user()) && !held.limits().any(limits_money) {
            return counted;
        }
        let (own, now) = (&self.prices, self.now());
        let cost = cost_of_answer(own, &provider.name, &target.model, Some(usage), body, now);
        let cost = cost.map(|cost| cost.div_ceil(MICRODOLLAR));
        if cost.is_none() && self.unpriced.lock().insert(target.name.clone()) {
            self.notice(&Notice::Warning(format!(
                "the price of {} is unknown: it does not count against limits on cost",
                target.name
            )));
        }
        Amounts { spend: cost.unwrap_or(0), ..counted }
    }

    /// What these tokens cost at the prices that hold `now`, in millionths of a US dollar, rounded up; `None` when
    /// the price is unknown.
    pub(in crate::engine) fn cost_of(
        &self,
        provider: &str,
        model: &str,
        usage: &Usage,
        now: Moment,
    ) -> Option<u64> {
        let cost = cost_of_answer(&self.prices, provider, model, Some(usage), b"", now)?;
        Some(cost.div_ceil(MICRODOLLAR))
    }
}
