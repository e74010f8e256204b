//! The input factor: tokens billed for each token estimated.
//!
//! A prompt is estimated by its length. Bills teach two numbers: the average of the last 64, and a bound that 95 of 100
//! prompts keep. The bound rises by 19 steps when a prompt exceeded it and falls by one when not. Reservations take the
//! bound, but never less than the estimate; plans and estimates of cost take the average. Prompts below 32 tokens teach
//! nothing. Counts by the model's own tokenizer are compared with bills in the same way: they are corrected where the
//! average is off by more than an eighth after four bills.

use serde::{Deserialize, Serialize};

/// How many tokens the prompts of one model are for each one estimated: the average, and a bound that 95 of 100 keep.
///
/// Both follow the last few hundred answers. Before the first one the estimate is the bound, and the average is what it
/// is without its [`SAFETY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u32, u32, u32)", into = "(u32, u32, u32)")]
pub struct InputFactor {
    /// How many answers taught it.
    seen: u32,
    /// Millionths.
    average: u32,
    /// Millionths.
    bound: u32,
}

/// An estimate holds this part more than is likely: too little is refused, too much only waits.
pub const SAFETY: u64 = 10;

const ONE: u32 = 1_000_000;
/// What is billed of an estimate before the first bill.
const LIKELY: u32 = (ONE as u64 * SAFETY / (SAFETY + 1)) as u32;
/// A prompt below this says more about its frame than about its words.
const SHORTEST: u64 = 32;
/// No tokenizer is this far from four characters a token; beyond it the bill speaks of something else (images).
const LEAST: u32 = ONE / 8;
const MOST: u32 = 8 * ONE;
/// A count is doubted after so many bills,
const DOUBTED_AFTER: u32 = 4;
/// if they differ from it by more than this on average: by less than that the frame of a message may be another one.
const BY_FAR: u32 = ONE / 8;
/// The average forgets over this many answers.
const AVERAGED: u32 = 64;
/// The bound falls by one part in this many with each answer below it, and rises by [`RISE`] such parts with each
/// above.
const STEPS: u32 = 512;
/// 19 up for 1 down stands still where one answer of twenty is above.
const RISE: u32 = 19;

impl Default for InputFactor {
    fn default() -> Self {
        InputFactor { seen: 0, average: LIKELY, bound: ONE }
    }
}

impl From<(u32, u32, u32)> for InputFactor {
    fn from((seen, average, bound): (u32, u32, u32)) -> Self {
        let sane = |part: u32| part.clamp(LEAST, MOST);
        if seen == 0 {
            return InputFactor::default();
        }
        InputFactor { seen, average: sane(average), bound: sane(bound) }
    }
}

impl From<InputFactor> for (u32, u32, u32) {
    fn from(factor: InputFactor) -> Self {
        (factor.seen, factor.average, factor.bound)
    }
}

impl InputFactor {
    /// Learns that a prompt estimated at `estimated` tokens was billed as `billed`. Returns whether that taught
    /// anything.
    pub fn record(&mut self, estimated: u64, billed: u64) -> bool {
        if estimated < SHORTEST || billed == 0 {
            return false;
        }
        let ratio = u128::from(billed) * u128::from(ONE) / u128::from(estimated);
        let ratio = u32::try_from(ratio).unwrap_or(MOST).clamp(LEAST, MOST);
        self.seen = self.seen.saturating_add(1);
        let weight = u64::from(self.seen.min(AVERAGED));
        let sum = u64::from(self.average) * (weight - 1) + u64::from(ratio);
        self.average = u32::try_from(sum / weight).unwrap_or(MOST);
        // The first answers move the bound in large steps, so that it gets there at all.
        let step = (self.bound / self.seen.saturating_mul(16).min(STEPS)).max(1);
        self.bound = if ratio > self.bound {
            let early = self.seen.saturating_mul(16) < STEPS;
            let raised = self.bound.saturating_add(step.saturating_mul(RISE));
            if early { raised.min(ratio) } else { raised }
        } else {
            self.bound.saturating_sub(step)
        };
        self.bound = self.bound.clamp(LEAST, MOST);
        true
    }

    /// How many answers taught it.
    pub fn seen(&self) -> u32 {
        self.seen
    }

    /// How many tokens a prompt of this estimate is, on average.
    ///
    /// ```
    /// use quotaflow::kernel::InputFactor;
    /// assert_eq!(InputFactor::default().expected(1_100), 1_000);
    /// ```
    pub fn expected(&self, estimated: u64) -> u64 {
        scaled(estimated, self.average)
    }

    /// Whether bills differ by far from what was counted, so that they come from another tokenizer.
    pub fn doubts_counts(&self) -> bool {
        self.seen >= DOUBTED_AFTER && self.average.abs_diff(ONE) > BY_FAR
    }

    /// What a prompt is billed as that was counted with the model's own tokenizer: the count itself, unless bills
    /// contradict it by far.
    ///
    /// ```
    /// use quotaflow::kernel::InputFactor;
    /// let mut factor = InputFactor::default();
    /// (0..20).for_each(|_| assert!(factor.record(1_000, 1_050)));
    /// assert_eq!(factor.of_count(500), 500);
    /// (0..200).for_each(|_| assert!(factor.record(1_000, 1_400)));
    /// assert!((690..=700).contains(&factor.of_count(500)));
    /// ```
    pub fn of_count(&self, counted: u64) -> u64 {
        if self.doubts_counts() { scaled(counted, self.average) } else { counted }
    }

    /// How many tokens a prompt of this estimate is at most, 95 times of 100: what to reserve for it. Never less than
    /// the estimate: what was too much comes back with the answer, and what was too little is refused.
    ///
    /// ```
    /// use quotaflow::kernel::InputFactor;
    /// let mut factor = InputFactor::default();
    /// assert_eq!(factor.bound(1_000), 1_000);
    /// (0..200).for_each(|_| assert!(factor.record(1_000, 1_300)));
    /// assert_eq!(factor.expected(1_000), 1_300);
    /// assert!((1_250..=1_400).contains(&factor.bound(1_000)));
    /// (0..500).for_each(|_| assert!(factor.record(1_000, 800)));
    /// assert!((800..=801).contains(&factor.expected(1_000)));
    /// assert_eq!(factor.bound(1_000), 1_000);
    /// ```
    pub fn bound(&self, estimated: u64) -> u64 {
        scaled(estimated, self.bound.max(ONE))
    }
}

fn scaled(tokens: u64, millionths: u32) -> u64 {
    let product = u128::from(tokens) * u128::from(millionths);
    u64::try_from(product.div_ceil(u128::from(ONE))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_prompts_and_empty_bills_teach_nothing() {
        let mut factor = InputFactor::default();
        assert!(!factor.record(SHORTEST - 1, 500) && !factor.record(1_000, 0));
        assert_eq!(factor, InputFactor::default());
    }

    #[test]
    fn a_bill_of_something_else_moves_it_to_the_edge_at_most() {
        let mut factor = InputFactor::default();
        (0..100).for_each(|_| assert!(factor.record(100, u64::MAX)));
        assert_eq!(factor.expected(100), 800);
        assert!(factor.bound(100) <= 800);
        assert_eq!(factor.bound(u64::MAX), u64::MAX);
    }

    #[test]
    fn what_was_stored_is_read_again_and_made_sane() {
        let mut factor = InputFactor::default();
        factor.record(1_000, 1_234);
        let text = serde_json::to_string(&factor).unwrap();
        assert_eq!(serde_json::from_str::<InputFactor>(&text).unwrap(), factor);
        let odd: InputFactor = serde_json::from_str("[3,0,4294967295]").unwrap();
        assert_eq!((odd.expected(800), odd.bound(100)), (100, 800));
    }

    proptest! {
        /// Whatever a tokenizer does, within the range that words have: after some hundred answers the average is the
        /// true one, nine of ten prompts keep the bound, and it is not far above the largest.
        #[test]
        fn it_converges_and_bounds(
            low in 400_u64..2_500,
            spread in 0_u64..1_200,
            seeds in prop::collection::vec(0_u64..1_000, 1_500),
        ) {
            let mut factor = InputFactor::default();
            let billed = |seed: &u64| low + spread * seed / 1_000;
            let (taught, recent) = seeds.split_at(1_000);
            taught.iter().for_each(|seed| { factor.record(1_000, billed(seed)); });
            let mut kept = 0;
            for seed in recent {
                kept += u32::from(billed(seed) <= factor.bound(1_000));
                factor.record(1_000, billed(seed));
            }
            prop_assert!(kept >= 450, "{kept} of 500");
            let true_average = recent.iter().map(billed).sum::<u64>() / 500;
            prop_assert!(factor.expected(1_000).abs_diff(true_average) <= true_average / 8);
            prop_assert!(factor.bound(1_000) <= (low + spread).max(1_000) * 110 / 100);
        }

        /// Two neighbours at the edge of what can happen leave it finite and in order.
        #[test]
        fn it_never_leaves_its_range(pairs in prop::collection::vec((any::<u64>(), any::<u64>()), 0..50)) {
            let mut factor = InputFactor::default();
            pairs.iter().for_each(|(estimated, billed)| { factor.record(*estimated, *billed); });
            prop_assert!((LEAST..=MOST).contains(&factor.average));
            prop_assert!((LEAST..=MOST).contains(&factor.bound));
        }
    }
}
