//! The clock: the time of day, and waiting until a moment.
//!
//! This is the only file that reads the machine's clock.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::kernel::Moment;

/// A future without a lifetime that can move between threads.
pub type Pause = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Tells the time and waits.
pub trait Clock: Send + Sync {
    /// The wall clock.
    fn now(&self) -> Moment;
    /// Ends at `moment` or a little later; at once when that is past.
    fn sleep_until(&self, moment: Moment) -> Pause;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// A wait is cut into pieces of this length, so that a clock that is set during it is noticed.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Moment {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Moment::EPOCH + since.unwrap_or_default()
    }

    fn sleep_until(&self, moment: Moment) -> Pause {
        let clock = *self;
        Box::pin(async move {
            loop {
                let left = moment.since(clock.now());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(LOOK_AGAIN)).await;
            }
        })
    }
}

/// A clock that stands at `start` when it is made and then follows tokio's, which tests can pause.
///
/// Simulated days pass in milliseconds on it (`#[tokio::test(start_paused = true)]`).
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    start: Moment,
    began: tokio::time::Instant,
}

impl TokioClock {
    /// A clock that reads `start` now. Must be made inside a tokio runtime.
    pub fn starting_at(start: Moment) -> Self {
        TokioClock { start, began: tokio::time::Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Moment {
        self.start + self.began.elapsed()
    }

    fn sleep_until(&self, moment: Moment) -> Pause {
        Box::pin(tokio::time::sleep_until(self.began + moment.since(self.start)))
    }
}
