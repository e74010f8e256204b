//! The price book of this process, and the cost of an answer by it.
//!
//! The provider's own figure comes first, then the user's prices, then published ones. Prices are whole picodollars
//! (10⁻¹² US dollars) per token, so costs are exact sums (64 bits: more than $18,446,744.07 is reported as that).
//! `snapshot.json` is read when the first cost is asked for. A model is matched to a price as `genai-prices` does.
//! Prices that had ended when the snapshot was made are left out. Python looks for a newer `genai-prices` before the
//! first cost; once taken, its prices hold for the process.

use std::sync::OnceLock;

use crate::kernel::{Moment, Usage};
use crate::providers::prices::{Bill, OwnPrices, PriceBook, Rates};

/// Picodollars in a millionth of a dollar.
pub(in crate::engine) const MICRODOLLAR: u64 = 1_000_000;

/// A book that is newer than the one compiled in, once one was found.
static NEWER: OnceLock<PriceBook> = OnceLock::new();

/// The published prices that hold in this process.
pub fn price_book() -> &'static PriceBook {
    NEWER.get().unwrap_or_else(|| PriceBook::snapshot())
}

/// Replaces the snapshot by `book` for the whole process; the first book stays.
pub fn use_newer_prices(book: PriceBook) {
    let _ = NEWER.set(book);
}

/// What one answer cost, in picodollars; `None` when it is unknown. `body` is the provider's answer, for what it says
/// of its bill.
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
    // A name that only the user knows (an Azure deployment, a router's "auto") stands in the answer.
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
