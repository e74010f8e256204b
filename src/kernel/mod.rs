//! The ring that decides and never does: no clock, no I/O, no lock, no async, no global, no Python.
//!
//! `now` and randomness are arguments. Everything here can be run in virtual time.

mod aftermath;
mod block;
mod breaker;
mod call;
mod charge;
mod choose;
mod eta;
mod failure;
mod health;
mod hint;
mod input_factor;
mod intake;
mod learned;
mod ledger;
mod limits;
mod meters;
mod moment;
mod outlook;
mod output_sizes;
mod own_limit;
mod plan;
mod price;
mod queue;
mod reservation;
mod retry;
mod shares;
mod suspects;

pub use aftermath::{Aftermath, Change, book, close, hear};
pub use block::{Block, Blocks};
pub use breaker::{Breaker, BreakerState};
pub use call::{Action, Call, CallPolicy, Event, GiveUp, Late, Patience};
pub use charge::{AnswerCharged, Charge};
pub use choose::{Choice, Lane, Ledgers, Need, Refusal, choose, reserve, reserve_anyway};
pub use eta::{eta, own_eta};
pub use failure::{Failure, FailureClass, LimitFact, Origin, Remedy, SameLane, Scope, Until};
pub use health::{DEGRADED_BELOW, Health};
pub use hint::{Hints, RateHint};
pub use input_factor::{InputFactor, SAFETY};
pub use intake::{Intake, MOST_AT_ONCE};
pub use ledger::{Configured, Ledger, LedgerId, Obstacle, SinceTold, Totals};
pub use limits::{Amounts, Limit, Period, Refill, Resource, Source, Usage, dollars};
pub use meters::{Availability, Meter, Rule, day_ends, day_turns, default_burst, next_midnight};
pub use moment::Moment;
pub use outlook::{Rest, time_left};
pub use output_sizes::{OutputSizes, USUAL_OUTPUT};
pub use own_limit::{OwnLimit, reserve_for, settle_own};
pub use plan::{
    Bound, Forecast, ONE_BY_ONE, PlannedManner, PlannedPrompt, PlannedShare, PlannedTarget,
    PlannedWait, StandsFor, WhyRefused, doubled, forecast,
};
pub use price::Price;
pub use queue::{Paid, Standing, Ticket, WaitingLine};
pub use reservation::{Ending, Reservation, counted, settle};
pub use retry::{RetryBudget, RetryPolicy};
pub use suspects::Suspects;
