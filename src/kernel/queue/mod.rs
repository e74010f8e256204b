//! Queueing: the waiting line, its fair shares and the estimated time of arrival.

pub(super) mod eta;
mod fair_share;
pub(super) mod waiting_line;
