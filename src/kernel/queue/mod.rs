//! Queueing: the waiting line, fair shares and estimated times of arrival.

pub(super) mod eta;
mod fair_share;
pub(super) mod waiting_line;
