//! What do refusals of Ollama mean, on this machine or in its cloud?

use crate::kernel::FailureClass::{Auth, ContextTooLong, DailyQuota, NotFound, Overloaded};
use crate::kernel::Scope::{Call, Group, GroupModel, Key, Model};

use super::row::UntilFrom::RetryAfter;
use super::row::When::{Always, Says};
use super::row::{Row, row};

pub(in super::super) const ROWS: &[Row] = &[
    // Five hours or a week, of the account; it never says when that ends.
    row("ollama-usage-limit", &[429], Says(&["usage limit"]), DailyQuota, Group),
    row("ollama-busy", &[503], Always, Overloaded, Model).until(RetryAfter),
    row("ollama-model", &[404], Always, NotFound, GroupModel),
    row("ollama-key", &[401], Always, Auth, Key),
    row("ollama-context", &[400], Says(&["prompt too long"]), ContextTooLong, Call),
];
