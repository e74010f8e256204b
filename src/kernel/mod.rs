//! The kernel: it decides and never acts. No clock, I/O, lock, async or Python.
//!
//! `now` and randomness are arguments, so that everything here runs in virtual time.

mod amounts;
mod batch_intake;
mod call;
mod failure;
mod forecast;
mod health;
mod ledger;
mod limits;
mod meters;
mod moment;
mod queue;
mod rate_hint;
mod reserve;

pub use amounts::{Amounts, Price, Usage};
pub use batch_intake::{Intake, MOST_AT_ONCE};
pub use call::retry::{RetryBudget, RetryPolicy};
pub use call::{Action, Call, CallPolicy, Event, GiveUp, Late};
pub use failure::{Failure, FailureClass, LimitFact, Origin, Remedy, SameLane, Scope, Until};
pub use forecast::time_left::{Rest, time_left};
pub use forecast::{
    Bound, Forecast, ONE_BY_ONE, PlannedManner, PlannedPrompt, PlannedShare, PlannedTarget,
    PlannedWait, StandsFor, WhyRefused, doubled, forecast,
};
pub use health::breaker::{Breaker, BreakerState};
pub use health::key_health::{DEGRADED_BELOW, Health};
pub use health::shared_quota::SharedQuotaSuspicion;
pub use ledger::block::{Block, Blocks};
pub use ledger::input_factor::{InputFactor, SAFETY};
pub use ledger::output_sizes::{OutputSizes, USUAL_OUTPUT};
pub use ledger::{Configured, Ledger, LedgerId, Obstacle, Totals};
pub use limits::{Limit, Period, Refill, Resource, Source, dollars};
pub use meters::charge::{AnswerCharged, Charge};
pub use meters::{Availability, Meter, Rule, day_ends, day_turns, default_burst, next_midnight};
pub use moment::Moment;
pub use queue::eta::{eta, user_eta};
pub use queue::waiting_line::{Paid, Standing, Ticket, WaitingLine};
pub use rate_hint::{Hints, RateHint, SinceTold};
pub use reserve::choose::{choose, reserve, reserve_anyway};
pub use reserve::demand::{Demand, Patience};
pub use reserve::lane::{Lane, Ledgers};
pub use reserve::refusal::{Choice, Refusal, RefusedBy};
pub use reserve::reservation::{Ending, Reservation, counted, settle_reservation};
pub use reserve::settle::{Change, Outcome, close, observe_headers, settle};
