//! The wake-up of event loops that watch no sockets, by `call_soon_threadsafe`.
//!
//! A ring is a future of the loop that ends when something is in the mailbox. pyo3-async-runtimes makes it, over the
//! runtime of this process: its own would be set once for ever and hang in a forked child. It takes the interpreter on
//! a thread of its own, once for each ring and not for each answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3_async_runtimes::TaskLocals;
use pyo3_async_runtimes::generic::{ContextExt, Runtime, future_into_py};

use super::mailbox::Mailbox;
use super::runtime::Threads;

/// The runtime that is entered; [`ring`] enters the one of this process.
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

/// A future of the running loop that ends when the mailbox is next woken.
pub(super) fn ring<'py>(
    py: Python<'py>,
    threads: &Threads,
    mailbox: Arc<Mailbox>,
) -> PyResult<Bound<'py, PyAny>> {
    let unattended = threads.unattended()?;
    let woken = async move {
        let _unattended = unattended;
        mailbox.woken().await;
        Ok(())
    };
    threads.enter(|| future_into_py::<Entered, _, _>(py, woken))
}
