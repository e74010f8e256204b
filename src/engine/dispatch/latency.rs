//! The recent latency of a target: a running mean over its last answers.

use std::time::Duration;

/// The mean of recent latencies. Calls that begin together end in the order of their slowness, the slowest last. So
/// many are averaged that all calls of one moment count together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RecentLatency {
    seen: u32,
    /// In seconds.
    mean: f64,
}

impl RecentLatency {
    /// How many answers decide.
    const RECENT: u32 = 256;

    pub(super) fn record(&mut self, lasted: Duration) {
        self.seen = self.seen.saturating_add(1).min(Self::RECENT);
        self.mean += (lasted.as_secs_f64() - self.mean) / f64::from(self.seen);
    }

    pub(super) fn mean(&self) -> Option<Duration> {
        (self.seen > 0).then(|| Duration::from_secs_f64(self.mean.max(0.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_habit_is_not_that_of_the_slowest_who_come_last() {
        let mut habit = RecentLatency::default();
        assert_eq!(habit.mean(), None);
        (1..=200).for_each(|tenths| habit.record(Duration::from_millis(100 * tenths)));
        let mean = habit.mean().unwrap().as_secs_f64();
        assert!((10.0..10.1).contains(&mean), "{mean}");
        // Later latencies count more.
        (0..1_500).for_each(|_| habit.record(Duration::from_secs(1)));
        assert!(habit.mean().unwrap() < Duration::from_millis(1_100));
    }
}
