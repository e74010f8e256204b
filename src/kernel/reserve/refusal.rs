//! Refusals: why a call gets no lane now, by whom, and until when.

use super::demand::Patience;
use super::reservation::Reservation;
use crate::kernel::ledger::Obstacle;
use crate::kernel::limits::Period;
use crate::kernel::moment::Moment;

/// The lane that takes a call, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This lane; its amounts have been taken from all its meters.
    Reserved(Reservation),
    /// No lane now.
    NotNow(Refusal),
    /// No lane ever: the request is larger than every lane's limits, or there is no lane left to try.
    Never(Option<Refusal>),
}

/// Who refuses a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedBy {
    /// The lane at this place: the one that will take the call first.
    Lane(usize),
    /// A limit of the call's user. Another key or another model would not help.
    User {
        /// How much of the limit is used, in units of its resource.
        used: u64,
        /// How many calls of the same user wait already and go first.
        ahead: u64,
    },
}

/// A refusal and when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Who refuses.
    pub by: RefusedBy,
    /// When trying makes sense; `None`: when a call in flight ends.
    pub at: Option<Moment>,
    /// The first instant at which a lane opens whatever calls in flight do; on this lane or another one.
    pub opens: Option<Moment>,
    /// What stands in the way.
    pub obstacle: Obstacle,
    /// Whether calls in flight may give back enough before that; on this lane or another one.
    pub may_return: bool,
}

impl Refusal {
    /// A refusal by a limit of the user.
    pub fn by_user(obstacle: Obstacle, used: u64, ahead: u64, may_return: bool) -> Refusal {
        let at = obstacle.until();
        Refusal { by: RefusedBy::User { used, ahead }, at, opens: at, obstacle, may_return }
    }

    /// Whether a limit of the user refused.
    pub fn is_by_user(&self) -> bool {
        matches!(self.by, RefusedBy::User { .. })
    }

    /// The place of the lane that refused, if it was a lane.
    pub fn lane(&self) -> Option<usize> {
        match self.by {
            RefusedBy::Lane(lane) => Some(lane),
            RefusedBy::User { .. } => None,
        }
    }

    /// Whether its end is worth waiting for. A user's limit over a day or longer is not: the user is to know at once.
    pub fn is_worth_waiting(&self, patience: Patience, now: Moment) -> bool {
        match (self.by, &self.obstacle) {
            (RefusedBy::Lane(_), _) => self.at.is_none_or(|at| patience.covers(at, now)),
            (RefusedBy::User { .. }, Obstacle::Limit { limit, until, .. }) => {
                limit.period < Period::Day && patience.covers(*until, now)
            }
            (RefusedBy::User { .. }, _) => false,
        }
    }
}
