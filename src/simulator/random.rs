//! A seeded random generator.

/// A small generator (splitmix64): the same seed gives the same run, on every machine.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    /// A generator that starts at `seed`.
    pub(super) fn new(seed: u64) -> Self {
        Random { state: seed }
    }

    /// The next 64 bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        scatter(self.state)
    }

    /// A number in 0..1.
    pub(super) fn fraction(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number between two others, both included.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        if high <= low {
            return low;
        }
        // A slight bias towards low numbers does no harm here.
        low + self.bits() % (high - low).saturating_add(1).max(1)
    }
}

/// Spreads one number over all 64 bits.
fn scatter(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// A number that stands for a text, the same in every run.
pub(super) fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0x51_7C_C1_B7, |hash, byte| scatter(hash ^ u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence_and_another_seed_another() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..5).map(|_| random.bits()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn numbers_stay_in_their_range_and_reach_both_ends() {
        let mut random = Random::new(1);
        let drawn: Vec<u64> = (0..1_000).map(|_| random.between(3, 7)).collect();
        assert!(drawn.iter().all(|number| (3..=7).contains(number)));
        assert!(drawn.contains(&3) && drawn.contains(&7));
        assert!((0..1_000).all(|_| (0.0..1.0).contains(&random.fraction())));
    }
}
