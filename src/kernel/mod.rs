//! The ring that decides and never does: no clock, no I/O, no lock, no async, no global, no Python.
//!
//! `now` and randomness are arguments. Everything here can be run in virtual time.

mod failure;
mod hint;
mod limits;
mod moment;

pub use failure::{Failure, FailureClass, LimitFact, Origin, Remedy, SameLane, Scope, Until};
pub use hint::{Hints, RateHint};
pub use limits::{Amounts, Limit, Period, Refill, Resource, Source, Usage};
pub use moment::Moment;
