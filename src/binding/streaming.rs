//! Streamed answers for Python.
//!
//! Streams are pulled: one crossing of the border brings all pieces that are there, and nothing is read ahead of the
//! reader. A reader that stops leaves the rest with the server, so backpressure is a socket that is not read.
//!
//! Between two crossings [`StreamCall`] keeps the stream parked. A thread waits for pieces as for a prompt. For an event
//! loop each crossing is one task, which brings the pieces to the mailbox and parks the stream again. Cancelling a
//! crossing drops the stream: a `wait_for` that gave up looks like a cancelled task, and that must end the request. A
//! connection is closed only while the runtime is driven, so leaving a stream has a thread drive it for a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;
use tokio::sync::Notify;

use super::call_options::CallOptions;
use super::core::Core;
use super::exceptions::raise;
use super::loop_port::LoopPort;
use super::mailbox::{Arrival, Mailbox};
use super::notices::{NoticeBox, Retries};
use super::outcome::{Outcome, objects};
use super::prompt::Prompt;
use super::runtime::Threads;
use crate::engine::{
    Answer, Checkout, Engine, ParkedStream, Resume, RetryHook, StreamEvent, Streaming,
};
use crate::error::{Error, ErrorKind};

/// A call whose answer comes in pieces. Dropped, it ends the request and settles what was used.
#[pyclass(frozen, module = "quotaflow._quotaflow")]
pub(super) struct StreamCall {
    shared: Arc<Shared>,
    threads: Threads,
    notices: Arc<NoticeBox>,
    on_retry: Option<(Py<PyAny>, Arc<Retries>)>,
    /// The loop to wake for retries.
    wakes: Arc<Mutex<Option<Arc<Mailbox>>>>,
}

/// The state that the reader of a stream shares with the one that closes it.
struct Shared {
    seat: Arc<ParkedStream>,
    /// Kept while the stream is: what ends overdue streams holds its engine weakly.
    _engine: Arc<Engine>,
    answer: Mutex<Option<Answer>>,
    is_closed: AtomicBool,
    closing: Notify,
}

#[pymethods]
impl StreamCall {
    /// Waits for the next pieces: a string for text, a tuple for anything else, none at the end.
    fn next(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let mut stream = self.take(py)?;
        let tell = |py: Python<'_>| self.tell(py);
        let came = self.threads.wait(py, self.shared.pull(&mut stream), tell);
        let is_over = !matches!(&came, Ok(Ok(events)) if !events.is_empty());
        let broke_off = !matches!(&came, Ok(Ok(_)));
        py.detach(|| {
            self.threads.enter(|| self.shared.put_back(stream, is_over));
            if broke_off {
                self.threads.hang_up();
            }
        });
        let told = tell(py);
        let came = came?;
        told?;
        objects(py, came.map_err(|error| raise(py, &error))?)
    }

    /// The same for an event loop: `port` resolves `future`. The number is what `port.cancel` takes, which ends the
    /// stream.
    fn anext(
        &self,
        py: Python<'_>,
        port: &Bound<'_, LoopPort>,
        future: Py<PyAny>,
    ) -> PyResult<u64> {
        let mut stream = self.take(py)?;
        let mailbox = port.get().mailbox();
        *self.wakes.lock() = Some(mailbox.clone());
        self.notices.wakes(&mailbox);
        self.notices.deliver(py)?;
        let call = port.get().number();
        let shared = self.shared.clone();
        let work = async move {
            let came = shared.pull(&mut stream).await;
            shared.put_back(stream, !matches!(&came, Ok(events) if !events.is_empty()));
            mailbox.put(call, came.map(Arrival::Pieces));
        };
        let work = self.threads.spawn(work)?.abort_handle();
        let hook = self.on_retry.as_ref();
        let hook = hook.map(|(hook, retries)| (hook.clone_ref(py), retries.clone()));
        LoopPort::expect(port, call, future, work, hook, &self.notices)?;
        Ok(call)
    }

    /// The whole answer, once there are no more pieces; given once.
    fn outcome(&self) -> Option<Outcome> {
        if !self.threads.are_of_this_process() {
            return None;
        }
        self.shared.answer.lock().take().map(Outcome)
    }

    /// Ends the request and settles what was used; a reader that waits gets a `ClosedError`.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if !self.threads.are_of_this_process() {
            return Ok(());
        }
        py.detach(|| self.end());
        self.notices.deliver(py)
    }
}

impl StreamCall {
    /// Checks the stream out for one reader.
    fn take(&self, py: Python<'_>) -> PyResult<Box<Streaming>> {
        if !self.threads.are_of_this_process() {
            let error =
                Error::new(ErrorKind::Closed, "this stream belongs to the parent of a fork");
            return Err(raise(py, &error.hint("begin a new one in each process")));
        }
        match self.shared.seat.take() {
            Checkout::Stream(stream) => Ok(stream),
            // The reader may have been cancelled together with the stream.
            Checkout::Taken if self.shared.is_closed.load(Ordering::Acquire) => {
                Err(raise(py, &closed()))
            }
            Checkout::Taken => {
                let words = "another reader waits for the next piece of this stream";
                Err(raise(py, &Error::argument("stream", words).hint("read it from one place")))
            }
            Checkout::Over => Err(raise(py, &closed())),
        }
    }

    fn tell(&self, py: Python<'_>) -> PyResult<()> {
        self.notices.deliver(py)?;
        match &self.on_retry {
            Some((hook, retries)) => retries.deliver(py, hook),
            None => Ok(()),
        }
    }

    /// Without the interpreter: a fork may hold up the file that is written to.
    fn end(&self) {
        self.shared.is_closed.store(true, Ordering::Release);
        self.shared.closing.notify_waiters();
        let Some(stream) = self.shared.seat.leave() else { return };
        let is_arriving = stream.is_arriving();
        self.threads.enter(|| drop(stream));
        if is_arriving {
            self.threads.hang_up();
        }
    }
}

impl Drop for StreamCall {
    fn drop(&mut self) {
        if !self.threads.are_of_this_process() {
            // It belongs to the parent of a fork: its locks and connections are not touched.
            std::mem::forget(self.shared.clone());
            return;
        }
        if !self.shared.seat.is_over() {
            Python::attach(|py| py.detach(|| self.end()));
        }
    }
}

impl Shared {
    /// The next pieces, as many as there are.
    async fn pull(&self, stream: &mut Streaming) -> Result<Vec<StreamEvent>, Error> {
        let mut closing = std::pin::pin!(self.closing.notified());
        closing.as_mut().enable();
        if self.is_closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        let first = tokio::select! {
            biased;
            first = stream.next() => first?,
            () = closing => return Err(closed()),
        };
        let mut events = Vec::new();
        match first {
            Some(first) => {
                events.push(first);
                events.extend(std::iter::from_fn(|| stream.ready()));
            }
            None => *self.answer.lock() = stream.answer(),
        }
        Ok(events)
    }

    /// Checks the stream in again.
    fn put_back(&self, stream: Box<Streaming>, is_over: bool) {
        if is_over {
            self.seat.is_left();
            return;
        }
        self.seat.put_back(stream);
        // It may have been closed while it was checked out.
        if self.is_closed.load(Ordering::Acquire) {
            drop(self.seat.leave());
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "this stream was closed").hint("begin a new one")
}

#[pymethods]
impl Core {
    /// Begins a call whose answer comes in pieces; `resume` is `restart`, `continue` or nothing.
    fn stream(
        &self,
        py: Python<'_>,
        prompt: Prompt,
        options: &Bound<'_, CallOptions>,
        resume: Option<&str>,
        idle_timeout: Option<f64>,
    ) -> PyResult<StreamCall> {
        let options = options.get();
        let mut ask = options.ask(&prompt).map_err(|error| raise(py, &error))?;
        let resume = match resume {
            None => None,
            Some("restart") => Some(Resume::Restart),
            Some("continue") => Some(Resume::Continue),
            Some(_) => {
                let error = Error::argument("resume", "resume is invalid");
                return Err(raise(py, &error.hint("pass 'restart', 'continue' or None")));
            }
        };
        let (threads, engine, notices) = self.engine(py)?;
        notices.listen_to_decisions(options.debug);
        let wakes: Arc<Mutex<Option<Arc<Mailbox>>>> = Arc::default();
        let on_retry = options.on_retry.as_ref().map(|hook| {
            let (retries, wakes) = (Arc::new(Retries::default()), wakes.clone());
            let notes = retries.clone();
            ask.on_retry = Some(RetryHook(Arc::new(move |attempt| {
                notes.note(attempt);
                if let Some(mailbox) = &*wakes.lock() {
                    mailbox.wake();
                }
            })));
            (hook.clone_ref(py), retries)
        });
        let silence = idle_timeout.map(Duration::from_secs_f64);
        let stream = py.detach(|| threads.enter(|| engine.stream(ask, resume, silence)));
        notices.deliver(py)?;
        let stream = stream.map_err(|error| raise(py, &error))?;
        let seat = ParkedStream::for_stream(stream);
        self.watch_stream(py, &seat)?;
        let shared = Arc::new(Shared {
            seat,
            _engine: engine,
            answer: Mutex::default(),
            is_closed: AtomicBool::new(false),
            closing: Notify::new(),
        });
        Ok(StreamCall { shared, threads, notices, on_retry, wakes })
    }
}
