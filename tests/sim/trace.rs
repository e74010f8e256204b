//! The trace of a simulation: one line for each event.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quotaflow::engine::{Clock, Notice, Observer, TokioClock};
use quotaflow::kernel::Moment;

tokio::task_local! {
    /// The number of the call that is being carried out.
    pub(crate) static CALL: u32;
}

/// The number of the call on whose behalf this code runs.
pub(crate) fn this_call() -> Option<u32> {
    CALL.try_with(|call| *call).ok()
}

/// Everything that happened, in order.
pub(crate) struct Trace {
    truth: TokioClock,
    start: Moment,
    lines: Mutex<Vec<String>>,
}

impl Trace {
    pub(crate) fn new(truth: TokioClock) -> Arc<Self> {
        Arc::new(Trace { truth, start: truth.now(), lines: Mutex::default() })
    }

    /// Writes a line: day and time since the start, the call, the event.
    pub(crate) fn line(&self, call: Option<u32>, event: impl Display) {
        let since = self.truth.now().since(self.start);
        let call = call.map_or("  -".to_owned(), |call| format!("{call:>3}"));
        self.lines.lock().push(format!("{}  {call}  {event}", clock_face(since)));
    }

    /// All lines.
    pub(crate) fn text(&self) -> String {
        self.lines.lock().join("\n")
    }
}

fn clock_face(since: Duration) -> String {
    let seconds = since.as_secs();
    format!(
        "d{} {:02}:{:02}:{:02}.{:03}",
        seconds / 86_400,
        seconds / 3_600 % 24,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_millis()
    )
}

impl Observer for Trace {
    fn notice(&self, notice: &Notice) {
        self.line(this_call(), notice);
    }
}

/// The first line in which two traces differ, or nothing.
pub(crate) fn first_difference(one: &str, other: &str) -> Option<String> {
    let mut lines = one.lines().zip(other.lines()).enumerate();
    let differing = lines.find(|(_, (a, b))| a != b);
    match differing {
        Some((number, (a, b))) => Some(format!("line {}:\n  {a}\n  {b}", number + 1)),
        None if one.len() != other.len() => Some("one is longer".to_owned()),
        None => None,
    }
}
