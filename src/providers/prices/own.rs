//! Prices that the user stated, and servers that cost nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::rates::Rates;
use crate::providers::Provider;

/// The model that stands for all others of its provider.
const ALL_OTHERS: &str = "*";

/// The user's own prices. They win over published ones; on the user's own servers tokens are free by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnPrices {
    stated: BTreeMap<String, BTreeMap<String, Rates>>,
    free: BTreeSet<String>,
}

impl OwnPrices {
    /// Without any statement of the user: free are the servers that people run themselves, at their usual addresses.
    pub fn unstated() -> Self {
        let mut prices = OwnPrices::default();
        for name in Provider::names() {
            if Provider::find(name).is_some_and(|provider| provider.is_self_hosted()) {
                prices.make_free(name);
            }
        }
        prices
    }

    /// Makes tokens of `provider` free by default.
    pub fn make_free(&mut self, provider: &str) {
        self.free.insert(provider.to_owned());
    }

    /// States the rates of `model` (`*`: all others) at `provider`.
    pub fn state(&mut self, provider: &str, model: &str, rates: Rates) {
        self.stated.entry(provider.to_owned()).or_default().insert(model.to_owned(), rates);
    }

    /// What holds for `model` at `provider`; `None` when published prices do.
    pub fn rates(&self, provider: &str, model: &str) -> Option<Rates> {
        let stated = self.stated.get(provider);
        let stated = stated.and_then(|models| models.get(model).or(models.get(ALL_OTHERS)));
        let free =
            || self.free.contains(provider).then(|| Rates::of(0.0, 0.0, None, None, None, None));
        stated.cloned().or_else(free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stated_price_wins_and_servers_of_ones_own_are_free() {
        let rates = |dollars| Rates::of(dollars, dollars, None, None, None, None);
        let mut prices = OwnPrices::unstated();
        assert_eq!(prices.rates("openai", "m"), None);
        assert_eq!(prices.rates("ollama", "llama3"), Some(rates(0.0)));
        prices.state("ollama", "*", rates(1.0));
        prices.state("ollama", "llama3", rates(2.0));
        assert_eq!(prices.rates("ollama", "llama3"), Some(rates(2.0)));
        assert_eq!(prices.rates("ollama", "qwen"), Some(rates(1.0)));
    }
}
