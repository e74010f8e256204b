//! The gauge of a batch: how many calls wait, for what, and the lost time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::engine::world::clock::Clock;
use crate::kernel::{Moment, Obstacle, Refusal, Resource};

/// Where the calls of one batch record their waits.
#[derive(Debug, Default)]
pub struct Gauge(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: usize,
    /// What is waited for, and since when that is counted.
    obstacle: Option<(String, Moment)>,
    lost: BTreeMap<String, Duration>,
}

/// What a gauge shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Calls that wait for quota, for a turn, or for the end of a pause.
    pub waiting: usize,
    /// What they wait for; `None` while none waits.
    pub obstacle: Option<String>,
    /// For how long at least one call waited, by obstacle. Many that wait at the same time count once.
    pub lost: BTreeMap<String, Duration>,
}

impl Gauge {
    /// What it shows now.
    pub fn read(&self, now: Moment) -> Reading {
        let mut state = self.0.lock();
        state.count(now);
        Reading {
            waiting: state.waiting,
            obstacle: state.obstacle.as_ref().map(|(obstacle, _)| obstacle.clone()),
            lost: state.lost.clone(),
        }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.0.lock().waiting
    }

    fn begins(&self, reason: Option<String>, now: Moment) {
        let mut state = self.0.lock();
        state.waiting += 1;
        if let Some(reason) = reason {
            state.is_held_up_by(reason, now);
        } else if state.obstacle.is_none() {
            state.obstacle = Some((OTHERS.to_owned(), now));
        }
    }

    fn ends(&self, now: Moment) {
        let mut state = self.0.lock();
        state.waiting = state.waiting.saturating_sub(1);
        if state.waiting == 0 {
            state.count(now);
            state.obstacle = None;
        }
    }
}

/// The obstacle of a call that joins a line, until the head of the line records its own.
const OTHERS: &str = "calls before it";

impl State {
    /// Adds what passed since it was counted last.
    fn count(&mut self, now: Moment) {
        let Some((obstacle, since)) = &mut self.obstacle else { return };
        let passed = now.since(*since);
        *since = now.max(*since);
        match self.lost.get_mut(obstacle) {
            Some(lost) => *lost += passed,
            None => {
                self.lost.insert(obstacle.clone(), passed);
            }
        }
    }

    fn is_held_up_by(&mut self, reason: String, now: Moment) {
        if self.obstacle.as_ref().is_some_and(|(known, _)| *known == reason) {
            return;
        }
        self.count(now);
        self.obstacle = Some((reason, now));
    }
}

/// One call's access to the gauge of its batch.
#[derive(Debug, Default)]
pub struct Watch {
    gauge: Arc<Gauge>,
    sent: AtomicBool,
}

impl Watch {
    /// A watch over a call that was not sent yet.
    pub fn new(gauge: Arc<Gauge>) -> Self {
        Watch { gauge, sent: AtomicBool::new(false) }
    }

    /// Whether anything of it was sent.
    pub fn was_sent(&self) -> bool {
        self.sent.load(Ordering::Acquire)
    }

    pub(in crate::engine) fn is_sent(&self) {
        self.sent.store(true, Ordering::Release);
    }

    pub(in crate::engine) fn is_held_up_by(&self, reason: String, now: Moment) {
        self.gauge.0.lock().is_held_up_by(reason, now);
    }
}

/// A call that waits, until this is dropped.
pub(in crate::engine) struct Waits {
    watch: Arc<Watch>,
    clock: Arc<dyn Clock>,
}

impl Waits {
    pub(in crate::engine) fn begin(
        watch: Arc<Watch>,
        clock: Arc<dyn Clock>,
        reason: Option<String>,
    ) -> Self {
        watch.gauge.begins(reason, clock.now());
        Waits { watch, clock }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.watch.gauge.ends(self.clock.now());
    }
}

/// The obstacle in words that stay the same while it lasts: without amounts that may be learned anew, without a time.
pub(in crate::engine) fn named(refusal: &Refusal, target: &str) -> String {
    let kind = kind_of(&refusal.obstacle);
    if refusal.is_by_user() { format!("{kind} of its user") } else { format!("{kind} at {target}") }
}

fn kind_of(obstacle: &Obstacle) -> String {
    match obstacle {
        Obstacle::Limit { limit, .. } | Obstacle::TooLarge { limit, .. } => match limit.resource {
            Resource::Spend => format!("cost per {}", limit.period),
            resource => format!("{resource} per {}", limit.period),
        },
        Obstacle::Concurrency { .. } => "calls in flight".to_owned(),
        Obstacle::Block(block) => block.class.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Gauge;
    use crate::kernel::Moment;

    #[test]
    fn many_that_wait_at_once_lose_the_time_once() {
        let gauge = Gauge::default();
        let at = Moment::from_seconds;
        gauge.begins(Some("a".to_owned()), at(10));
        gauge.begins(None, at(11));
        assert_eq!(gauge.read(at(14)).lost["a"], Duration::from_secs(4));
        gauge.begins(Some("b".to_owned()), at(15));
        for end in [16, 17, 20] {
            gauge.ends(at(end));
        }
        let reading = gauge.read(at(90));
        assert_eq!((reading.waiting, reading.obstacle), (0, None));
        assert_eq!(reading.lost["a"], Duration::from_secs(5));
        assert_eq!(reading.lost["b"], Duration::from_secs(5));
    }
}
