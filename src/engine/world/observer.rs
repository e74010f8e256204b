//! Notices about calls under way, and the observer that receives them.

use std::fmt;
use std::time::Duration;

use crate::kernel::{Amounts, Block, Obstacle};

/// Something that happened to a call. Its text is one line: which limit or key, and until when.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Notice {
    /// A call waits for a limit or a block.
    Wait {
        /// Where it wants to go.
        target: String,
        /// The key that will be free first.
        key: String,
        /// What stands in the way.
        obstacle: Obstacle,
    },
    /// A call waits behind others.
    QueueWait {
        /// Where it wants to go.
        target: String,
        /// How many came before it.
        ahead: usize,
    },
    /// A call waits for a limit of its own user.
    UserLimitWait {
        /// Where it wants to go.
        target: String,
        /// The limit.
        obstacle: Obstacle,
    },
    /// A call waits before it tries a provider again that was in trouble.
    Backoff {
        /// Where it wants to go.
        target: String,
        /// What went wrong.
        failure: String,
        /// For how long.
        pause: Duration,
    },
    /// A call goes on with another key.
    KeyRotation {
        /// Where it wants to go.
        target: String,
        /// The key that refused.
        from: String,
        /// The key that takes over.
        to: String,
        /// Why.
        failure: String,
    },
    /// A call goes on with another provider or model.
    Fallback {
        /// The target that is left.
        from: String,
        /// The target that takes over.
        to: String,
        /// Why.
        reason: String,
    },
    /// A key, its quota group or its model is closed.
    Block {
        /// Which target.
        target: String,
        /// Which key.
        key: String,
        /// Until when and why.
        block: Block,
        /// The provider's words.
        message: String,
    },
    /// A call tries again, here or elsewhere.
    Retry {
        /// Where the attempt before went.
        target: String,
        /// Its key.
        key: String,
        /// What it met.
        failure: String,
        /// The HTTP status of that, if there was one.
        status: Option<u16>,
        /// The number of the attempt that begins, from 2.
        attempt: usize,
        /// How long was waited since.
        pause: Duration,
    },
    /// What was closed is open again: a call was answered there.
    Recovery {
        /// Which target.
        target: String,
        /// Which key.
        key: String,
    },
    /// An attempt was answered and settled; sent only if [`Observer::wants_settlements`].
    Settlement {
        /// Which target.
        target: String,
        /// Which key.
        key: String,
        /// What counts against the limits, if the provider said how much was used.
        used: Option<Amounts>,
        /// How long the answer took.
        lasted: Duration,
    },
    /// A call takes a lane; sent only if [`Observer::wants_decisions`].
    Decision {
        /// The target.
        target: String,
        /// The key chosen.
        key: String,
        /// All the keys there were to choose from, each with what stood in its way.
        candidates: String,
    },
    /// Something the user should know once.
    Warning(String),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Wait { target, key, obstacle } => {
                write!(f, "waiting for {target}: key {key} is next, {obstacle}")
            }
            Notice::QueueWait { target, ahead } => {
                write!(f, "waiting for {target}: {ahead} in line before it")
            }
            Notice::UserLimitWait { target, obstacle } => {
                write!(f, "waiting for {target}: the limit of its user, {obstacle}")
            }
            Notice::Backoff { target, failure, pause } => {
                write!(f, "trying {target} again in {:.1} s after {failure}", pause.as_secs_f64())
            }
            Notice::KeyRotation { target, from, to, failure } => {
                write!(f, "{target}: going on with key {to}, key {from} had {failure}")
            }
            Notice::Fallback { from, to, reason } => {
                write!(f, "falling back from {from} to {to}: {reason}")
            }
            Notice::Block { target, key, block, message } => {
                write!(f, "{target} refused key {key}: {block}: {message}")
            }
            Notice::Retry { target, key, failure, attempt, .. } => {
                write!(f, "attempt {attempt} after {target}, key {key}, had {failure}")
            }
            Notice::Recovery { target, key } => write!(f, "{target}: key {key} answers again"),
            Notice::Settlement { target, key, lasted, .. } => {
                write!(f, "{target}: key {key} answered in {:.3} s", lasted.as_secs_f64())
            }
            Notice::Decision { target, key, candidates } => {
                write!(f, "{target}: chose key {key} among {candidates}")
            }
            Notice::Warning(text) => f.write_str(text),
        }
    }
}

/// Receives notices. It is called on the engine's threads: it must return at once and never fail.
pub trait Observer: Send + Sync {
    /// Receives one notice.
    fn notice(&self, notice: &Notice);

    /// Whether notices of decisions are wanted; they are not made otherwise.
    fn wants_decisions(&self) -> bool {
        false
    }

    /// Whether notices of settlements are wanted; they are not made otherwise.
    fn wants_settlements(&self) -> bool {
        false
    }
}

/// Discards all notices.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn notice(&self, _notice: &Notice) {}
}
