//! The input and the result of a forecast.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::kernel::failure::FailureClass;
use crate::kernel::ledger::Obstacle;
use crate::kernel::limits::{Limit, Period, Refill};
use crate::kernel::moment::Moment;
use crate::kernel::reserve::demand::{Demand, Patience};
use crate::kernel::reserve::lane::Lane;
use crate::kernel::reserve::refusal::Refusal;

/// A target of the route, as a plan sees it.
#[derive(Clone, Debug)]
pub struct PlannedTarget {
    /// The places of its ledgers among those of the plan.
    pub picked: Vec<usize>,
    /// Which of the picked ones counts the limits of the user, if there are any.
    pub own: Option<usize>,
    /// Its lanes.
    pub lanes: Vec<Lane>,
    /// What a call needs here, but for the size of its prompt.
    pub demand: Demand,
    /// How many tokens an answer has.
    pub output_tokens: u64,
    /// How long an answer takes.
    pub latency: Duration,
    /// The line its calls stand in: targets of several routes that are the same model share one. Lines are numbered
    /// from 0 on.
    pub line: usize,
    /// The target that calls go on to that do not wait here.
    pub next: Option<usize>,
}

/// A prompt, as a plan sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedPrompt {
    /// Its tokens.
    pub input_tokens: u64,
    /// The place of the first target of its route.
    pub target: usize,
    /// Whether it is planned; otherwise it belongs to other callers and only stands before.
    pub is_ours: bool,
}

impl From<u64> for PlannedPrompt {
    /// One of so many tokens for the first target there is.
    fn from(input_tokens: u64) -> Self {
        PlannedPrompt { input_tokens, target: 0, is_ours: true }
    }
}

/// How calls are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlannedManner {
    /// How long a call at the head of a line waits before it goes to the next target.
    pub patience: Patience,
    /// How many are under way at the first target already, each with its lane.
    pub in_flight: usize,
    /// How many are under way at once at most.
    pub most_in_flight: usize,
    /// How many stand in lines at once at most; the next call begins when one of them has left.
    pub most_waiting: usize,
    /// For how many calls each one stands; [`ONE_BY_ONE`] when all are gone through.
    pub stands_for: StandsFor,
}

/// For how many calls one stands, when only some are gone through and limits were made smaller for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StandsFor {
    /// As far as limits over a minute or less are concerned.
    pub short: f64,
    /// As far as longer ones are.
    pub long: f64,
}

/// Each call stands for itself.
pub const ONE_BY_ONE: StandsFor = StandsFor { short: 1.0, long: 1.0 };

impl StandsFor {
    /// How long one call waits where one that stands for many waits for `time`: what refills bit by bit does so by
    /// call.
    pub(super) fn each_waits(self, time: Duration, obstacle: &Obstacle) -> Duration {
        let Obstacle::Limit { limit: Limit { refill: Refill::Bucket { .. }, period, .. }, .. } =
            obstacle
        else {
            return time;
        };
        time.div_f64(if *period <= Period::Minute { self.short } else { self.long })
    }
}

/// What calls waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A limit that was used up.
    Limit(Limit),
    /// So many calls were in flight at the target.
    InFlight(u64),
    /// A refusal closed everything.
    Block(FailureClass),
    /// The caller wanted no more at once.
    Concurrency(usize),
}

impl Bound {
    pub(super) fn of(obstacle: Obstacle) -> Bound {
        match obstacle {
            Obstacle::Limit { limit, .. } | Obstacle::TooLarge { limit, .. } => Bound::Limit(limit),
            Obstacle::Concurrency { most } => Bound::InFlight(most),
            Obstacle::Block(block) => Bound::Block(block.class),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::Limit(limit) => write!(f, "{limit}"),
            Bound::InFlight(most) => write!(f, "{most} calls in flight"),
            Bound::Block(class) => write!(f, "closed after {}", class.name()),
            Bound::Concurrency(most) => write!(f, "concurrency {most}"),
        }
    }
}

/// Time spent on one bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedWait {
    /// The place of the target in the route.
    pub target: usize,
    /// What was waited for.
    pub bound: Bound,
    /// For how long nothing could leave because of it.
    pub time: Duration,
    /// How many calls it refused for good, because it lasts longer than they wait.
    pub refused: u64,
}

/// Why a call has nowhere to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhyRefused {
    /// The place of the target that said so.
    pub target: usize,
    /// What it said.
    pub refusal: Refusal,
}

/// What goes down one lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlannedShare {
    /// Calls.
    pub requests: u64,
    /// Tokens of their prompts.
    pub input_tokens: u64,
    /// Tokens of the answers.
    pub output_tokens: u64,
}

/// What would come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// When the last answer is there.
    pub finish: Moment,
    /// How many calls are answered.
    pub answered: u64,
    /// How many have nowhere to go.
    pub refused: u64,
    /// Why the first of them has not: what the first target said that had something to say.
    pub why_refused: Option<WhyRefused>,
    /// For each target what goes down each of its lanes.
    pub shares: Vec<Vec<PlannedShare>>,
    /// For each target how many prompts of which size go there.
    pub sizes: Vec<BTreeMap<u64, u64>>,
    /// What decides how it goes: what refused most first, then what was waited for longest.
    pub waits: Vec<PlannedWait>,
}
