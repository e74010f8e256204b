//! One call: its route, its attempts, its answer or its error.

pub(super) mod cache;
pub(super) mod costs;
pub(super) mod errors;
pub(super) mod question;
pub(super) mod request;
pub(super) mod route;
pub(super) mod run;
pub(super) mod send;
pub(super) mod token_counts;
