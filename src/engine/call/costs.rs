//! What did an answer cost, and what will one cost?
//!
//! The provider's own word wins, then the user's prices, then published ones. Amounts are picodollars, 10⁻¹² US dollars.

use std::sync::OnceLock;

use super::request::{Answer, Request};
use super::token_counts::PromptSize;
use crate::engine::Engine;
use crate::error::Error;
use crate::kernel::{Moment, USUAL_OUTPUT, Usage};
use crate::providers::ChatRequest;
use crate::providers::prices::{Bill, OwnPrices, PriceBook, Rates};

/// Picodollars in a millionth of a dollar.
pub(in crate::engine) const MICRODOLLAR: u64 = 1_000_000;

/// A book that is newer than the one compiled in, once somebody found one.
static NEWER: OnceLock<PriceBook> = OnceLock::new();

/// The published prices that hold in this process.
pub fn price_book() -> &'static PriceBook {
    NEWER.get().unwrap_or_else(|| PriceBook::snapshot())
}

/// From now on `book` holds instead of the snapshot, for the whole process; the first one that comes stays.
pub fn use_newer_prices(book: PriceBook) {
    let _ = NEWER.set(book);
}

/// What one answer cost, in picodollars; `None` when it cannot be told. `body` is the provider's answer, for what it says
/// of its bill besides.
pub fn cost_of_answer(
    own: &OwnPrices,
    provider: &str,
    model: &str,
    usage: Option<&Usage>,
    body: &[u8],
    at: Moment,
) -> Option<u64> {
    let bill = Bill::read(provider, body);
    if bill.total.is_some() {
        return bill.total;
    }
    let usage = usage?;
    if let Some(rates) = own.rates(provider, model) {
        return rates.cost(usage, bill.written_for_an_hour);
    }
    let book = price_book();
    // A name that only the user knows (an Azure deployment, a router's "auto") is told in the answer.
    let prices = book
        .find(provider, model)
        .or_else(|| bill.model.as_ref().and_then(|model| book.find(provider, model)))?;
    prices.rates(at, &bill.terms()).cost(usage, bill.written_for_an_hour)
}

/// The rates that hold for a model before anything is asked, those of the user first.
pub(in crate::engine) fn rates_of(
    own: &OwnPrices,
    provider: &str,
    model: &str,
    at: Moment,
) -> Option<Rates> {
    let published = || Some(price_book().find(provider, model)?.rates(at, &[]));
    own.rates(provider, model).or_else(published)
}

impl Answer {
    /// What was used, by attempts of a stream that broke off before as well; `None` when the provider did not say.
    pub fn usage_of_all(&self) -> Option<Usage> {
        self.usage.map(|usage| usage.plus(&self.spent_before.usage))
    }

    /// What it cost, in picodollars, attempts of a stream included that broke off before: nothing when it was given
    /// before; `None` when nobody knows the price, or the provider did not say what was used.
    pub fn cost(&self) -> Option<u64> {
        if self.cached {
            return Some(0);
        }
        let at = self.attempts.last().map_or(Moment::EPOCH, |attempt| attempt.started);
        let (own, usage) = (&self.prices, self.usage.as_ref());
        let cost = cost_of_answer(own, &self.provider, &self.model, usage, &self.raw, at)?;
        Some(cost.saturating_add(self.spent_before.cost?))
    }
}

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

impl Engine {
    /// What these tokens cost at the prices that hold `now`, in millionths of a US dollar, rounded up; `None` when
    /// nobody knows the price.
    pub fn cost_of(&self, provider: &str, model: &str, usage: &Usage, now: Moment) -> Option<u64> {
        let cost = cost_of_answer(&self.settings.prices, provider, model, Some(usage), b"", now)?;
        Some(cost.div_ceil(MICRODOLLAR))
    }

    /// What the prompt of `ask` will cost; `None` when nobody knows the price of its model. Sends nothing and needs no
    /// key.
    ///
    /// # Errors
    /// As [`Engine::prompt_size`]; and when a parameter is wrong, as a call that says it.
    pub fn estimate_cost(&self, ask: &Request) -> Result<Option<CostEstimate>, Error> {
        let prompt = self.prompt_size(ask)?;
        let vendor = self.vendor(&prompt.provider)?;
        let target = vendor.target(&prompt.model, self.settings.queue_max_size);
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
        let now = self.world.clock.now();
        let cost = |input_tokens, output_tokens| {
            let usage = Usage { input_tokens, output_tokens, ..Usage::default() };
            let (own, used) = (&self.settings.prices, Some(&usage));
            cost_of_answer(own, &prompt.provider, &prompt.model, used, b"", now)
        };
        let Some(expected) = cost(prompt.tokens, output_tokens) else { return Ok(None) };
        let low = cost(prompt.tokens, 0).unwrap_or(expected).min(expected);
        let high = most.and_then(|most| cost(prompt.at_most, most));
        let most_output_tokens = most;
        Ok(Some(CostEstimate { prompt, output_tokens, most_output_tokens, low, expected, high }))
    }
}
