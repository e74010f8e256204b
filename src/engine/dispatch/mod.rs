//! Dispatch: the registry of providers, targets and keys, their waiting lines and reservations.

pub(super) mod backoff;
pub(super) mod gauge;
pub(super) mod key_groups;
pub(super) mod line;
pub(super) mod queue_view;
pub(super) mod registry;
pub(super) mod reservation;
pub(super) mod users;
