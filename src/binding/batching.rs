//! Batches for Python.
//!
//! The interpreter is crossed into for many calls at a time: some are put in, those that came to their end are taken out.
//! A thread drives the runtime until the batch is closed, so calls go on while Python looks at answers.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use super::call_options::CallOptions;
use super::core::Core;
use super::exceptions::raise;
use super::notices::{NoticeBox, Retries};
use super::outcome::Outcome;
use super::prompt::Prompt;
use super::runtime::{LOOK_AT_SIGNALS, Threads, Unattended};
use crate::engine::{Batch, RetryHook};

/// Calls that are under way together.
#[pyclass(frozen, module = "quotaflow._quotaflow")]
pub(super) struct BatchRun {
    threads: Threads,
    /// `None` once it was closed.
    batch: Mutex<Option<Arc<Batch>>>,
    unattended: Mutex<Option<Unattended>>,
    notices: Arc<NoticeBox>,
    on_retry: Option<Py<PyAny>>,
    retries: Arc<Retries>,
    bell: UnixStream,
}

#[pymethods]
impl Core {
    /// An empty batch of calls like `options`; `most` at once, or as many as the quotas let through.
    fn batch(
        &self,
        py: Python<'_>,
        options: &Bound<'_, CallOptions>,
        most: Option<usize>,
    ) -> PyResult<BatchRun> {
        let options = options.get();
        let (threads, engine, notices) = self.engine(py)?;
        notices.listen_to_decisions(options.debug);
        let pair = UnixStream::pair().and_then(|(bell, rope)| {
            bell.set_nonblocking(true)?;
            rope.set_nonblocking(true)?;
            Ok((bell, rope))
        });
        let (bell, rope) =
            pair.map_err(|error| PyOSError::new_err(format!("no sockets can be made: {error}")))?;
        // A full socket means that the loop has been woken already.
        let ring = move || drop((&rope).write(&[1]));
        Ok(BatchRun {
            unattended: Mutex::new(Some(threads.unattended()?)),
            batch: Mutex::new(Some(Arc::new(engine.batch(&options.ask, most, ring)))),
            on_retry: options.on_retry.as_ref().map(|hook| hook.clone_ref(py)),
            retries: Arc::default(),
            threads,
            notices,
            bell,
        })
    }
}

#[pymethods]
impl Core {
    /// A digest of what such calls ask beside their prompts, and of whom: `openai/gpt-4o-mini`.
    fn asked<'py>(
        &self,
        py: Python<'py>,
        options: &Bound<'py, CallOptions>,
    ) -> PyResult<(Bound<'py, PyBytes>, String)> {
        let (_, engine, _) = self.engine(py)?;
        let options = options.get();
        let asked = engine.question(&options.ask, options.system.as_deref());
        let asked = asked.map_err(|error| raise(py, &error))?;
        Ok((PyBytes::new(py, &asked.digest), format!("{}/{}", asked.provider, asked.model)))
    }
}

#[pymethods]
impl BatchRun {
    /// How many more calls are wanted now.
    fn wants(&self) -> PyResult<usize> {
        Ok(self.batch()?.wants())
    }

    /// Starts calls: each a number, its prompt, and its options. Gives the numbers of those whose messages are none, and
    /// what is wrong with them.
    fn put(&self, py: Python<'_>, calls: &Bound<'_, PyList>) -> PyResult<Vec<(u64, String)>> {
        let batch = self.batch()?;
        let mut refused = Vec::new();
        let mut asks = Vec::with_capacity(calls.len());
        for call in calls.iter() {
            let call = call.cast_into::<PyTuple>()?;
            let number: u64 = call.get_item(0)?.extract()?;
            let prompt: Prompt = call.get_item(1)?.extract()?;
            let options = call.get_item(2)?.cast_into::<CallOptions>()?;
            match options.get().ask(&prompt) {
                Ok(mut ask) => {
                    if self.on_retry.is_some() {
                        let retries = self.retries.clone();
                        ask.on_retry =
                            Some(RetryHook(Arc::new(move |attempt| retries.note(attempt))));
                    }
                    asks.push((number, ask));
                }
                Err(error) => refused.push((number, error.message.clone())),
            }
        }
        py.detach(|| self.threads.enter(|| batch.put(asks)));
        Ok(refused)
    }

    /// Appends what came to its end to `into`: number, outcome or exception, seconds, tokens in, tokens out, attempts.
    /// It is appended and not returned, so that Ctrl-C finds it in one place or the other. Notices and hooks are left to
    /// the driver of the batch when it `tells` of none.
    #[pyo3(signature = (into, tells = true))]
    fn take(&self, py: Python<'_>, into: &Bound<'_, PyList>, tells: bool) -> PyResult<()> {
        let mut rung = [0_u8; 64];
        while matches!((&self.bell).read(&mut rung), Ok(read) if read == rung.len()) {}
        for (number, outcome) in self.batch()?.take() {
            let told = match outcome {
                Ok(answer) => {
                    let (tokens_in, tokens_out) = answer
                        .usage
                        .map_or((0, 0), |usage| (usage.input_tokens, usage.output_tokens));
                    let (seconds, attempts) = (answer.latency.as_secs_f64(), answer.attempts.len());
                    let outcome = Outcome(answer).into_py_any(py)?;
                    (number, outcome, seconds, tokens_in, tokens_out, attempts)
                }
                Err(error) => {
                    let attempts = error.attempts.len();
                    let seconds: f64 = error
                        .attempts
                        .iter()
                        .map(|one| (one.waited + one.lasted).as_secs_f64())
                        .sum();
                    (number, raise(py, &error).into_value(py).into_any(), seconds, 0, 0, attempts)
                }
            };
            into.append(told)?;
        }
        if tells { self.tell(py) } else { Ok(()) }
    }

    /// Waits until there is something to take, or for so many seconds.
    fn wait(&self, py: Python<'_>, seconds: f64) -> PyResult<()> {
        let batch = self.batch()?;
        let mut left = Duration::from_secs_f64(seconds.clamp(0.0, 60.0));
        loop {
            let slice = left.min(LOOK_AT_SIGNALS);
            let rung = py.detach(|| batch.wait(slice));
            py.check_signals()?;
            self.tell(py)?;
            left -= slice;
            if rung || left.is_zero() {
                return Ok(());
            }
        }
    }

    /// How many are under way, how many of them wait and for what; and the seconds lost to each limit.
    #[expect(clippy::type_complexity, reason = "one tuple that crosses over")]
    fn reading(&self) -> PyResult<(usize, usize, Option<String>, Vec<(String, f64)>)> {
        let batch = self.batch()?;
        let reading = batch.reading();
        let lost = reading.lost.into_iter().map(|(name, lost)| (name, lost.as_secs_f64()));
        Ok((batch.under_way(), reading.waiting, reading.obstacle, lost.collect()))
    }

    /// In how many seconds so many prompts are answered, those under way included, that have so many tokens, and their
    /// answers, as far as that is known.
    fn time_left(&self, py: Python<'_>, left: u64, size: Option<(u64, u64)>) -> PyResult<f64> {
        let batch = self.batch()?;
        let found = py.detach(|| batch.time_left(left, size));
        found.map(|left| left.as_secs_f64()).map_err(|error| raise(py, &error))
    }

    /// Drops what was never sent; gives the numbers.
    fn withdraw(&self) -> PyResult<Vec<u64>> {
        let batch = self.batch()?;
        Ok(self.threads.enter(|| batch.withdraw()))
    }

    /// Drops everything that is under way. Closing twice is fine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if !self.threads.are_of_this_process() {
            return Ok(());
        }
        if let Some(batch) = self.batch.lock().take() {
            py.detach(|| self.threads.enter(|| batch.abandon()));
            // Dropped calls release what they hold while the runtime is still driven.
            self.threads.spawn(std::future::ready(()))?;
        }
        *self.unattended.lock() = None;
        self.tell(py)
    }

    /// What an event loop watches for reading.
    fn fileno(&self) -> i32 {
        self.bell.as_raw_fd()
    }
}

impl BatchRun {
    fn batch(&self) -> PyResult<Arc<Batch>> {
        if !self.threads.are_of_this_process() {
            return Err(PyRuntimeError::new_err("this batch belongs to the parent process"));
        }
        let batch = self.batch.lock().clone();
        batch.ok_or_else(|| PyRuntimeError::new_err("this batch has ended"))
    }

    fn tell(&self, py: Python<'_>) -> PyResult<()> {
        self.notices.deliver(py)?;
        self.on_retry.as_ref().map_or(Ok(()), |hook| self.retries.deliver(py, hook))
    }
}

impl Drop for BatchRun {
    fn drop(&mut self) {
        let (batch, unattended) = (self.batch.lock().take(), self.unattended.lock().take());
        if self.threads.are_of_this_process() {
            // What is dropped half done may still want its runtime.
            self.threads.enter(|| drop(batch));
        } else {
            std::mem::forget((batch, unattended));
        }
    }
}
