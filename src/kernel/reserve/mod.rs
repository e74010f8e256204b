//! Reservations: choose a lane, take what a call needs from its ledgers, settle what it used.

pub(super) mod choose;
pub(super) mod demand;
pub(super) mod lane;
pub(super) mod refusal;
pub(super) mod reservation;
pub(super) mod settle;
mod user_limit;
