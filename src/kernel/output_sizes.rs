//! How long will an answer be, judged by the answers that came before?

use serde::{Deserialize, Serialize};

/// Answer lengths of one model, in a histogram of half powers of two whose old entries fade.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OutputSizes {
    counts: Vec<u32>,
}

/// When this many answers are counted all counts are halved, so that the last few hundred decide.
const FADES_AT: u32 = 512;
/// Longer than 2^30 tokens is as long as that.
const LAST_BIN: usize = 60;
/// Below this many answers nothing is claimed.
const ENOUGH: u32 = 8;

/// `ceil(2^(bin / 2))`, in whole numbers.
fn upper_edge(bin: usize) -> u64 {
    let power = 1_u64 << (bin / 2);
    if bin.is_multiple_of(2) { power } else { (power * power * 2).isqrt() + 1 }
}

impl OutputSizes {
    /// Remembers one answer of `tokens` tokens.
    pub fn saw(&mut self, tokens: u64) {
        let bin = (0..LAST_BIN).find(|bin| upper_edge(*bin) >= tokens).unwrap_or(LAST_BIN);
        if self.counts.len() <= bin {
            self.counts.resize(bin + 1, 0);
        }
        self.counts[bin] += 1;
        if self.counts.iter().sum::<u32>() >= FADES_AT {
            self.counts.iter_mut().for_each(|count| *count /= 2);
        }
    }

    /// A length that no answer so far exceeded; `None` before the first.
    pub fn longest(&self) -> Option<u64> {
        self.counts.iter().rposition(|count| *count > 0).map(upper_edge)
    }

    /// A length that 95 of 100 answers do not exceed; `None` while too few are known.
    ///
    /// ```
    /// use quotaflow::kernel::OutputSizes;
    /// let mut sizes = OutputSizes::default();
    /// assert_eq!(sizes.p95(), None);
    /// (0..100).for_each(|n| sizes.saw(if n < 97 { 60 } else { 4_000 }));
    /// assert_eq!(sizes.p95(), Some(64));
    /// assert_eq!(sizes.median(), Some(64));
    /// ```
    pub fn p95(&self) -> Option<u64> {
        self.not_exceeded_by(self.seen() - self.seen() / 20)
    }

    /// A length that half of the answers do not exceed; `None` while too few are known.
    pub fn median(&self) -> Option<u64> {
        self.not_exceeded_by(self.seen().div_ceil(2))
    }

    /// How many answers are counted.
    pub fn seen(&self) -> u32 {
        self.counts.iter().sum()
    }

    fn not_exceeded_by(&self, answers: u32) -> Option<u64> {
        if self.seen() < ENOUGH {
            return None;
        }
        let mut left = answers;
        for (bin, count) in self.counts.iter().enumerate() {
            if *count >= left {
                return Some(upper_edge(bin));
            }
            left -= count;
        }
        None
    }
}
