//! The engine's wall clock, which is not always right.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use quotaflow::engine::{Clock, Pause, TokioClock};
use quotaflow::kernel::Moment;

/// The wall clock of the machine the engine runs on: the true (virtual) time and an error that can be changed.
pub(crate) struct Watch {
    truth: TokioClock,
    wrong_by_millis: std::sync::Arc<AtomicI64>,
}

/// How often a sleeper looks at the clock again, as on a real machine.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

impl Watch {
    pub(crate) fn right(truth: TokioClock) -> Self {
        Watch { truth, wrong_by_millis: std::sync::Arc::default() }
    }

    /// Sets how far it is ahead of the true time; setting it lower steps the clock back.
    pub(crate) fn set_ahead_by(&self, millis: i64) {
        self.wrong_by_millis.store(millis, Ordering::Relaxed);
    }

    fn read(truth: TokioClock, wrong_by_millis: &AtomicI64) -> Moment {
        let wrong_by = wrong_by_millis.load(Ordering::Relaxed) * 1_000_000;
        Moment::from_nanos(truth.now().as_nanos() + wrong_by)
    }
}

impl Clock for Watch {
    fn now(&self) -> Moment {
        Watch::read(self.truth, &self.wrong_by_millis)
    }

    fn sleep_until(&self, moment: Moment) -> Pause {
        let (truth, wrong_by) = (self.truth, self.wrong_by_millis.clone());
        Box::pin(async move {
            loop {
                let left = moment.since(Watch::read(truth, &wrong_by));
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(LOOK_AGAIN)).await;
            }
        })
    }
}
