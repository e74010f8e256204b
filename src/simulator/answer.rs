//! Requests and answers of the simulator.

use std::borrow::Cow;
use std::time::Duration;

/// One request as it arrived; everything is borrowed from the caller's buffer.
#[derive(Clone, Copy, Debug)]
pub struct IncomingRequest<'a> {
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// The path, with its query if it has one.
    pub path: &'a str,
    /// Names and values as they came; they are looked up without regard to case.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body, whole.
    pub body: &'a [u8],
}

impl<'a> IncomingRequest<'a> {
    /// The first value of a header, whatever the case of its name.
    ///
    /// ```
    /// use quotaflow::simulator::IncomingRequest;
    /// let headers = [("X-Api-Key", "sk-test-1")];
    /// let request = IncomingRequest { method: "POST", path: "/", headers: &headers, body: b"" };
    /// assert_eq!(request.header("x-api-key"), Some("sk-test-1"));
    /// ```
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers
            .iter()
            .find(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }

    /// The path without its query.
    pub(super) fn bare_path(&self) -> &'a str {
        self.path.split_once('?').map_or(self.path, |(path, _)| path)
    }
}

/// What happens to the connection instead of a whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is reset; not one byte of an answer is sent.
    ResetBeforeAnswer,
    /// The head promises the whole body; half of it is sent, then the connection is closed.
    HalfBody,
    /// Nothing is ever sent; the connection stays open until the client gives up.
    Hang,
    /// The body is replaced by so many bytes of white space.
    Huge(u64),
    /// A stream is sent as far as its body goes; then the connection is reset.
    ResetAfterBody,
}

/// What a request holds at the simulator until it is over; hand it to [`Simulator::finished`](super::Simulator::finished).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "hand it to `finished`, or the request stays in flight for ever"]
pub struct Ticket {
    /// The meters that were charged.
    pub(super) meters: usize,
    /// When they were charged.
    pub(super) taken_at: i64,
    /// The tokens of the prompt.
    pub(super) input: u64,
    /// The tokens of the answer that were charged on the way in.
    pub(super) output_charged: u64,
    /// The tokens that the answer really has.
    pub(super) output: u64,
    /// The tokens count (the answer is a completion); if not, they are given back at the end.
    pub(super) tokens_count: bool,
}

/// How a body is sent that comes in pieces.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Streamed {
    /// Where in the body each event ends.
    pub ends: Vec<usize>,
    /// Where nothing is sent for a while, and for how long; in the order of places.
    pub pauses: Vec<(usize, Duration)>,
}

/// One answer, ready to be sent after `delay`.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Header names (lower case) and values, without `content-length`.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body.
    pub body: Vec<u8>,
    /// How long the model thinks before the answer is sent.
    pub delay: Duration,
    /// How it comes in pieces; `None`: in one.
    pub stream: Option<Streamed>,
    /// What goes wrong on the connection, if anything.
    pub fault: Option<Fault>,
    /// What the request holds until it is over; `None` when it was turned away at the door.
    pub ticket: Option<Ticket>,
}

impl Answer {
    /// An answer of JSON.
    pub(super) fn json(status: u16, body: Vec<u8>) -> Self {
        Answer {
            status,
            headers: vec![("content-type", Cow::Borrowed("application/json"))],
            body,
            delay: Duration::ZERO,
            stream: None,
            fault: None,
            ticket: None,
        }
    }

    /// The same with one more header.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Whether it is begun as a stream; some faults strike before that.
    pub(super) fn is_sent_as_stream(&self) -> bool {
        let fault = self.fault.as_ref();
        let later = |fault: &Fault| matches!(fault, Fault::HalfBody | Fault::ResetAfterBody);
        self.stream.is_some() && fault.is_none_or(later)
    }

    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_ref())
    }
}
