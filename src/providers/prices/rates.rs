//! Rates: the cost of tokens at given prices.

use serde::Deserialize;

use crate::kernel::Usage;

/// Picodollars in a US dollar.
pub const PICODOLLARS: u64 = 1_000_000_000_000;

/// What one unit costs, in picodollars.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Price {
    /// Always.
    Flat(u64),
    /// By the length of the whole prompt: above the start of a tier, each unit costs what that says, the first too.
    Tiered { base: u64, tiers: Vec<(u64, u64)> },
}

impl Price {
    fn for_prompt_of(&self, input_tokens: u64) -> u64 {
        match self {
            Price::Flat(price) => *price,
            Price::Tiered { base, tiers } => tiers
                .iter()
                .rev()
                .find(|(start, _)| input_tokens > *start)
                .map_or(*base, |(_, price)| *price),
        }
    }
}

/// The places of the prices in [`Rates`].
const INPUT: usize = 0;
const OUTPUT: usize = 1;
const CACHED: usize = 2;
const WRITTEN: usize = 3;
const WRITTEN_FOR_AN_HOUR: usize = 4;
const REASONING: usize = 5;
const CALL: usize = 6;

/// What a model's tokens cost, each kind by itself. A kind without a price of its own costs what its whole does: cached
/// and written input as input, thinking as output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Rates(pub(super) Vec<Option<Price>>);

impl Rates {
    /// Rates in US dollars for a million tokens: input, output, cached input, input written to the cache, thinking; and
    /// for one call. Fractions of a picodollar are rounded.
    ///
    /// ```
    /// use quotaflow::kernel::Usage;
    /// use quotaflow::providers::prices::Rates;
    /// let rates = Rates::of(2.5, 10.0, Some(1.25), None, None, None);
    /// let usage = Usage { input_tokens: 1_000, cached_tokens: 400, output_tokens: 100, ..Usage::default() };
    /// assert_eq!(rates.cost(&usage, 0), Some(600 * 2_500_000 + 400 * 1_250_000 + 100 * 10_000_000));
    /// ```
    pub fn of(
        input: f64,
        output: f64,
        cached: Option<f64>,
        written: Option<f64>,
        reasoning: Option<f64>,
        call: Option<f64>,
    ) -> Rates {
        let token = |dollars: f64| Price::Flat(whole(dollars * PICODOLLARS as f64 / 1e6));
        Rates(vec![
            Some(token(input)),
            Some(token(output)),
            cached.map(token),
            written.map(token),
            None,
            reasoning.map(token),
            call.map(|dollars| Price::Flat(whole(dollars * PICODOLLARS as f64))),
        ])
    }

    /// What these tokens cost in picodollars; `written_for_an_hour` is the part of the written ones that stays for an
    /// hour (Anthropic). `None` when tokens have no price here (models of speech, of pictures).
    ///
    /// Parts that are more than their whole are taken as they are: a price is due for what a bill names.
    pub fn cost(&self, usage: &Usage, written_for_an_hour: u64) -> Option<u64> {
        if self.price(INPUT).is_none() && self.price(OUTPUT).is_none() {
            return None;
        }
        let part = |place, tokens| if self.price(place).is_some() { tokens } else { 0 };
        let for_an_hour = part(WRITTEN_FOR_AN_HOUR, written_for_an_hour);
        let written = part(WRITTEN, usage.cache_write_tokens.saturating_sub(for_an_hour));
        let cached = part(CACHED, usage.cached_tokens);
        let reasoning = part(REASONING, usage.reasoning_tokens);
        let elsewhere = for_an_hour.saturating_add(written).saturating_add(cached);
        let counts = [
            (INPUT, usage.input_tokens.saturating_sub(elsewhere)),
            (OUTPUT, usage.output_tokens.saturating_sub(reasoning)),
            (CACHED, cached),
            (WRITTEN, written),
            (WRITTEN_FOR_AN_HOUR, for_an_hour),
            (REASONING, reasoning),
            (CALL, 1),
        ];
        let cost: u128 = counts
            .iter()
            .filter_map(|(place, count)| {
                let price = self.price(*place)?.for_prompt_of(usage.input_tokens);
                Some(u128::from(price) * u128::from(*count))
            })
            .sum();
        Some(u64::try_from(cost).unwrap_or(u64::MAX))
    }

    /// These rates where `other` says nothing.
    pub(super) fn over(&self, other: &Rates) -> Rates {
        let length = self.0.len().max(other.0.len());
        Rates((0..length).map(|place| self.price(place).or(other.price(place)).cloned()).collect())
    }

    fn price(&self, place: usize) -> Option<&Price> {
        self.0.get(place)?.as_ref()
    }
}

/// The nearest whole number; nothing for what is none.
fn whole(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn usage(input: u64, output: u64, cached: u64, written: u64, reasoning: u64) -> Usage {
        Usage {
            input_tokens: input,
            output_tokens: output,
            cached_tokens: cached,
            cache_write_tokens: written,
            reasoning_tokens: reasoning,
        }
    }

    fn read(rates: &str) -> Rates {
        serde_json::from_str(rates).unwrap()
    }

    #[test]
    fn a_tier_holds_for_the_whole_prompt_and_begins_above_its_start() {
        let rates =
            read(r#"[{"base":2,"tiers":[[100,4],[200,6]]},{"base":10,"tiers":[[100,20]]}]"#);
        for (input, cost) in [(100, 200 + 10), (101, 404 + 20), (200, 800 + 20), (201, 1_206 + 20)]
        {
            assert_eq!(rates.cost(&usage(input, 1, 0, 0, 0), 0), Some(cost), "{input}");
        }
    }

    #[test]
    fn each_kind_is_billed_once_at_its_own_price() {
        let rates = read("[100,1000,10,125,200,3000,7]");
        let all = usage(1_000, 50, 300, 200, 20);
        let cost = 500 * 100 + 300 * 10 + 120 * 125 + 80 * 200 + 30 * 1_000 + 20 * 3_000 + 7;
        assert_eq!(rates.cost(&all, 80), Some(cost));
    }

    #[test]
    fn what_has_no_price_of_its_own_costs_what_its_whole_does() {
        let all = usage(1_000, 50, 300, 200, 20);
        assert_eq!(read("[100,1000]").cost(&all, 80), Some(1_000 * 100 + 50 * 1_000));
    }

    #[test]
    fn a_model_without_prices_for_tokens_has_no_cost() {
        for rates in ["[]", "[null,null,null,null,null,null,5]"] {
            assert_eq!(read(rates).cost(&usage(10, 10, 0, 0, 0), 0), None);
        }
        assert_eq!(read("[0,0]").cost(&usage(10, 10, 0, 0, 0), 0), Some(0));
    }

    proptest! {
        /// A bill is the sum of its parts, never falls when something is added, and never wraps.
        #[test]
        fn bills_add_up(
            input in 0_u64..1_000_000, output in 0_u64..1_000_000, share in 0_u64..=100,
            rates in prop::collection::vec(prop::option::of(0_u64..1_000_000_000), 2..7),
        ) {
            let priced = Rates(rates.iter().map(|price| price.map(Price::Flat)).collect());
            let once = usage(input, output, input * share / 300, input * share / 300, output * share / 100);
            let part = once.cache_write_tokens / 2;
            match priced.cost(&once, part) {
                None => prop_assert!(rates[0].is_none() && rates[1].is_none()),
                Some(cost) => {
                    let twice = usage(
                        input * 2, output * 2, once.cached_tokens * 2, once.cache_write_tokens * 2,
                        once.reasoning_tokens * 2,
                    );
                    prop_assert_eq!(priced.cost(&twice, part * 2), Some(cost * 2));
                    let more = Usage { output_tokens: output + 1, ..once };
                    prop_assert!(priced.cost(&more, part) >= Some(cost));
                }
            }
        }

        #[test]
        fn nothing_wraps(input: u64, output: u64, cached: u64, written: u64, hour: u64) {
            let rates = read("[1000000000,1000000000,1000000000,1000000000,1000000000]");
            let cost = rates.cost(&usage(input, output, cached, written, 0), hour).unwrap();
            prop_assert!(cost >= input.max(output));
        }
    }
}
