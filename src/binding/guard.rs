//! Guarded calls: permits for requests that Python sends itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::classify::Verdict;
use super::core::Core;
use super::exceptions::raise;
use super::loop_port::LoopPort;
use super::mailbox::Arrival;
use super::notices::NoticeBox;
use super::outcome::{PermitTuple, attempts, permit_tuple};
use super::runtime::Threads;
use crate::engine::{self, Guard, Moment, Outlook, Period};
use crate::error::{Error, ErrorKind};

/// What a guarded call wants, read once.
#[pyclass(frozen, module = "quotaflow._quotaflow")]
pub(super) struct GuardOptions(Guard);

#[pymethods]
impl GuardOptions {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "the choices a guarded call has")]
    fn new(
        provider: String,
        model: Option<String>,
        key: Option<String>,
        tokens: u64,
        priority: u8,
        retry: bool,
        max_retries: Option<u32>,
        retry_delay: Option<f64>,
        timeout: Option<f64>,
        deadline: Option<f64>,
    ) -> Self {
        GuardOptions(Guard {
            model,
            key,
            tokens,
            priority,
            retry,
            max_retries,
            retry_delay: retry_delay.map(Duration::from_secs_f64),
            timeout: timeout.map(Duration::from_secs_f64),
            deadline: deadline.map(|at| Moment::from_nanos((at * 1e9) as i64)),
            ..Guard::new(provider)
        })
    }
}

/// A call that Python sends: it asks for permits and says what came of each. Dropped, it gives back what was not sent.
#[pyclass(frozen, module = "quotaflow._quotaflow")]
pub(super) struct GuardedCall {
    /// `None` while a permit is awaited.
    call: Arc<Mutex<Option<engine::Guarded>>>,
    /// The waiter for a permit has left: what comes is given back.
    unwanted: Arc<AtomicBool>,
    threads: Threads,
    notices: Arc<NoticeBox>,
}

#[pymethods]
impl GuardedCall {
    /// Waits until a request may leave.
    fn permit(&self, py: Python<'_>) -> PyResult<PermitTuple> {
        let mut call = self.take(py)?;
        let tell = |py: Python<'_>| self.notices.deliver(py);
        let permit = self.threads.wait(py, call.permit(), tell);
        if permit.is_ok() {
            *self.call.lock() = Some(call);
        } else {
            // What it held is given back, in a file that a fork may hold up.
            py.detach(|| self.threads.enter(|| drop(call)));
        }
        let told = tell(py);
        let permit = permit?;
        told?;
        permit.map(permit_tuple).map_err(|error| raise(py, &error))
    }

    /// The same for an event loop: `port` resolves `future`. The number is what `port.cancel` takes, which ends the call.
    fn apermit(
        &self,
        py: Python<'_>,
        port: &Bound<'_, LoopPort>,
        future: Py<PyAny>,
    ) -> PyResult<u64> {
        let mut call = self.take(py)?;
        let mailbox = port.get().mailbox();
        self.notices.wakes(&mailbox);
        if let Err(error) = self.notices.deliver(py) {
            // Dropped here, with the interpreter, it might wait for a fork that waits for the interpreter.
            *self.call.lock() = Some(call);
            return Err(error);
        }
        let place = self.call.clone();
        let unwanted = self.unwanted.clone();
        let number = port.get().number();
        let work = async move {
            let permit = call.permit().await;
            if unwanted.load(Ordering::Acquire) {
                call.release();
            }
            *place.lock() = Some(call);
            // It may have become unwanted while there was nothing to give back yet.
            if unwanted.load(Ordering::Acquire)
                && let Some(call) = place.lock().as_mut()
            {
                call.release();
            }
            mailbox.put(number, permit.map(|permit| Arrival::Permit(Box::new(permit))));
        };
        let work = self.threads.spawn(work)?.abort_handle();
        LoopPort::expect(port, number, future, work, None, &self.notices)?;
        Ok(number)
    }

    /// It went well and took these tokens, of input and output; `None`: as many as were reserved.
    fn settle(&self, py: Python<'_>, tokens: Option<(u64, u64)>) -> PyResult<()> {
        self.with(py, |call| call.settle(tokens))
    }

    /// The outcome is unknown; the reservation stays counted.
    fn abandon(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, engine::Guarded::abandon)
    }

    /// It failed; the next permit is a retry, or an error.
    fn fail(&self, py: Python<'_>, verdict: &Bound<'_, Verdict>) -> PyResult<()> {
        let failure = verdict.get().failure.clone();
        self.with(py, |call| call.fail(failure))
    }

    /// Nothing was sent, and nothing will be.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.unwanted.store(true, Ordering::Release);
        self.with(py, engine::Guarded::release)
    }

    /// Every attempt so far, as the tuples of `quotaflow.records.Attempt`.
    fn attempts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let told = self.call.lock().as_ref().map_or_else(Vec::new, |call| call.attempts().to_vec());
        attempts(py, &told)
    }
}

impl GuardedCall {
    fn take(&self, py: Python<'_>) -> PyResult<engine::Guarded> {
        let is_ours = self.threads.are_of_this_process();
        let call = if is_ours { self.call.lock().take() } else { None };
        call.ok_or_else(|| raise(py, &Error::new(ErrorKind::Internal, "this call is over")))
    }

    /// Store files are written without the interpreter. In a child of a fork the call is its parent's, who books it.
    fn with(&self, py: Python<'_>, act: impl FnOnce(&mut engine::Guarded) + Send) -> PyResult<()> {
        if !self.threads.are_of_this_process() {
            return Ok(());
        }
        py.detach(|| {
            let mut call = self.call.lock();
            self.threads.enter(|| call.as_mut().map(act));
        });
        self.notices.deliver(py)
    }
}

impl Drop for GuardedCall {
    fn drop(&mut self) {
        if !self.threads.are_of_this_process() {
            // It belongs to the parent of a fork: its locks and connections are not touched.
            std::mem::forget(std::mem::take(&mut self.call));
            return;
        }
        let call = self.call.lock().take();
        if call.is_none() {
            return;
        }
        // It may write to a file that is closed while another thread forks, which needs the interpreter.
        Python::attach(|py| py.detach(|| self.threads.enter(|| drop(call))));
    }
}

#[pymethods]
impl Core {
    /// Begins a guarded call.
    fn guard(&self, py: Python<'_>, options: &Bound<'_, GuardOptions>) -> PyResult<GuardedCall> {
        let (threads, engine, notices) = self.engine(py)?;
        let guard = &options.get().0;
        let call = py.detach(|| threads.enter(|| engine.guard(guard)));
        let call = call.map_err(|error| raise(py, &error))?;
        let (call, unwanted) = (Arc::new(Mutex::new(Some(call))), Arc::default());
        Ok(GuardedCall { call, unwanted, threads, notices })
    }

    /// How long a guarded call would wait: seconds, -1.0 for "until a call in flight ends", `None` for never. With
    /// `period` (second, minute, hour, day, month) only the limits over it are asked.
    fn outlook(
        &self,
        py: Python<'_>,
        options: &Bound<'_, GuardOptions>,
        period: Option<&str>,
    ) -> PyResult<Option<f64>> {
        let period = period.map(|name| period_named(py, name)).transpose()?;
        let (_, engine, _) = self.engine(py)?;
        let guard = &options.get().0;
        let outlook = py.detach(|| engine.outlook(guard, period));
        Ok(match outlook.map_err(|error| raise(py, &error))? {
            Outlook::Now => Some(0.0),
            Outlook::In(Some(wait)) => Some(wait.as_secs_f64()),
            Outlook::In(None) => Some(-1.0),
            Outlook::Never => None,
        })
    }

    /// Counts a request that was sent without asking; returns the key it was counted for.
    fn record(
        &self,
        py: Python<'_>,
        options: &Bound<'_, GuardOptions>,
        verdict: Option<&Bound<'_, Verdict>>,
    ) -> PyResult<String> {
        let failure = verdict.map(|verdict| verdict.get().failure.clone());
        let (threads, engine, notices) = self.engine(py)?;
        let guard = &options.get().0;
        let counted = py.detach(|| threads.enter(|| engine.record(guard, failure)));
        notices.deliver(py)?;
        counted.map_err(|error| raise(py, &error))
    }

    /// Closes a key for what a request met elsewhere; says until when, in seconds since 1970, infinite for "until it is
    /// opened", `None` when nothing was closed.
    fn close_key(
        &self,
        py: Python<'_>,
        provider: &str,
        key: &str,
        verdict: &Bound<'_, Verdict>,
    ) -> PyResult<Option<f64>> {
        let failure = verdict.get().failure.clone();
        let (threads, engine, _) = self.engine(py)?;
        let closed = py.detach(|| threads.enter(|| engine.close_key(provider, key, &failure)));
        Ok(closed.map_err(|error| raise(py, &error))?.map(seconds))
    }

    /// Closes a key on request: until then, in seconds since 1970, or for good.
    fn disable_key(
        &self,
        py: Python<'_>,
        provider: &str,
        key: &str,
        until: Option<f64>,
    ) -> PyResult<()> {
        let until = until.map(|at| Moment::from_nanos((at * 1e9) as i64));
        let (threads, engine, _) = self.engine(py)?;
        let closed = py.detach(|| threads.enter(|| engine.disable_key(provider, key, until)));
        closed.map_err(|error| raise(py, &error))
    }

    /// Marks a key as used up until then, in seconds since 1970, or until the day turns at its provider.
    fn exhaust_key(
        &self,
        py: Python<'_>,
        provider: &str,
        key: &str,
        until: Option<f64>,
    ) -> PyResult<f64> {
        let until = until.map(|at| Moment::from_nanos((at * 1e9) as i64));
        let (threads, engine, _) = self.engine(py)?;
        let until = py.detach(|| threads.enter(|| engine.exhaust_key(provider, key, until)));
        Ok(seconds(until.map_err(|error| raise(py, &error))?))
    }

    /// Opens what is closed for a key; true when anything was.
    fn open_key(
        &self,
        py: Python<'_>,
        provider: &str,
        key: &str,
        also_disabled: bool,
    ) -> PyResult<bool> {
        let (threads, engine, _) = self.engine(py)?;
        let opened = py.detach(|| threads.enter(|| engine.open_key(provider, key, also_disabled)));
        opened.map_err(|error| raise(py, &error))
    }

    /// How one key is, in JSON: an element of `status()["keys"]`.
    fn key(&self, py: Python<'_>, provider: &str, key: &str) -> PyResult<String> {
        let (_, engine, notices) = self.engine(py)?;
        let status = py.detach(|| engine.key(provider, key)).map_err(|error| raise(py, &error))?;
        notices.deliver(py)?;
        serde_json::to_string(&status).map_err(|error| {
            raise(
                py,
                &Error::new(ErrorKind::Internal, format!("the status cannot be written: {error}")),
            )
        })
    }

    /// When a civil day, `YYYY-MM-DD`, ends at a provider, in seconds since 1970; `None` when that is no date.
    fn day_ends(&self, py: Python<'_>, provider: &str, date: &str) -> PyResult<Option<f64>> {
        let (_, engine, _) = self.engine(py)?;
        let end = engine.day_ends(provider, date).map_err(|error| raise(py, &error))?;
        Ok(end.map(seconds))
    }
}

fn seconds(at: Moment) -> f64 {
    if at == Moment::FAR_FUTURE { f64::INFINITY } else { at.as_seconds() }
}

fn period_named(py: Python<'_>, name: &str) -> PyResult<Period> {
    let periods = [Period::Second, Period::Minute, Period::Hour, Period::Day, Period::Month];
    periods.into_iter().find(|period| period.to_string() == name).ok_or_else(|| {
        let message = format!("there is no period {name:?}");
        raise(py, &Error::argument("period", message).hint("second, minute, hour, day or month"))
    })
}
