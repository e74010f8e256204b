//! Refusals of xAI; the text says more than the code.

use crate::kernel::FailureClass::{
    Auth, ContentFiltered, ContextTooLong, CreditExhausted, NotFound, Permission, RateLimited,
    TokenLimited,
};
use crate::kernel::Scope::{Call, Group, GroupModel, Key};

use super::row::UntilFrom::{Date, Delay};
use super::row::When::{Always, Says, ZeroLimit};
use super::row::{Row, row};

pub(in super::super) const ROWS: &[Row] = &[
    row(
        "xai-credit",
        &[403, 429],
        Says(&["used all available credits or reached its monthly spending limit"]),
        CreditExhausted,
        Group,
    )
    .until(Date),
    row("xai-no-access", &[429], ZeroLimit, Permission, GroupModel),
    row("xai-tokens", &[429], Says(&["tokens per minute"]), TokenLimited, GroupModel).until(Delay),
    row("xai-requests", &[429], Always, RateLimited, GroupModel).until(Delay),
    row("xai-key", &[400], Says(&["incorrect api key"]), Auth, Key),
    row("xai-unauthorized", &[401], Always, Auth, Key),
    row("xai-content", &[400, 403], Says(&["usage guidelines"]), ContentFiltered, Call),
    row("xai-forbidden", &[403], Always, Permission, GroupModel),
    row("xai-model", &[404], Always, NotFound, GroupModel),
    row("xai-context", &[400], Says(&["maximum prompt length"]), ContextTooLong, Call),
];
