//! How does an answer reach an asyncio event loop?
//!
//! Answers are put into a mailbox and the loop is woken through a socket it watches, once for however many there are.
//! No thread of ours ever takes the interpreter, and sixty-four calls in flight cost a few wake-ups, not sixty-four.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use tokio::task::AbortHandle;

use super::outcome::Outcome;
use super::raising::raise;
use super::telling::{NoticeBox, Retries};
use crate::engine::Answer;
use crate::error::Error;

/// Answers for one event loop; nothing of Python is in it, so any thread may drop it.
pub(super) struct Mailbox {
    arrived: Mutex<Vec<(u64, Result<Answer, Error>)>>,
    wake: UnixStream,
}

impl Mailbox {
    /// Puts an answer in.
    pub(super) fn put(&self, call: u64, answer: Result<Answer, Error>) {
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

struct Waiting {
    future: Py<PyAny>,
    work: AbortHandle,
    on_retry: Option<(Py<PyAny>, Arc<Retries>)>,
    notices: Arc<NoticeBox>,
}

/// The end of a mailbox that one event loop holds.
#[pyclass(frozen, module = "quotaflow._quotaflow")]
pub(super) struct LoopPort {
    mailbox: Arc<Mailbox>,
    bell: UnixStream,
    waiting: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    by_number: HashMap<u64, Waiting>,
    last: u64,
}

#[pymethods]
impl LoopPort {
    #[new]
    fn new() -> PyResult<Self> {
        let pair = || -> std::io::Result<(UnixStream, UnixStream)> {
            let (bell, wake) = UnixStream::pair()?;
            bell.set_nonblocking(true)?;
            wake.set_nonblocking(true)?;
            Ok((bell, wake))
        };
        let (bell, wake) = pair().map_err(|error| PyOSError::new_err(error.to_string()))?;
        let mailbox = Arc::new(Mailbox { arrived: Mutex::default(), wake });
        Ok(LoopPort { mailbox, bell, waiting: Mutex::default() })
    }

    /// What the loop watches for reading.
    fn fileno(&self) -> i32 {
        self.bell.as_raw_fd()
    }

    /// Hands every answer that arrived to its future.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        let mut rung = [0_u8; 64];
        while matches!((&self.bell).read(&mut rung), Ok(read) if read == rung.len()) {}
        // Whatever is raised while telling, the answers reach their futures first.
        let mut told = self.tell(py);
        let arrived = std::mem::take(&mut *self.mailbox.arrived.lock());
        for (call, answer) in arrived {
            let waiting = self.waiting.lock().by_number.remove(&call);
            let Some(waiting) = waiting else { continue };
            if let Some((hook, retries)) = &waiting.on_retry {
                told = told.and(retries.deliver(py, hook));
            }
            let future = waiting.future.bind(py);
            if future.call_method0("done")?.is_truthy()? {
                continue;
            }
            match answer {
                Ok(answer) => future.call_method1("set_result", (Outcome(answer),))?,
                Err(error) => future.call_method1("set_exception", (raise(py, &error),))?,
            };
        }
        told
    }

    /// Nobody waits for this call any more: it is dropped, and gives back what it holds.
    fn cancel(&self, call: u64) {
        if let Some(waiting) = self.waiting.lock().by_number.remove(&call) {
            waiting.work.abort();
        }
    }
}

impl LoopPort {
    /// A number for a new call.
    pub(super) fn number(&self) -> u64 {
        let mut waiting = self.waiting.lock();
        waiting.last += 1;
        waiting.last
    }

    pub(super) fn mailbox(&self) -> Arc<Mailbox> {
        self.mailbox.clone()
    }

    /// `future` waits for the answer of `call`.
    pub(super) fn expect(
        &self,
        call: u64,
        future: Py<PyAny>,
        work: AbortHandle,
        on_retry: Option<(Py<PyAny>, Arc<Retries>)>,
        notices: Arc<NoticeBox>,
    ) {
        let waiting = Waiting { future, work, on_retry, notices };
        self.waiting.lock().by_number.insert(call, waiting);
    }

    /// Tells what there is to tell before any answer: a wait is heard of while it lasts.
    fn tell(&self, py: Python<'_>) -> PyResult<()> {
        let mut boxes: Vec<Arc<NoticeBox>> = Vec::new();
        let mut hooks = Vec::new();
        for waiting in self.waiting.lock().by_number.values() {
            if !boxes.iter().any(|known| Arc::ptr_eq(known, &waiting.notices)) {
                boxes.push(waiting.notices.clone());
            }
            if let Some((hook, retries)) = &waiting.on_retry {
                hooks.push((hook.clone_ref(py), retries.clone()));
            }
        }
        boxes.iter().try_for_each(|notices| notices.deliver(py))?;
        hooks.iter().try_for_each(|(hook, retries)| retries.deliver(py, hook))
    }
}
