//! Output sizes: the distribution of the answer lengths of one model.

use serde::{Deserialize, Serialize};

/// Answer lengths of one model, in a histogram of half powers of two whose old entries fade.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct OutputSizes {
    counts: Vec<u32>,
    /// Of the last few hundred.
    mean: f32,
}

/// Files that knew no mean hold only the counts.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Counts(Vec<u32>),
    Both { counts: Vec<u32>, mean: f32 },
}

impl From<Stored> for OutputSizes {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Both { counts, mean } => OutputSizes { counts, mean },
            Stored::Counts(counts) => {
                let mut sizes = OutputSizes { counts: Vec::new(), mean: 0.0 };
                for (bin, count) in counts.iter().enumerate() {
                    (0..*count).for_each(|_| sizes.record(upper_edge(bin)));
                }
                sizes
            }
        }
    }
}

/// How long an answer of a model is thought to be of which nothing is known.
pub const USUAL_OUTPUT: u64 = 256;

/// When this many answers are counted all counts are halved, so that the last few hundred decide.
const FADES_AT: u32 = 512;
/// Longer than 2^30 tokens is as long as that.
const LAST_BIN: usize = 60;
/// So many answers the mean is judged by.
const RECENT: u32 = 512;
/// Below this many answers nothing is claimed.
const ENOUGH: u32 = 8;

/// `ceil(2^(bin / 2))`, in whole numbers.
fn upper_edge(bin: usize) -> u64 {
    let power = 1_u64 << (bin / 2);
    if bin.is_multiple_of(2) { power } else { (power * power * 2).isqrt() + 1 }
}

impl OutputSizes {
    /// Remembers one answer of `tokens` tokens.
    pub fn record(&mut self, tokens: u64) {
        let bin = (0..LAST_BIN).find(|bin| upper_edge(*bin) >= tokens).unwrap_or(LAST_BIN);
        if self.counts.len() <= bin {
            self.counts.resize(bin + 1, 0);
        }
        self.counts[bin] += 1;
        let total = self.counts.iter().sum::<u32>();
        self.mean += (tokens as f32 - self.mean) / total.min(RECENT) as f32;
        if total >= FADES_AT {
            self.counts.iter_mut().for_each(|count| *count /= 2);
        }
    }

    /// Counts the answers that `other` counted as well.
    pub fn absorb(&mut self, other: &OutputSizes) {
        let (ours, theirs) = (self.seen(), other.seen());
        if theirs == 0 {
            return;
        }
        let all = f64::from(ours) + f64::from(theirs);
        let sum =
            f64::from(self.mean) * f64::from(ours) + f64::from(other.mean) * f64::from(theirs);
        self.mean = (sum / all) as f32;
        self.counts.resize(self.counts.len().max(other.counts.len()), 0);
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
        while self.seen() >= FADES_AT {
            self.counts.iter_mut().for_each(|count| *count /= 2);
        }
    }

    /// A length that no answer so far exceeded; `None` before the first.
    pub fn longest(&self) -> Option<u64> {
        self.counts.iter().rposition(|count| *count > 0).map(upper_edge)
    }

    /// How long an answer is on average, judged by the last few hundred; `None` before the first.
    pub fn mean(&self) -> Option<u64> {
        (!self.counts.is_empty()).then(|| self.mean.round() as u64)
    }

    /// A length that 95 of 100 answers do not exceed; `None` while too few are known.
    ///
    /// ```
    /// use quotaflow::kernel::OutputSizes;
    /// let mut sizes = OutputSizes::default();
    /// assert_eq!(sizes.p95(), None);
    /// (0..100).for_each(|n| sizes.record(if n < 97 { 60 } else { 4_000 }));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_that_of_the_answers_and_survives_the_file() {
        let mut sizes = OutputSizes::default();
        assert_eq!(sizes.mean(), None);
        (0..100).for_each(|n| sizes.record(20 + 4 * n));
        assert_eq!(sizes.mean(), Some(218));
        let kept = serde_json::to_string(&sizes).unwrap();
        assert_eq!(serde_json::from_str::<OutputSizes>(&kept).unwrap(), sizes);
    }

    #[test]
    fn two_are_one_as_if_all_answers_had_come_to_it() {
        let (mut first, mut second, mut both) =
            <(OutputSizes, OutputSizes, OutputSizes)>::default();
        for n in 0..120 {
            if n < 30 {
                first.record(n)
            } else {
                second.record(n * n)
            }
            both.record(if n < 30 { n } else { n * n });
        }
        first.absorb(&second);
        assert_eq!((first.seen(), first.p95(), first.mean()), (120, both.p95(), both.mean()));
        first.absorb(&OutputSizes::default());
        assert_eq!(first.seen(), 120);
    }

    #[test]
    fn files_without_a_mean_are_read() {
        let sizes: OutputSizes = serde_json::from_str("[0,0,10]").unwrap();
        assert_eq!((sizes.longest(), sizes.mean()), (Some(2), Some(2)));
    }
}
