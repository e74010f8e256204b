//! The answers on their way to one event loop.

use std::io::Write;
use std::os::unix::net::UnixStream;

use parking_lot::Mutex;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use tokio::sync::watch;

use super::outcome::{Outcome, objects, permit_tuple};
use crate::engine::{Answer, Permit, StreamEvent};
use crate::error::Error;

/// The result that a future is resolved with.
pub(super) enum Arrival {
    /// The answer to a prompt.
    Answer(Box<Answer>),
    /// Pieces of a stream.
    Pieces(Vec<StreamEvent>),
    /// The permit of a guarded call.
    Permit(Box<Permit>),
}

impl Arrival {
    pub(super) fn into_object(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self {
            Arrival::Answer(answer) => Outcome(*answer).into_py_any(py),
            Arrival::Pieces(events) => objects(py, events),
            Arrival::Permit(permit) => permit_tuple(*permit).into_py_any(py),
        }
    }
}

/// How the loop is woken.
enum WakeUp {
    /// By a byte in a socket that the loop watches.
    Socket(UnixStream),
    /// By the future that waits in [`Mailbox::woken`], for loops that watch no sockets. Whether there is something that
    /// the loop has not looked at: a ring that is no longer wanted cannot take that away from the next one.
    Ring(watch::Sender<bool>),
}

/// Answers for one event loop; nothing of Python is in it, so any thread may drop it.
pub(super) struct Mailbox {
    arrived: Mutex<Vec<(u64, Result<Arrival, Error>)>>,
    wake_up: WakeUp,
}

impl Mailbox {
    /// An empty one, whose loop watches the other end of `socket`.
    pub(super) fn with_socket(socket: UnixStream) -> Self {
        Mailbox { arrived: Mutex::default(), wake_up: WakeUp::Socket(socket) }
    }

    /// An empty one, whose loop is woken through [`Mailbox::woken`].
    pub(super) fn with_ring() -> Self {
        Mailbox { arrived: Mutex::default(), wake_up: WakeUp::Ring(watch::Sender::new(false)) }
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

    /// Makes the loop look. Never takes the interpreter, so it may be called with a lock held.
    pub(super) fn wake(&self) {
        match &self.wake_up {
            // A full socket means the loop has been woken already; a closed one means that the loop is gone.
            WakeUp::Socket(socket) => drop((&*socket).write(&[1])),
            WakeUp::Ring(ring) => {
                ring.send_replace(true);
            }
        }
    }

    /// The loop is about to look: what comes from here on wakes it again.
    pub(super) fn looked_at(&self) {
        if let WakeUp::Ring(ring) = &self.wake_up {
            ring.send_replace(false);
        }
    }

    /// Waits until the loop is to look; for ever when it watches a socket.
    pub(super) async fn woken(&self) {
        match &self.wake_up {
            WakeUp::Socket(_) => std::future::pending().await,
            // The sender is here, so it does not end before.
            WakeUp::Ring(ring) => drop(ring.subscribe().wait_for(|is_woken| *is_woken).await),
        }
    }
}
