//! The answers on their way to one event loop.

use std::io::Write;
use std::os::unix::net::UnixStream;

use parking_lot::Mutex;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;

use super::outcome::{Outcome, objects};
use crate::engine::{Answer, StreamEvent};
use crate::error::Error;

/// What a future is resolved with.
pub(super) enum Arrival {
    /// The answer to a prompt.
    Answer(Box<Answer>),
    /// Pieces of a stream.
    Pieces(Vec<StreamEvent>),
}

impl Arrival {
    pub(super) fn into_object(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self {
            Arrival::Answer(answer) => Outcome(*answer).into_py_any(py),
            Arrival::Pieces(events) => objects(py, events),
        }
    }
}

/// Answers for one event loop; nothing of Python is in it, so any thread may drop it.
pub(super) struct Mailbox {
    arrived: Mutex<Vec<(u64, Result<Arrival, Error>)>>,
    wake: UnixStream,
}

impl Mailbox {
    /// An empty one, whose loop watches the other end of `wake`.
    pub(super) fn new(wake: UnixStream) -> Self {
        Mailbox { arrived: Mutex::default(), wake }
    }

    /// Takes everything out.
    pub(super) fn take(&self) -> Vec<(u64, Result<Arrival, Error>)> {
        std::mem::take(&mut *self.arrived.lock())
    }

    /// Puts an answer in.
    pub(super) fn put(&self, call: u64, answer: Result<Arrival, Error>) {
        let first = {
            let mut arrived = self.arrived.lock();
            arrived.push((call, answer));
            arrived.len() == 1
        };
        if first {
            self.wake();
        }
    }

    /// Makes the loop look.
    pub(super) fn wake(&self) {
        // A full socket means the loop has been woken already; a closed one means nobody waits any more.
        let _ = (&self.wake).write(&[1]);
    }
}
