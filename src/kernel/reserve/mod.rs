//! Reservations: choose a lane, take from its ledgers, settle what was used.

pub(super) mod choose;
pub(super) mod demand;
pub(super) mod lane;
pub(super) mod refusal;
pub(super) mod reservation;
pub(super) mod settle;
mod user_limit;
