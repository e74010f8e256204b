//! On which threads does the engine run, and how does a Python thread wait for it?

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::runtime::Runtime;

struct OfProcess {
    process: u32,
    runtime: Runtime,
}

/// The runtime of this process. A child of a fork makes its own; the parent's, whose threads did not come along, is
/// never touched again, not even to drop it.
static RUNTIME: ArcSwapOption<OfProcess> = ArcSwapOption::const_empty();

/// Python only sets a flag on Ctrl-C; somebody has to look at it.
const LOOK_AT_SIGNALS: Duration = Duration::from_millis(50);

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
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(WORKERS)
                .thread_name("quotaflow")
                .enable_all()
                .build()
                .map_err(|error| {
                    PyRuntimeError::new_err(format!("no threads can be started: {error}"))
                })?;
            let made = Some(Arc::new(OfProcess { process, runtime }));
            let before = RUNTIME.compare_and_swap(&known, made);
            // Keep what is a parent's alive for ever: its drop would wait for threads that are not here.
            if let Some(known) = known {
                std::mem::forget(known);
            }
            std::mem::forget(arc_swap::Guard::into_inner(before));
        }
    }

    /// Starts `work` and does not wait for it.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.0.runtime.spawn(work)
    }

    /// Lets what is made inside find its timers and sockets.
    pub(super) fn enter<T>(&self, make: impl FnOnce() -> T) -> T {
        let _inside = self.0.runtime.enter();
        make()
    }

    /// Waits for `work` with the interpreter released. Every 50 ms `meanwhile` is called with the interpreter, after
    /// signals were looked at: Python code that runs first would take their exception for its own. An error of either
    /// drops `work`.
    pub(super) fn wait<T: Send>(
        &self,
        py: Python<'_>,
        work: impl Future<Output = T> + Send,
        meanwhile: impl Fn(Python<'_>) -> PyResult<()> + Send + Sync,
    ) -> PyResult<T> {
        py.detach(|| {
            self.0.runtime.block_on(async {
                tokio::pin!(work);
                loop {
                    tokio::select! {
                        biased;
                        done = &mut work => return Ok(done),
                        () = tokio::time::sleep(LOOK_AT_SIGNALS) => Python::attach(|py| {
                            py.check_signals()?;
                            meanwhile(py)
                        })?,
                    }
                }
            })
        })
    }
}

/// The engine's work is short and waits for the network; more threads would only compete with Python's own.
const WORKERS: usize = 1;
