//! The port of one asyncio event loop: futures, and what resolves them.
//!
//! Answers, pieces of streams and permits are put into the [`Mailbox`], and the loop is woken once for however many
//! there are; it drains the mailbox on its own thread. Waking it with `call_soon_threadsafe` needs the interpreter on
//! another thread; with many calls in flight that thread and the loop contend for it. A loop that can watch
//! sockets is therefore woken by a byte in a socket pair. A loop without `add_reader` is woken by a ring
//! ([`super::loop_ring`]), which is set while a call waits.

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
use super::loop_ring::ring;
use super::mailbox::Mailbox;
use super::notices::{NoticeBox, Retries};
use super::runtime::Threads;

struct Waiting {
    future: Py<PyAny>,
    work: AbortHandle,
}

/// The end of a mailbox that one event loop holds.
#[pyclass(frozen, module = "quotaflow._quotaflow")]
pub(super) struct LoopPort {
    mailbox: Arc<Mailbox>,
    /// What the loop watches; `None` where it is woken by rings.
    bell: Option<UnixStream>,
    waiting: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    by_number: HashMap<u64, Waiting>,
    /// The `on_retry` of those calls that have one.
    hooks: HashMap<u64, Hook>,
    /// The notices of the engines of these calls.
    boxes: Vec<Weak<NoticeBox>>,
    last: u64,
    /// The future that ends when a loop without a socket is to look.
    ring: Option<Py<PyAny>>,
}

#[pymethods]
impl LoopPort {
    #[new]
    #[pyo3(signature = (watches_sockets=true))]
    fn new(watches_sockets: bool) -> PyResult<Self> {
        if !watches_sockets {
            let mailbox = Arc::new(Mailbox::with_ring());
            return Ok(LoopPort { mailbox, bell: None, waiting: Mutex::default() });
        }
        let pair = || -> std::io::Result<(UnixStream, UnixStream)> {
            let (bell, wake) = UnixStream::pair()?;
            bell.set_nonblocking(true)?;
            wake.set_nonblocking(true)?;
            Ok((bell, wake))
        };
        let (bell, wake) = pair().map_err(|error| PyOSError::new_err(error.to_string()))?;
        let mailbox = Arc::new(Mailbox::with_socket(wake));
        Ok(LoopPort { mailbox, bell: Some(bell), waiting: Mutex::default() })
    }

    /// What the loop watches for reading.
    fn fileno(&self) -> PyResult<i32> {
        let bell = self.bell.as_ref().map(AsRawFd::as_raw_fd);
        bell.ok_or_else(|| PyOSError::new_err("this port has no socket"))
    }

    /// Is called by the loop when its ring ended: drains the mailbox, and sets the next ring while calls wait.
    fn rung(port: &Bound<'_, Self>, ring: &Bound<'_, PyAny>) -> PyResult<()> {
        if ring.call_method0("cancelled")?.is_truthy()? {
            return Ok(());
        }
        port.get().waiting.lock().ring = None;
        let drained = port.get().drain(port.py());
        drained.and(LoopPort::set_ring(port))
    }

    /// Hands every answer that arrived to its future.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(mut bell) = self.bell.as_ref() {
            let mut rung = [0_u8; 64];
            while matches!(bell.read(&mut rung), Ok(read) if read == rung.len()) {}
        }
        self.mailbox.looked_at();
        // Whatever this raises, the answers reach their futures first.
        let mut delivered = self.deliver(py);
        let arrived = self.mailbox.take();
        for (call, answer) in arrived {
            let (waiting, hook) = self.forget(call);
            let Some(waiting) = waiting else { continue };
            if let Some((hook, retries)) = hook {
                delivered = delivered.and(retries.deliver(py, &hook));
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
        delivered
    }

    /// Drops a call that is no longer waited for; it gives back what it holds.
    fn cancel(&self, py: Python<'_>, call: u64) {
        if let (Some(waiting), _) = self.forget(call) {
            waiting.work.abort();
        }
        let ring = {
            let mut waiting = self.waiting.lock();
            if waiting.by_number.is_empty() { waiting.ring.take() } else { None }
        };
        if let Some(ring) = ring {
            // A closed loop refuses to run the callbacks of the ring; there is nothing left to wake then.
            drop(ring.call_method0(py, "cancel"));
            // Its work ends even if the loop runs no callback any more.
            self.mailbox.wake();
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
    ///
    /// # Errors
    /// When the loop cannot be woken; the call is dropped then.
    pub(super) fn expect(
        port: &Bound<'_, Self>,
        call: u64,
        future: Py<PyAny>,
        work: AbortHandle,
        on_retry: Option<Hook>,
        notices: &Arc<NoticeBox>,
    ) -> PyResult<()> {
        let this = port.get();
        this.note(call, Waiting { future, work }, on_retry, notices);
        if this.bell.is_some() {
            return Ok(());
        }
        LoopPort::set_ring(port).inspect_err(|_| this.cancel(port.py(), call))
    }

    fn note(&self, call: u64, waits: Waiting, on_retry: Option<Hook>, notices: &Arc<NoticeBox>) {
        let mut waiting = self.waiting.lock();
        waiting.by_number.insert(call, waits);
        if let Some(on_retry) = on_retry {
            waiting.hooks.insert(call, on_retry);
        }
        if !waiting.boxes.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(notices))) {
            waiting.boxes.retain(|known| known.strong_count() > 0);
            waiting.boxes.push(Arc::downgrade(notices));
        }
    }

    /// Sets the ring of a loop without a socket, if calls wait and none is set.
    fn set_ring(port: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (port.py(), port.get());
        {
            let waiting = this.waiting.lock();
            if waiting.by_number.is_empty() || waiting.ring.is_some() {
                return Ok(());
            }
        }
        let ring = ring(py, &Threads::get()?, this.mailbox())?;
        ring.call_method1("add_done_callback", (port.getattr("rung")?,))?;
        this.waiting.lock().ring = Some(ring.unbind());
        Ok(())
    }

    /// Delivers notices and retries before any answer: a wait is logged while it lasts. Costs nothing for the calls
    /// that merely wait.
    fn deliver(&self, py: Python<'_>) -> PyResult<()> {
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
