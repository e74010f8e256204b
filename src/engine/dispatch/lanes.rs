//! The lanes of a target and the ledgers they share.

use std::borrow::Cow;

use super::users::User;
use crate::kernel::{Configured, Lane, LedgerId, Ledgers, Moment};

/// The lanes of a target and the ledgers they share, ready for one `update`.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    pub(crate) ids: Vec<LedgerId>,
    pub(crate) configured: Vec<Configured>,
    pub(crate) lanes: Vec<Lane>,
    /// Whether a limit on cost was configured for any of them.
    pub(crate) counts_money: bool,
    /// Each lane by itself, with only its own ledgers: what settling needs.
    pub(crate) alone: Vec<Lanes>,
}

impl Lanes {
    /// The place of the ledger of this name, added when it is new.
    pub(super) fn place(&mut self, id: LedgerId, configured: &Configured) -> usize {
        if let Some(place) = self.ids.iter().position(|known| *known == id) {
            return place;
        }
        self.ids.push(id);
        self.configured.push(configured.clone());
        self.ids.len() - 1
    }
}

/// Brings the last ledger, that of the user's limits, under them. Returns its place, if there are any.
pub(in crate::engine) fn conform_user(
    ledgers: &mut Ledgers<'_>,
    lanes: &Lanes,
    user: &User,
    now: Moment,
) -> Option<usize> {
    let own = user.own.as_ref()?;
    let place = lanes.ids.len();
    ledgers.get_mut(place).conform(&own.limits, now);
    Some(place)
}

/// Brings the ledgers under their limits, once for each.
pub(in crate::engine) fn conform(ledgers: &mut Ledgers<'_>, lanes: &Lanes, now: Moment) {
    for (place, configured) in lanes.configured.iter().enumerate() {
        ledgers.get_mut(place).conform(configured, now);
    }
}

/// The ledgers of these lanes, and last the one of the user's own limits if there are any.
pub(in crate::engine) fn with_own<'a>(ids: &'a [LedgerId], user: &User) -> Cow<'a, [LedgerId]> {
    match &user.own {
        None => Cow::Borrowed(ids),
        Some(own) => Cow::Owned(ids.iter().chain([&own.id]).cloned().collect()),
    }
}
