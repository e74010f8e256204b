//! Notices and retries on their way to Python.
//!
//! Notices are for `logging`, retries for a call's `on_retry`. Both go into a bounded box, which a thread empties that
//! holds the interpreter anyway: a blocked caller every 50 ms and at its end, an event loop when it is woken. No other
//! thread waits for the interpreter, and none writes a log.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

use super::mailbox::Mailbox;
use super::outcome;
use crate::engine::{Events, Notice, Observer};
use crate::error::Attempt;

/// Of more undelivered notices than this, the oldest are dropped.
const MOST_KEPT: usize = 10_000;

/// Notices on their way to `logging`.
#[derive(Default)]
pub(super) struct NoticeBox {
    notices: Mutex<VecDeque<Notice>>,
    has_any: AtomicBool,
    debug: AtomicBool,
    loops: Mutex<Vec<Weak<Mailbox>>>,
    wanted: AtomicU8,
    events: Mutex<VecDeque<String>>,
    has_event: Condvar,
}

impl NoticeBox {
    /// Whether decisions are logged as well; the latest call knows the level.
    pub(super) fn listen_to_decisions(&self, wanted: bool) {
        self.debug.store(wanted, Ordering::Relaxed);
    }

    /// An event loop that is to be woken for notices.
    pub(super) fn wakes(&self, mailbox: &Arc<Mailbox>) {
        let mut loops = self.loops.lock();
        if !loops.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(mailbox))) {
            loops.retain(|known| known.strong_count() > 0);
            loops.push(Arc::downgrade(mailbox));
        }
    }

    /// Hands everything over to the loggers under `quotaflow`.
    ///
    /// # Errors
    /// Ctrl-C, if it arrives during delivery. What logging itself raises is reported the way
    /// Python reports errors that cannot be caught.
    pub(super) fn deliver(&self, py: Python<'_>) -> PyResult<()> {
        if !self.has_any.swap(false, Ordering::Acquire) {
            return Ok(());
        }
        let notices: Vec<Notice> = self.notices.lock().drain(..).collect();
        log(py, &notices).or_else(|error| report(py, error, None))
    }
}

impl NoticeBox {
    /// Which events a program listens to.
    pub(super) fn listen(&self, wanted: Events) {
        self.wanted.store(wanted.0, Ordering::Relaxed);
    }

    fn wanted(&self) -> Events {
        Events(self.wanted.load(Ordering::Relaxed))
    }

    fn keep_events(&self, notice: &Notice) {
        let told = notice.events(self.wanted());
        if told.is_empty() {
            return;
        }
        let mut events = self.events.lock();
        for event in told {
            if events.len() >= MOST_KEPT {
                events.pop_front();
            }
            events.push_back(event.to_string());
        }
        self.has_event.notify_one();
    }

    /// The events so far, waited for as long as `patience` when there are none.
    pub(super) fn next_events(&self, patience: Duration) -> Vec<String> {
        let mut events = self.events.lock();
        if events.is_empty() {
            self.has_event.wait_for(&mut events, patience);
        }
        events.drain(..).collect()
    }

    /// Wakes the listener for events.
    pub(super) fn wake_listener(&self) {
        self.has_event.notify_all();
    }
}

impl Observer for NoticeBox {
    fn notice(&self, notice: &Notice) {
        if !self.wanted().is_empty() {
            self.keep_events(notice);
        }
        if matches!(notice, Notice::Settlement { .. } | Notice::Retry { .. }) {
            return;
        }
        {
            let mut notices = self.notices.lock();
            if notices.len() >= MOST_KEPT {
                notices.pop_front();
            }
            notices.push_back(notice.clone());
        }
        if !self.has_any.swap(true, Ordering::Release) {
            self.loops.lock().iter().filter_map(Weak::upgrade).for_each(|mailbox| mailbox.wake());
        }
    }

    fn wants_decisions(&self) -> bool {
        self.debug.load(Ordering::Relaxed)
    }

    fn wants_settlements(&self) -> bool {
        self.wanted().contains("settled")
    }
}

fn log(py: Python<'_>, notices: &[Notice]) -> PyResult<()> {
    const DEBUG: u8 = 10;
    const INFO: u8 = 20;
    const WARNING: u8 = 30;
    let logger = py.import("logging")?.call_method1("getLogger", ("quotaflow",))?;
    for notice in notices {
        let level = match notice {
            Notice::Decision { .. } => DEBUG,
            Notice::Warning(_) => WARNING,
            _ => INFO,
        };
        if logger.call_method1("isEnabledFor", (level,))?.is_truthy()? {
            logger.call_method1("log", (level, "%s", notice.to_string()))?;
        }
    }
    Ok(())
}

/// Failed attempts on their way to a call's `on_retry`.
#[derive(Default)]
pub(super) struct Retries(Mutex<Vec<Attempt>>);

impl Retries {
    /// Takes note of an attempt that is followed by another one.
    pub(super) fn note(&self, attempt: &Attempt) {
        self.0.lock().push(attempt.clone());
    }

    /// Calls `hook` with each; an exception of the hook is reported and does not reach the call.
    ///
    /// # Errors
    /// Ctrl-C, if it arrives during delivery.
    pub(super) fn deliver(&self, py: Python<'_>, hook: &Py<PyAny>) -> PyResult<()> {
        let attempts = std::mem::take(&mut *self.0.lock());
        attempts.iter().try_for_each(|attempt| {
            let called = hook.call1(py, (outcome::attempt(attempt),)).map(drop);
            called.or_else(|error| report(py, error, Some(hook.bind(py))))
        })
    }
}

/// Reports an error of a user's code and goes on; `KeyboardInterrupt` and `SystemExit` are passed on.
fn report(py: Python<'_>, error: PyErr, place: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    if error.is_instance_of::<PyException>(py) {
        error.write_unraisable(py, place);
        return Ok(());
    }
    Err(error)
}
