//! How does an answer reach an event loop that cannot watch a socket (Windows' proactor, some test loops)?
//!
//! Through pyo3-async-runtimes, over the runtime of this process: its own would be set once for ever and hang in a
//! forked child. Each answer wakes the loop by itself, so [`super::loop_port`] is the usual way.

use std::future::Future;
use std::pin::Pin;

use pyo3::prelude::*;
use pyo3_async_runtimes::TaskLocals;
use pyo3_async_runtimes::generic::{ContextExt, Runtime, future_into_py};

use super::outcome::Outcome;
use super::raising::raise;
use super::runtime::Threads;
use crate::engine::Answer;
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

/// What a call came to; it becomes an outcome or an exception where the interpreter is held anyway.
struct Settled<T> {
    answer: Result<Answer, Error>,
    tell: T,
}

impl<'py, T: FnOnce(Python<'_>) -> PyResult<()>> IntoPyObject<'py> for Settled<T> {
    type Target = Outcome;
    type Output = Bound<'py, Outcome>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        (self.tell)(py)?;
        match self.answer {
            Ok(answer) => Bound::new(py, Outcome(answer)),
            Err(error) => Err(raise(py, &error)),
        }
    }
}

/// An awaitable of what `call` comes to, `tell` being called before; cancelling it drops the call.
pub(super) fn awaitable<'py>(
    py: Python<'py>,
    threads: &Threads,
    call: impl Future<Output = Result<Answer, Error>> + Send + 'static,
    tell: impl FnOnce(Python<'_>) -> PyResult<()> + Send + 'static,
) -> PyResult<Bound<'py, PyAny>> {
    let unattended = threads.unattended()?;
    let settled = async move {
        let _unattended = unattended;
        Ok(Settled { answer: call.await, tell })
    };
    threads.enter(|| future_into_py::<Entered, _, _>(py, settled))
}
