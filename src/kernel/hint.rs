//! What did the provider tell us about its limits while it answered?

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::limits::{Period, Resource};

/// One limit as an answer's headers describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateHint {
    /// What is limited.
    pub resource: Resource,
    /// Over which window; already inferred where the header does not say (OpenAI's minute or day).
    pub period: Period,
    /// The limit.
    pub amount: Option<u64>,
    /// What is left of it.
    pub remaining: Option<u64>,
    /// How long until it is whole again.
    pub reset_after: Option<Duration>,
    /// The header's own arithmetic shows a bucket that refills continuously and holds `amount`.
    pub refills_continuously: bool,
}

/// Everything the headers of one answer say about quotas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// The organisation (and project) the key belongs to, when the answer names it: its quota group.
    pub organization: Option<String>,
    /// The limits described.
    pub rates: Vec<RateHint>,
}
