//! The price book: published prices by provider and model.
//!
//! The book is data: `snapshot.json`, written by `make prices` from the Python package `genai-prices` (MIT, see
//! `LICENSE-genai-prices` beside it), or a newer release of that package as Python hands it over in the same shape.
//!
//! `{"made_from": …, "providers": [{"id": …, "else": [ids], "models": [model, …]}]}`; the first model whose `match` is
//! for a name is meant, then those of the providers in `else`. A model has `rates`, or `prices`: rates with `from`, or
//! `begins` and `ends`, of which the last that holds counts; and `variants`: rates laid over those `when` all its terms
//! are met. Rates are picodollars a token for input, output, cached input, written input, input written for an hour,
//! thinking, and for a call.

use std::sync::OnceLock;

use serde::Deserialize;

use super::dates::{When, with_dashes};
use super::rates::Rates;
use super::rules::Rule;
use crate::kernel::Moment;

/// The prices that come with this crate.
const SNAPSHOT: &str = include_str!("snapshot.json");

/// Providers that price lists call otherwise than we do.
const OTHER_NAMES: [(&str, &str); 2] = [("gemini", "google"), ("xai", "x-ai")];

/// Published prices by provider and model.
#[derive(Debug, Default, Deserialize)]
pub struct PriceBook {
    made_from: String,
    providers: Vec<ProviderPrices>,
}

#[derive(Debug, Deserialize)]
struct ProviderPrices {
    id: String,
    /// Whose models it offers as well.
    #[serde(default, rename = "else")]
    others: Vec<String>,
    models: Vec<ModelPrices>,
}

/// The prices of one model, at all times and on all terms.
#[derive(Debug, Deserialize)]
pub struct ModelPrices {
    #[serde(rename = "match")]
    rule: Rule,
    #[serde(default)]
    rates: Rates,
    #[serde(default)]
    prices: Vec<Dated>,
    #[serde(default)]
    variants: Vec<Variant>,
}

#[derive(Debug, Deserialize)]
struct Dated {
    rates: Rates,
    #[serde(flatten)]
    when: When,
}

#[derive(Debug, Deserialize)]
struct Variant {
    terms: Vec<(String, String)>,
    rates: Rates,
    #[serde(flatten)]
    when: When,
}

impl PriceBook {
    /// The book that comes with this crate; read once, when it is asked for first.
    pub fn snapshot() -> &'static PriceBook {
        static BOOK: OnceLock<PriceBook> = OnceLock::new();
        if BOOK.get().is_none() {
            // Read before the cell is asked: a fork at that moment must not find it busy for ever.
            let _ = BOOK.set(PriceBook::read(SNAPSHOT).unwrap_or_default());
        }
        BOOK.get_or_init(PriceBook::default)
    }

    /// A book in the shape described above.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn read(text: &str) -> Result<PriceBook, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// What it was made from: `genai-prices 0.2.3`.
    pub fn made_from(&self) -> &str {
        &self.made_from
    }

    /// The prices of `model` at `provider`, in our names; `None` when they are not known.
    ///
    /// ```
    /// use quotaflow::providers::prices::PriceBook;
    /// let book = PriceBook::snapshot();
    /// assert!(book.find("openai", "gpt-4o-mini-2024-07-18").is_some());
    /// assert!(book.find("gemini", "models/gemini-2.5-flash").is_some());
    /// assert!(book.find("openai", "no-such-model").is_none());
    /// ```
    pub fn find(&self, provider: &str, model: &str) -> Option<&ModelPrices> {
        let theirs = OTHER_NAMES.iter().find(|(ours, _)| *ours == provider);
        let provider = self.provider(theirs.map_or(provider, |(_, theirs)| theirs))?;
        let model = model.trim().to_lowercase();
        let model = model.strip_prefix("models/").unwrap_or(&model);
        let found = self.find_at(provider, model);
        found.or_else(|| self.find_at(provider, &with_dashes(model)?))
    }

    fn provider(&self, id: &str) -> Option<&ProviderPrices> {
        self.providers.iter().find(|provider| provider.id == id)
    }

    fn find_at(&self, provider: &ProviderPrices, model: &str) -> Option<&ModelPrices> {
        let others = provider.others.iter().filter_map(|id| self.provider(id));
        // Borrowed from the book and not from the argument.
        let first = self.providers.iter().find(|known| known.id == provider.id);
        let mut models = first.into_iter().chain(others).flat_map(|known| &known.models);
        models.find(|prices| prices.rule.is_for(model))
    }
}

impl ModelPrices {
    /// The rates at a moment, on these terms (`("service_tier", "flex")`, `("processing", "batch")`); terms that have
    /// no price of their own change nothing.
    pub fn rates(&self, at: Moment, terms: &[(&str, &str)]) -> Rates {
        let dated = self.prices.iter().rev().find(|dated| dated.when.holds(at));
        let dated = dated.or(self.prices.first());
        let standard = dated.map_or(&self.rates, |dated| &dated.rates);
        let is_met = |(name, value): &(String, String)| terms.contains(&(name, value));
        let variants = self.variants.iter().rev().filter(|variant| {
            !terms.is_empty() && variant.when.holds(at) && variant.terms.iter().all(is_met)
        });
        // The first variant has the last word.
        variants.fold(standard.clone(), |rates, variant| variant.rates.over(&rates))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Usage;

    const NOW: Moment = Moment::from_seconds(1_795_000_000);
    const USAGE: Usage = Usage {
        input_tokens: 100,
        output_tokens: 10,
        cached_tokens: 0,
        cache_write_tokens: 0,
        reasoning_tokens: 0,
    };

    fn cost(book: &PriceBook, provider: &str, model: &str, terms: &[(&str, &str)]) -> Option<u64> {
        book.find(provider, model)?.rates(NOW, terms).cost(&USAGE, 0)
    }

    #[test]
    fn the_snapshot_can_be_read_and_is_small() {
        let book = PriceBook::read(SNAPSHOT).unwrap();
        assert!(book.made_from().starts_with("genai-prices "));
        assert!(book.providers.len() > 20 && SNAPSHOT.len() < 300_000, "{}", SNAPSHOT.len());
        assert_eq!(PriceBook::snapshot().made_from(), book.made_from());
    }

    #[test]
    fn providers_of_ours_have_prices() {
        for (provider, model) in [
            ("openai", "gpt-4o-mini"),
            ("anthropic", "claude-sonnet-4-5"),
            ("gemini", "gemini-2.5-flash"),
            ("openrouter", "openai/gpt-4o-mini"),
            ("groq", "llama-3.3-70b-versatile"),
            ("mistral", "mistral-large-latest"),
            ("deepseek", "deepseek-chat"),
            ("xai", "grok-4"),
            ("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
            ("cerebras", "gpt-oss-120b"),
            ("azure", "gpt-4o-mini"),
        ] {
            let cost = cost(PriceBook::snapshot(), provider, model, &[]);
            assert!(cost.is_some_and(|cost| cost > 0), "{provider} {model} {cost:?}");
        }
    }

    #[test]
    fn models_come_in_order_and_then_from_elsewhere() {
        let book = PriceBook::read(
            r#"{"made_from":"x","providers":[
                {"id":"a","else":["b"],"models":[{"match":"=m","rates":[]},{"match":"^m","rates":[1,1]}]},
                {"id":"b","else":["a"],"models":[{"match":"=n-2025-01-02","rates":[2,2]}]}]}"#,
        )
        .unwrap();
        assert_eq!(cost(&book, "a", "m", &[]), None);
        assert_eq!(cost(&book, "a", "M2", &[]), Some(110));
        assert_eq!(cost(&book, "a", "n-20250102", &[]), Some(220));
        assert_eq!(cost(&book, "b", "m2", &[]), Some(110));
        assert_eq!(cost(&book, "c", "m", &[]), None);
    }

    #[test]
    fn the_last_price_that_holds_counts_and_terms_are_laid_over_it() {
        let book = PriceBook::read(
            r#"{"made_from":"x","providers":[{"id":"a","models":[{"match":"=m",
                "prices":[{"rates":[1,1]},{"rates":[3,3],"from":"2026-01-01"},{"rates":[9,9],"from":"2036-01-01"}],
                "variants":[
                    {"terms":[["tier","flex"],["speed","fast"]],"rates":[null,7]},
                    {"terms":[["tier","flex"]],"rates":[2,2]},
                    {"terms":[["tier","late"]],"rates":[8,8],"from":"2036-01-01"}]}]}]}"#,
        )
        .unwrap();
        for (terms, expected) in [
            (&[][..], 330),
            (&[("tier", "flex")], 220),
            (&[("speed", "fast"), ("tier", "flex")], 270),
            (&[("tier", "late")], 330),
            (&[("tier", "other")], 330),
        ] {
            assert_eq!(cost(&book, "a", "m", terms), Some(expected), "{terms:?}");
        }
        let early = book.find("a", "m").unwrap().rates(Moment::EPOCH, &[]);
        assert_eq!(early.cost(&USAGE, 0), Some(110));
    }
}
