//! What will a call cost, as far as that can be told before it is sent?

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
