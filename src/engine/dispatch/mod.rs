//! Dispatch: keys, targets, waiting lines and reservations. It knows no call.

pub(super) mod backoff;
pub(super) mod gauge;
mod key;
mod key_groups;
pub(super) mod lanes;
mod latency;
pub(super) mod line;
pub(super) mod prices;
pub(super) mod queue_view;
mod registry;
pub(super) mod reservation;
mod spend;
pub(super) mod status;
mod target;
pub(super) mod types;
pub(super) mod users;
