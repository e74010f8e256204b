//! Back-off: calls that pause after a failure before they try again.
//!
//! A call that pauses holds nothing and stands in no line. It is remembered here so that it can be listed and cancelled
//! like a waiting call.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::users::User;
use crate::engine::world::clock::Clock;
use crate::kernel::{Amounts, Moment};

/// What a call that pauses waits for, in words.
pub(in crate::engine) const A_PAUSE: &str = "a pause after a failure";

/// The calls that pause before one target, by the end of their pause.
#[derive(Debug, Default)]
pub(crate) struct Resting {
    sleepers: BTreeMap<(Moment, u64), Sleeper>,
    arrivals: u64,
}

/// A call that pauses.
#[derive(Debug)]
pub(in crate::engine) struct Sleeper {
    /// 0 to 9.
    pub(in crate::engine) priority: u8,
    pub(in crate::engine) user: Arc<User>,
    pub(in crate::engine) size: Amounts,
    pub(in crate::engine) since: Moment,
    /// Cancels the call.
    cancel: oneshot::Sender<()>,
}

impl Resting {
    /// All of them with the end of their pause, the earliest first.
    pub(in crate::engine) fn in_order(&self) -> impl Iterator<Item = (Moment, &Sleeper)> {
        self.sleepers.iter().map(|((until, _), sleeper)| (*until, sleeper))
    }

    /// Cancels the calls of a priority below `below`, all of them when it is `None`. Returns how many.
    pub(in crate::engine) fn clear(&mut self, below: Option<u8>) -> usize {
        let concerned = |sleeper: &Sleeper| below.is_none_or(|below| sleeper.priority < below);
        let gone = self.sleepers.extract_if(.., |_, sleeper| concerned(sleeper));
        gone.filter_map(|(_, sleeper)| sleeper.cancel.send(()).ok()).count()
    }
}

/// Forgets a pause that is over, or whose call was dropped.
struct Pause<'a> {
    resting: &'a Mutex<Resting>,
    place: (Moment, u64),
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.resting.lock().sleepers.remove(&self.place);
    }
}

/// Pauses until `until`. Returns whether the call is still wanted then.
pub(in crate::engine) async fn pause(
    resting: &Mutex<Resting>,
    clock: &dyn Clock,
    priority: u8,
    user: &Arc<User>,
    size: Amounts,
    until: Moment,
) -> bool {
    let (cancel, cancelled) = oneshot::channel();
    let since = clock.now();
    let place = {
        let mut resting = resting.lock();
        resting.arrivals += 1;
        let place = (until, resting.arrivals);
        let sleeper = Sleeper { priority, user: user.clone(), size, since, cancel };
        resting.sleepers.insert(place, sleeper);
        place
    };
    let _pause = Pause { resting, place };
    tokio::select! {
        biased;
        _ = cancelled => false,
        () = clock.sleep_until(until) => true,
    }
}
