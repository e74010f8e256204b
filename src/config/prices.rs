//! Prices of a config.

use super::error::ConfigError;
use super::providers::{Providers, named, once};
use super::reader::Table;
use super::redact::shown;
use super::schema::{self, Takes};
use crate::providers::prices::{OwnPrices, Rates};

/// No model is a million times dearer than others; a larger number is a price for something else.
const DEAREST: f64 = 1_000_000.0;

/// Reads `prices: {provider: {model: {input, output, …}}}`, in US dollars for a million tokens; `*` is every other model
/// of the provider.
pub(super) fn read(top: &Table<'_>, providers: &mut Providers) -> Result<OwnPrices, ConfigError> {
    let mut prices = OwnPrices::default();
    for (name, settings) in &*providers {
        if settings.provider.is_self_hosted() {
            prices.make_free(name);
        }
    }
    let Some(node) = top.get("prices") else { return Ok(prices) };
    let mut seen = Vec::new();
    for (name, node) in node.entries(Takes::Table)? {
        once(&mut seen, name, &node)?;
        let provider = named(providers, name, &node)?.provider.name.clone();
        for (model, node) in node.entries(Takes::Table)? {
            if shown(model, false) != model {
                return Err(node.error("a model's name is shown, and this one looks like a key"));
            }
            let table = node.table(schema::PRICE)?;
            prices.state(&provider, model.trim(), rates(&table)?);
        }
    }
    Ok(prices)
}

fn rates(table: &Table<'_>) -> Result<Rates, ConfigError> {
    let price = |name| table.get(name).map(|node| node.number(0.0, DEAREST)).transpose();
    let missing = |name: &str| {
        let error = table.node().error(format!("`{name}` is missing"));
        error.hint("state input and output, in US dollars for a million tokens")
    };
    let input = price("input")?.ok_or_else(|| missing("input"))?;
    let output = price("output")?.ok_or_else(|| missing("output"))?;
    let (cached, written) = (price("cached_input")?, price("cache_write")?);
    Ok(Rates::of(input, output, cached, written, price("reasoning")?, price("request")?))
}
