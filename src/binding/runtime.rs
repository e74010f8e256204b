//! The tokio runtime of a process, and how Python threads wait on it.
//!
//! One runtime per process, in a static, found by process id: tokio's single-threaded one, driven by the thread that
//! blocks on it. A caller of `send_prompt` sends and receives on its own thread; handing a request to a worker and back
//! costs more than everything else the engine does. While there are calls without a blocked caller (asyncio, batches), a
//! thread named `quotaflow` drives the runtime.
//!
//! After a fork the child makes a new runtime. The inherited one is forgotten and not dropped: dropping waits for threads
//! that do not exist in the child, and touches locks and connections of the parent.
//!
//! A blocked caller waits with the interpreter released and looks at signals every 50 ms. An exception of a signal
//! handler drops the call.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::{Condvar, Mutex};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::runtime::Runtime;

struct OfProcess {
    process: u32,
    /// Driven by the thread that blocks on it: a caller that waits sends and receives on its own thread, without handing its
    /// request to another one and back, which costs more than all of our own work.
    runtime: Runtime,
    /// The number of calls without a blocked caller: while there are any, a thread named `quotaflow` drives the runtime.
    unattended: Mutex<u64>,
    more: Condvar,
    has_driver: AtomicBool,
}

/// The runtime of this process. A child of a fork makes its own; the parent's, whose threads did not come along, is
/// never touched again, not even to drop it.
static RUNTIME: ArcSwapOption<OfProcess> = ArcSwapOption::const_empty();

/// How often a blocked caller looks at signals: Python only sets a flag on Ctrl-C.
pub(super) const LOOK_AT_SIGNALS: Duration = Duration::from_millis(50);

/// A runtime that belongs to the process that asks.
pub(super) struct Threads(Arc<OfProcess>);

impl Threads {
    /// The runtime of this process, started when it is asked for first.
    pub(super) fn get() -> PyResult<Threads> {
        let process = std::process::id();
        loop {
            let known = RUNTIME.load_full();
            if let Some(known) = &known
                && known.process == process
            {
                return Ok(Threads(known.clone()));
            }
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| {
                    PyRuntimeError::new_err(format!("the runtime cannot be started: {error}"))
                })?;
            let made = Some(Arc::new(OfProcess {
                process,
                runtime,
                unattended: Mutex::new(0),
                more: Condvar::new(),
                has_driver: AtomicBool::new(false),
            }));
            let before = RUNTIME.compare_and_swap(&known, made);
            // Keep what is a parent's alive for ever: its drop would wait for threads that are not here.
            if let Some(known) = known {
                std::mem::forget(known);
            }
            std::mem::forget(arc_swap::Guard::into_inner(before));
        }
    }

    /// Whether they are those of the process that asks, and not those of a parent it was forked from.
    pub(super) fn are_of_this_process(&self) -> bool {
        self.0.process == std::process::id()
    }

    /// Starts `work` and does not wait for it.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> PyResult<tokio::task::JoinHandle<T>> {
        let unattended = self.unattended()?;
        // A future that is handed on would have its room twice.
        let work = Box::pin(work);
        Ok(self.0.runtime.spawn(async move {
            let _unattended = unattended;
            work.await
        }))
    }

    /// Registers work without a blocked caller; until this is dropped, a thread drives the runtime.
    pub(super) fn unattended(&self) -> PyResult<Unattended> {
        if !self.0.has_driver.swap(true, Ordering::AcqRel) {
            let process = self.0.clone();
            let driver = std::thread::Builder::new().name("quotaflow".to_owned());
            driver.spawn(move || drive(&process)).map_err(|error| {
                self.0.has_driver.store(false, Ordering::Release);
                PyRuntimeError::new_err(format!("no thread can be started: {error}"))
            })?;
        }
        let mut unattended = self.0.unattended.lock();
        *unattended += 1;
        if *unattended == 1 {
            self.0.more.notify_one();
        }
        drop(unattended);
        Ok(Unattended(self.0.clone()))
    }

    /// Has connections closed that were dropped: only a runtime that is driven does it, and perhaps no caller blocks on it now.
    pub(super) fn hang_up(&self) {
        // Without a thread that could run it, they are closed when the next call is sent.
        drop(self.spawn(async {}));
    }

    /// Lets what is made inside find its timers and sockets.
    pub(super) fn enter<T>(&self, make: impl FnOnce() -> T) -> T {
        let _inside = self.0.runtime.enter();
        make()
    }

    /// Waits for `work` with the interpreter released. Every 50 ms `each_look` is called with the interpreter, after
    /// signals were looked at: Python code that runs first would take their exception for its own. An error of either
    /// drops `work`.
    pub(super) fn wait<T: Send>(
        &self,
        py: Python<'_>,
        work: impl Future<Output = T> + Send,
        each_look: impl Fn(Python<'_>) -> PyResult<()> + Send + Sync,
    ) -> PyResult<T> {
        // What is dropped half done may still want its runtime.
        let _inside = self.0.runtime.enter();
        let mut work = std::pin::pin!(work);
        loop {
            // Looking at signals may wait for the interpreter; this thread does not drive the runtime then.
            let done = py.detach(|| {
                self.0.runtime.block_on(async {
                    tokio::select! {
                        biased;
                        done = &mut work => Some(done),
                        () = tokio::time::sleep(LOOK_AT_SIGNALS) => None,
                    }
                })
            });
            if let Some(done) = done {
                return Ok(done);
            }
            py.check_signals()?;
            each_look(py)?;
        }
    }
}

/// Keeps the runtime driven.
pub(super) struct Unattended(Arc<OfProcess>);

impl Drop for Unattended {
    fn drop(&mut self) {
        *self.0.unattended.lock() -= 1;
    }
}

/// After the last unattended call the thread stays awake this long: the next one is probably near.
const LINGER: Duration = Duration::from_millis(50);

fn drive(process: &OfProcess) {
    loop {
        let mut unattended = process.unattended.lock();
        while *unattended == 0 {
            process.more.wait(&mut unattended);
        }
        drop(unattended);
        process.runtime.block_on(async {
            while *process.unattended.lock() > 0 {
                tokio::time::sleep(LINGER).await;
            }
        });
    }
}
