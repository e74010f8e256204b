//! The row of a refusal table: statuses, condition, class, scope, delay.

use crate::kernel::{FailureClass, Scope};

/// One row: what a refusal looks like, and what it then is. The first row that fits holds.
#[derive(Debug)]
pub(in super::super) struct Row {
    /// Its name, in tests and logs.
    pub(in super::super) id: &'static str,
    /// The statuses it is about (the embedded one when an error came with a 200); none: all.
    pub(in super::super) statuses: &'static [u16],
    pub(in super::super) when: When,
    pub(in super::super) class: FailureClass,
    pub(in super::super) scope: Scope,
    pub(in super::super) until: UntilFrom,
    pub(in super::super) never_here: bool,
    pub(in super::super) needs_confirmation: bool,
}

/// A row that knows no end and may be tried again; the methods say where one differs.
pub(in super::super) const fn row(
    id: &'static str,
    statuses: &'static [u16],
    when: When,
    class: FailureClass,
    scope: Scope,
) -> Row {
    let until = UntilFrom::Nothing;
    Row { id, statuses, when, class, scope, until, never_here: false, needs_confirmation: false }
}

impl Row {
    pub(in super::super) const fn until(self, until: UntilFrom) -> Row {
        Row { until, ..self }
    }

    /// The request can never pass this group.
    pub(in super::super) const fn never_here(self) -> Row {
        Row { never_here: true, ..self }
    }

    /// One such answer is no proof.
    pub(in super::super) const fn needs_confirmation(self) -> Row {
        Row { needs_confirmation: true, ..self }
    }
}

/// A test on what a refusal says. Words are compared without regard to case.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum When {
    Always,
    /// One of the error's names (code, type, status word, reasons) is one of these.
    Named(&'static [&'static str]),
    /// The message contains one of these.
    Says(&'static [&'static str]),
    /// The value at a JSON pointer into the error object is one of these; none: it is there.
    At(&'static str, &'static [&'static str]),
    /// The same for the whole body.
    Whole(&'static str, &'static [&'static str]),
    /// The header has this value.
    Header(&'static str, &'static str),
    /// A quota that Gemini names contains one of these.
    Quota(&'static [&'static str]),
    /// The status lies between the two.
    Status(u16, u16),
    /// The request asked for more than the limit it hit.
    TooLarge,
    /// The call was thought to take more tokens than this header allows in a window.
    OverHeader(&'static str),
    /// The limit that was hit is nothing at all.
    ZeroLimit,
    /// The window would have held the input; it was the cap on output that did not fit.
    InputFits,
    /// The message or the body asks to wait at most that many seconds.
    DelayWithin(u64),
    /// The message or the body asks to wait longer than that many seconds.
    DelayOver(u64),
    Any(&'static [When]),
    All(&'static [When]),
    Not(&'static When),
}

/// Where the end of a block is read. A longer `retry-after` always holds, except for `Nothing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum UntilFrom {
    /// Nowhere: the keeper of the block guesses.
    Nothing,
    /// `retry-after` only.
    RetryAfter,
    /// The body's delay, `retry-after`, or else what the rate headers add up to.
    Delay,
    /// The provider's own midnight, whatever delay the body names.
    Midnight,
    /// The reset header, or else the provider's own midnight.
    ResetOrMidnight,
    /// A date in the text or in the field `resets_at`.
    Date,
}
