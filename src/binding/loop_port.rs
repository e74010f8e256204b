//! How does an answer reach an asyncio event loop?
//!
//! Answers are put into a mailbox and the loop is woken through a socket it watches, once for however many there are.
//! No thread of ours ever takes the interpreter, and sixty-four calls in flight cost a few wake-ups, not sixty-four.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use tokio::task::AbortHandle;

use super::exceptions::raise;
use super::mailbox::Mailbox;
use super::notices::{NoticeBox, Retries};

struct Waiting {
    future: Py<PyAny>,
    work: AbortHandle,
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
    /// The `on_retry` of those calls that have one.
    hooks: HashMap<u64, Hook>,
    /// Where the engines of these calls put what there is to tell.
    boxes: Vec<Weak<NoticeBox>>,
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
        let mailbox = Arc::new(Mailbox::new(wake));
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
        let arrived = self.mailbox.take();
        for (call, answer) in arrived {
            let (waiting, hook) = self.forget(call);
            let Some(waiting) = waiting else { continue };
            if let Some((hook, retries)) = hook {
                told = told.and(retries.deliver(py, &hook));
            }
            let future = waiting.future.bind(py);
            if future.call_method0("done")?.is_truthy()? {
                continue;
            }
            match answer {
                Ok(arrival) => future.call_method1("set_result", (arrival.into_object(py)?,))?,
                Err(error) => future.call_method1("set_exception", (raise(py, &error),))?,
            };
        }
        told
    }

    /// Nobody waits for this call any more: it is dropped, and gives back what it holds.
    fn cancel(&self, call: u64) {
        if let (Some(waiting), _) = self.forget(call) {
            waiting.work.abort();
        }
    }
}

type Hook = (Py<PyAny>, Arc<Retries>);

impl LoopPort {
    fn forget(&self, call: u64) -> (Option<Waiting>, Option<Hook>) {
        let mut waiting = self.waiting.lock();
        let hook = if waiting.hooks.is_empty() { None } else { waiting.hooks.remove(&call) };
        (waiting.by_number.remove(&call), hook)
    }

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
        on_retry: Option<Hook>,
        notices: &Arc<NoticeBox>,
    ) {
        let mut waiting = self.waiting.lock();
        waiting.by_number.insert(call, Waiting { future, work });
        if let Some(on_retry) = on_retry {
            waiting.hooks.insert(call, on_retry);
        }
        if !waiting.boxes.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(notices))) {
            waiting.boxes.retain(|known| known.strong_count() > 0);
            waiting.boxes.push(Arc::downgrade(notices));
        }
    }

    /// Tells what there is to tell before any answer: a wait is heard of while it lasts. Costs nothing for the calls
    /// that merely wait.
    fn tell(&self, py: Python<'_>) -> PyResult<()> {
        let (boxes, hooks): (Vec<_>, Vec<_>) = {
            let waiting = self.waiting.lock();
            let hooks = waiting.hooks.values();
            let hooks = hooks.map(|(hook, retries)| (hook.clone_ref(py), retries.clone()));
            (waiting.boxes.iter().filter_map(Weak::upgrade).collect(), hooks.collect())
        };
        boxes.iter().try_for_each(|notices| notices.deliver(py))?;
        hooks.iter().try_for_each(|(hook, retries)| retries.deliver(py, hook))
    }
}
