//! Suspicion of a shared quota: keys that are always refused together.
//!
//! Two keys of different groups are reported when one was refused three times while the other was refused, and never
//! served then. Nothing is merged on suspicion; the user puts the keys into one group.

use std::collections::BTreeMap;

use crate::kernel::moment::Moment;

/// What was seen of the keys of one target, two by two.
///
/// While one key is refused, another one is tried. If that is served, the two do not share a quota; if it is refused
/// too, each time and never served, they probably do.
#[derive(Clone, Debug, Default)]
pub struct SharedQuotaSuspicion {
    /// Keys that are refused, and until when.
    refused: Vec<(usize, Moment)>,
    pairs: BTreeMap<(usize, usize), Seen>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    together: u32,
    apart: u32,
}

/// As often as this, without a single exception, is no coincidence.
const ENOUGH: u32 = 3;

impl SharedQuotaSuspicion {
    /// Whether any key is refused, so that an answer to another one means something.
    pub fn is_watching(&self) -> bool {
        !self.refused.is_empty()
    }

    /// `key` was refused for quota and stays so until then.
    pub fn refused(&mut self, key: usize, until: Moment, now: Moment) {
        self.forget_ended(now);
        // Several calls of one burst are refused for one reason: that counts once.
        if !self.refused.iter().any(|(known, _)| *known == key) {
            for (other, _) in &self.refused {
                self.pairs.entry(pair(key, *other)).or_default().together += 1;
            }
        }
        self.refused.retain(|(known, _)| *known != key);
        self.refused.push((key, until));
    }

    /// `key` was served at `now`.
    pub fn served(&mut self, key: usize, now: Moment) {
        self.forget_ended(now);
        for (other, _) in self.refused.iter().filter(|(other, _)| *other != key) {
            self.pairs.entry(pair(key, *other)).or_default().apart += 1;
        }
    }

    fn forget_ended(&mut self, now: Moment) {
        self.refused.retain(|(_, until)| *until > now);
    }

    /// The pairs that were refused together at least three times and never apart, and how often.
    ///
    /// ```
    /// use quotaflow::kernel::{Moment, SharedQuotaSuspicion};
    /// let mut suspects = SharedQuotaSuspicion::default();
    /// for minute in 0..3 {
    ///     let now = Moment::from_seconds(1_800_000_000 + 60 * minute);
    ///     let until = Moment::from_seconds(1_800_000_030 + 60 * minute);
    ///     suspects.refused(0, until, now);
    ///     suspects.refused(2, until, now);
    /// }
    /// assert_eq!(suspects.pairs().collect::<Vec<_>>(), [(0, 2, 3)]);
    /// ```
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize, u32)> {
        self.pairs
            .iter()
            .filter(|(_, seen)| seen.together >= ENOUGH && seen.apart == 0)
            .map(|((one, other), seen)| (*one, *other, seen.together))
    }
}

const fn pair(one: usize, other: usize) -> (usize, usize) {
    if one < other { (one, other) } else { (other, one) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Moment {
        Moment::from_seconds(1_800_000_000 + seconds)
    }

    #[test]
    fn one_answer_while_the_other_is_refused_clears_both() {
        let mut suspects = SharedQuotaSuspicion::default();
        for round in 0..5 {
            suspects.refused(0, at(100 * round + 50), at(100 * round));
            suspects.refused(1, at(100 * round + 50), at(100 * round + 1));
        }
        assert_eq!(suspects.pairs().count(), 1);
        suspects.refused(0, at(650), at(600));
        suspects.served(1, at(610));
        assert_eq!(suspects.pairs().count(), 0);
    }

    #[test]
    fn refusals_at_different_times_prove_nothing() {
        let mut suspects = SharedQuotaSuspicion::default();
        for round in 0..5 {
            suspects.refused(0, at(100 * round + 10), at(100 * round));
            suspects.refused(1, at(100 * round + 60), at(100 * round + 50));
        }
        assert_eq!(suspects.pairs().count(), 0);
    }

    #[test]
    fn an_answer_after_the_others_block_ended_proves_nothing_either() {
        let mut suspects = SharedQuotaSuspicion::default();
        for round in 0..3 {
            suspects.refused(0, at(100 * round + 10), at(100 * round));
            suspects.refused(1, at(100 * round + 10), at(100 * round));
            suspects.served(1, at(100 * round + 20));
        }
        assert_eq!(suspects.pairs().collect::<Vec<_>>(), [(0, 1, 3)]);
    }
}
