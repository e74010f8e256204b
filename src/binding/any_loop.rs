//! How does an answer reach an event loop that cannot watch a socket (Windows' proactor, some test loops)?
//!
//! Through pyo3-async-runtimes, over the runtime of this process: its own would be set once for ever and hang in a
//! forked child. Each answer wakes the loop by itself, so [`super::loop_port`] is the usual way.

use std::future::Future;
use std::pin::Pin;

use pyo3::prelude::*;
use pyo3_async_runtimes::TaskLocals;
use pyo3_async_runtimes::generic::{ContextExt, Runtime, future_into_py};

use super::exceptions::raise;
use super::runtime::Threads;
use crate::error::Error;

/// The runtime that is entered; `awaitable` enters the one of this process.
struct Entered;

impl Runtime for Entered {
    type JoinError = tokio::task::JoinError;
    type JoinHandle = tokio::task::JoinHandle<()>;

    fn spawn<F: Future<Output = ()> + Send + 'static>(work: F) -> Self::JoinHandle {
        tokio::spawn(work)
    }

    fn spawn_blocking<F: FnOnce() + Send + 'static>(work: F) -> Self::JoinHandle {
        tokio::task::spawn_blocking(work)
    }
}

tokio::task_local! {
    static LOCALS: TaskLocals;
}

impl ContextExt for Entered {
    fn scope<F, R>(locals: TaskLocals, work: F) -> Pin<Box<dyn Future<Output = R> + Send>>
    where
        F: Future<Output = R> + Send + 'static,
    {
        Box::pin(LOCALS.scope(locals, work))
    }

    fn get_task_locals() -> Option<TaskLocals> {
        LOCALS.try_with(TaskLocals::clone).ok()
    }
}

/// What some work came to; it becomes an object or an exception where the interpreter is held anyway.
struct Settled<R, T> {
    came: Result<R, Error>,
    convert: fn(Python<'_>, R) -> PyResult<Py<PyAny>>,
    tell: T,
}

impl<'py, R, T: FnOnce(Python<'_>) -> PyResult<()>> IntoPyObject<'py> for Settled<R, T> {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        (self.tell)(py)?;
        let came = self.came.map_err(|error| raise(py, &error))?;
        Ok((self.convert)(py, came)?.into_bound(py))
    }
}

/// An awaitable of what `work` comes to, made into an object by `convert`; `tell` is called before. Cancelling it
/// drops the work.
pub(super) fn awaitable<'py, R: Send + 'static>(
    py: Python<'py>,
    threads: &Threads,
    work: impl Future<Output = Result<R, Error>> + Send + 'static,
    convert: fn(Python<'_>, R) -> PyResult<Py<PyAny>>,
    tell: impl FnOnce(Python<'_>) -> PyResult<()> + Send + 'static,
) -> PyResult<Bound<'py, PyAny>> {
    let unattended = threads.unattended()?;
    let settled = async move {
        let _unattended = unattended;
        Ok(Settled { came: work.await, convert, tell })
    };
    threads.enter(|| future_into_py::<Entered, _, _>(py, settled))
}
