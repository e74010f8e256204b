//! The estimated cost of a call before it is sent.
//!
//! Prices are whole picodollars per token, so costs are exact sums (64 bits: more than $18,446,744.07 is reported as
//! that). `snapshot.json` is read when the first cost is asked for. `Answer::cost` works when `reply.cost` is read:
//! from the usage, the user's prices, and the body (its own price, the service tier, the model that answered). A
//! model is matched to a price as `genai-prices` does. Prices that had ended when the snapshot was made are left out.
//! Python looks for a newer `genai-prices` before the first cost; once taken, its prices hold for the process.

use super::Calls;
use super::request::Request;
use super::token_counts::PromptSize;
use crate::engine::dispatch::prices::cost_of_answer;
use crate::error::Error;
use crate::kernel::{USUAL_OUTPUT, Usage};
use crate::providers::ChatRequest;

/// What a call will cost, in picodollars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostEstimate {
    /// How large its prompt is, and for whom.
    pub prompt: PromptSize,
    /// How long its answer will be, in tokens: the median of those before, or a guess; never more than the most.
    pub output_tokens: u64,
    /// How long it may be at most, in tokens (`max_tokens`), if anything bounds it.
    pub most_output_tokens: Option<u64>,
    /// An answer of no length.
    pub low: u64,
    /// The expected one.
    pub expected: u64,
    /// The longest prompt and the longest answer; `None` when nothing bounds the answer.
    pub high: Option<u64>,
}

impl Calls {
    /// What the prompt of `ask` will cost; `None` when the price of its model is unknown. Sends nothing and needs no
    /// key.
    pub(in crate::engine) fn estimate_cost(
        &self,
        ask: &Request,
    ) -> Result<Option<CostEstimate>, Error> {
        let prompt = self.prompt_size(ask)?;
        let vendor = self.dispatch.vendor(&prompt.provider)?;
        let target = self.dispatch.target(&vendor, &prompt.model);
        let planned = self.named(ask)?.params;
        let mut params = planned.clone();
        params.extend(ask.params.clone());
        if !params.is_empty() {
            vendor.provider.check_params(&params)?;
        }
        let most = ChatRequest::max_output_tokens(&ask.params)
            .or_else(|| ChatRequest::max_output_tokens(&planned));
        let usual = self.lessons(&target)?.outputs.median().unwrap_or(USUAL_OUTPUT);
        let output_tokens = most.map_or(usual, |most| usual.min(most));
        let now = self.dispatch.now();
        let cost = |input_tokens, output_tokens| {
            let usage = Usage { input_tokens, output_tokens, ..Usage::default() };
            let (own, used) = (&self.dispatch.prices, Some(&usage));
            cost_of_answer(own, &prompt.provider, &prompt.model, used, b"", now)
        };
        let Some(expected) = cost(prompt.tokens, output_tokens) else { return Ok(None) };
        let low = cost(prompt.tokens, 0).unwrap_or(expected).min(expected);
        let high = most.and_then(|most| cost(prompt.at_most, most));
        let most_output_tokens = most;
        Ok(Some(CostEstimate { prompt, output_tokens, most_output_tokens, low, expected, high }))
    }
}
