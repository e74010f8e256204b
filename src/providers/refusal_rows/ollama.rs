//! Refusals of Ollama, local or in its cloud.

use crate::kernel::FailureClass::{Auth, ContextTooLong, DailyQuota, NotFound, Overloaded};
use crate::kernel::Scope::{Call, Group, GroupModel, Key, Model};

use super::row::UntilFrom::RetryAfter;
use super::row::When::{Always, Any, Says, Status};
use super::row::{Row, When, row};

/// The status of an error within a stream or a good answer; it has words and nothing else that tell what it is.
const WITHIN: u16 = 200;

const BUSY: When = Any(&[Status(503, 503), Says(&["server busy"])]);

pub(in super::super) const ROWS: &[Row] = &[
    // Five hours or a week, of the account; it never says when that ends.
    row("ollama-usage-limit", &[429, WITHIN], Says(&["usage limit"]), DailyQuota, Group),
    row("ollama-busy", &[503, WITHIN], BUSY, Overloaded, Model).until(RetryAfter),
    row("ollama-model", &[404], Always, NotFound, GroupModel),
    row("ollama-key", &[401], Always, Auth, Key),
    row("ollama-context", &[400, WITHIN], Says(&["prompt too long"]), ContextTooLong, Call),
];
