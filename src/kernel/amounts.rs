//! Amounts: what calls take from limits, what providers bill, what it costs.

use serde::{Deserialize, Serialize};

use super::limits::Resource;

/// What a call will take, or has taken, from every limit of its lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amounts {
    /// Calls; one for each attempt.
    pub requests: u64,
    /// Tokens of the prompt that count against an input or a total limit.
    pub input_tokens: u64,
    /// Tokens of the answer that count against an output or a total limit.
    pub output_tokens: u64,
    /// Millionths of a US dollar; nothing where no money is limited, or the price is unknown.
    #[serde(default)]
    pub spend: u64,
}

impl Amounts {
    /// How much of `resource` this is.
    ///
    /// ```
    /// use quotaflow::kernel::{Amounts, Resource};
    /// let amounts = Amounts { requests: 1, input_tokens: 30, output_tokens: 12, spend: 0 };
    /// assert_eq!(amounts.of(Resource::Tokens), 42);
    /// ```
    pub fn of(&self, resource: Resource) -> u64 {
        match resource {
            Resource::Requests => self.requests,
            Resource::Tokens => self.input_tokens.saturating_add(self.output_tokens),
            Resource::InputTokens => self.input_tokens,
            Resource::OutputTokens => self.output_tokens,
            Resource::Concurrency => 1,
            Resource::Spend => self.spend,
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Amounts) -> Amounts {
        Amounts {
            requests: self.requests.saturating_add(other.requests),
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            spend: self.spend.saturating_add(other.spend),
        }
    }

    /// What is left without `other`; nothing is less than none.
    #[must_use]
    pub fn minus(&self, other: &Amounts) -> Amounts {
        Amounts {
            requests: self.requests.saturating_sub(other.requests),
            input_tokens: self.input_tokens.saturating_sub(other.input_tokens),
            output_tokens: self.output_tokens.saturating_sub(other.output_tokens),
            spend: self.spend.saturating_sub(other.spend),
        }
    }
}

/// What a provider billed for one answer.
///
/// `input_tokens` is the whole input, cached tokens included; `output_tokens` includes thinking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The whole input.
    pub input_tokens: u64,
    /// Everything the model produced.
    pub output_tokens: u64,
    /// The part of the input that came from the provider's prompt cache.
    pub cached_tokens: u64,
    /// The part of the input that was written to the provider's prompt cache.
    pub cache_write_tokens: u64,
    /// The part of the output that was thinking.
    pub reasoning_tokens: u64,
}

impl Usage {
    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Usage) -> Usage {
        Usage {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cached_tokens: self.cached_tokens.saturating_add(other.cached_tokens),
            cache_write_tokens: self.cache_write_tokens.saturating_add(other.cache_write_tokens),
            reasoning_tokens: self.reasoning_tokens.saturating_add(other.reasoning_tokens),
        }
    }
}

/// What the tokens of one call cost, in picodollars (10⁻¹² US dollars): the price of its model for a prompt of its
/// length. The engine makes it from a price book; it is an estimate, the bill decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// The call itself.
    pub call: u64,
    /// Each token of the prompt.
    pub input: u64,
    /// Each token of the answer.
    pub output: u64,
}

/// Picodollars in a millionth of a dollar.
const MICRODOLLAR: u128 = 1_000_000;

impl Price {
    /// What a call of so many tokens costs, in millionths of a US dollar, rounded up.
    ///
    /// ```
    /// use quotaflow::kernel::Price;
    /// let price = Price { call: 0, input: 2_500_000, output: 10_000_000 };
    /// assert_eq!((price.spend(1_000, 100), price.spend(1, 0)), (3_500, 3));
    /// ```
    pub fn spend(&self, input_tokens: u64, output_tokens: u64) -> u64 {
        let of = |each: u64, tokens: u64| u128::from(each) * u128::from(tokens);
        let cost =
            u128::from(self.call) + of(self.input, input_tokens) + of(self.output, output_tokens);
        u64::try_from(cost.div_ceil(MICRODOLLAR)).unwrap_or(u64::MAX)
    }
}
