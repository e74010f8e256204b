//! The state that all connections of the simulator share, with its clock.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use super::decide::Simulator;
use super::request::Directory;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) simulator: Mutex<Simulator>,
    pub(super) directory: Arc<Directory>,
    pub(super) clock: Clock,
}

impl Shared {
    /// Starts the clock of a simulator.
    pub(super) fn new(mut simulator: Simulator) -> Self {
        let clock = Clock::new();
        simulator.start(clock.started_at);
        let directory = simulator.directory();
        Shared { simulator: Mutex::new(simulator), directory, clock }
    }
}

/// The wall clock at the start, and from then on only forward: a simulator that steps back would refuse wrongly.
#[derive(Debug)]
pub(super) struct Clock {
    started: Instant,
    started_at: i64,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the simulator keeps its own time, or it would share the clock of the code under test"
)]
impl Clock {
    fn new() -> Self {
        let since_epoch =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Clock { started: Instant::now(), started_at: nanos(since_epoch) }
    }

    pub(super) fn now(&self) -> i64 {
        self.started_at
            .saturating_add(nanos(Instant::now().saturating_duration_since(self.started)))
    }
}

fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}
