//! Who pauses after a failure before a target, and who ends that pause?
//!
//! A call that pauses holds nothing and stands in no line; it is remembered here so that it can be listed and sent home
//! like those who wait.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::registry::Target;
use super::users::User;
use crate::engine::Engine;
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
    /// Tells it that it is not wanted any more.
    sent_home: oneshot::Sender<()>,
}

impl Resting {
    /// Everybody with the end of their pause, the earliest first.
    pub(in crate::engine) fn in_order(&self) -> impl Iterator<Item = (Moment, &Sleeper)> {
        self.sleepers.iter().map(|((until, _), sleeper)| (*until, sleeper))
    }

    /// Sends those of a priority below `below` home, all of them when it is `None`. Says how many.
    pub(in crate::engine) fn clear(&mut self, below: Option<u8>) -> usize {
        let concerned = |sleeper: &Sleeper| below.is_none_or(|below| sleeper.priority < below);
        let gone = self.sleepers.extract_if(.., |_, sleeper| concerned(sleeper));
        gone.filter_map(|(_, sleeper)| sleeper.sent_home.send(()).ok()).count()
    }
}

/// Forgets a pause that is over, or whose call was dropped.
struct Pause<'a> {
    target: &'a Target,
    place: (Moment, u64),
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.target.resting.lock().sleepers.remove(&self.place);
    }
}

impl Engine {
    /// Pauses until `until`. Says whether the call is still wanted then.
    pub(in crate::engine) async fn rest(
        &self,
        target: &Target,
        priority: u8,
        user: &Arc<User>,
        size: Amounts,
        until: Moment,
    ) -> bool {
        let (sent_home, not_wanted) = oneshot::channel();
        let since = self.world.clock.now();
        let place = {
            let mut resting = target.resting.lock();
            resting.arrivals += 1;
            let place = (until, resting.arrivals);
            let sleeper = Sleeper { priority, user: user.clone(), size, since, sent_home };
            resting.sleepers.insert(place, sleeper);
            place
        };
        let _pause = Pause { target, place };
        tokio::select! {
            biased;
            _ = not_wanted => false,
            () = self.world.clock.sleep_until(until) => true,
        }
    }
}
