//! The one class behind `LLMInterface`.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use pyo3::prelude::*;
use serde_json::Value;

use super::call_options::CallOptions;
use super::exceptions::raise;
use super::loop_port::LoopPort;
use super::mailbox::{Arrival, Mailbox};
use super::notices::{NoticeBox, Retries};
use super::outcome::Outcome;
use super::prompt::Prompt;
use super::runtime::Threads;
use super::stream_timeouts::Watch;
use crate::config::{Arguments, ConfigArgument, Settings, Sources};
use crate::engine::{Engine, Events, ParkedStream, Request, RetryHook, Usage};
use crate::error::{Error, ErrorKind};

struct OfProcess {
    process: u32,
    engine: Arc<Engine>,
    notices: Arc<NoticeBox>,
    /// Ends streams that are not being read.
    overdue: Arc<Watch>,
}

/// Settings, and for each process that uses them an engine, started by its first call.
#[pyclass(frozen, module = "quotaflow._quotaflow")]
pub(super) struct Core {
    settings: Settings,
    running: ArcSwapOption<OfProcess>,
    closed: std::sync::atomic::AtomicBool,
    /// The events a program listens to, for the engines of children too.
    wanted: std::sync::atomic::AtomicU8,
}

#[pymethods]
impl Core {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "what an interface is made of")]
    #[pyo3(signature = (config, config_is_path, keys, limits, base_urls, state, others=false))]
    fn new(
        py: Python<'_>,
        config: Option<String>,
        config_is_path: bool,
        keys: Option<&str>,
        limits: Option<&str>,
        base_urls: Option<&str>,
        state: Option<String>,
        others: bool,
    ) -> PyResult<Self> {
        let config = match config {
            Some(path) if config_is_path => Some(ConfigArgument::Path(PathBuf::from(path))),
            Some(text) => tree(py, "config", Some(&text))?.map(ConfigArgument::Value),
            None => None,
        };
        let arguments = Arguments {
            config,
            keys: tree(py, "keys", keys)?,
            limits: tree(py, "limits", limits)?,
            base_urls: tree(py, "base_urls", base_urls)?,
            state,
            others,
        };
        let settings = py.detach(|| {
            let sources = Sources::gather(arguments.config.as_ref())?;
            Settings::resolve(arguments, sources)
        });
        let settings = settings.map_err(|error| raise(py, &error.into()))?;
        Ok(Core {
            settings,
            running: ArcSwapOption::empty(),
            closed: false.into(),
            wanted: 0.into(),
        })
    }

    /// The seconds a call may take that says nothing of its own, as configured.
    #[getter]
    fn call_timeout(&self) -> Option<f64> {
        self.settings.timeouts.call.map(|timeout| timeout.as_secs_f64())
    }

    /// Whether what calls cost counts against a limit.
    #[getter]
    fn limits_money(&self) -> bool {
        self.settings.limits_money()
    }

    /// Sends a prompt and waits.
    fn send(
        &self,
        py: Python<'_>,
        prompt: Prompt,
        options: &Bound<'_, CallOptions>,
    ) -> PyResult<Outcome> {
        let options = options.get();
        let ask = options.ask(&prompt).map_err(|error| raise(py, &error))?;
        let (threads, running) = self.running(py)?;
        let (ask, retries) = with_hook(ask, options, None);
        running.notices.listen_to_decisions(options.debug);
        let tell = |py: Python<'_>| {
            running.notices.deliver(py)?;
            match (&options.on_retry, &retries) {
                (Some(hook), Some(retries)) => retries.deliver(py, hook),
                _ => Ok(()),
            }
        };
        let answer = threads.wait(py, running.engine.send(ask), tell);
        let told = tell(py);
        let answer = answer?;
        told?;
        answer.map(Outcome).map_err(|error| raise(py, &error))
    }

    /// Sends a prompt; `port` resolves `future` with its outcome. The number is what `port.cancel` takes.
    fn asend(
        &self,
        py: Python<'_>,
        prompt: Prompt,
        options: &Bound<'_, CallOptions>,
        port: &Bound<'_, LoopPort>,
        future: Py<PyAny>,
    ) -> PyResult<u64> {
        let options = options.get();
        let ask = options.ask(&prompt).map_err(|error| raise(py, &error))?;
        let (threads, running) = self.running(py)?;
        let mailbox = port.get().mailbox();
        let (ask, retries) = with_hook(ask, options, Some(mailbox.clone()));
        running.notices.listen_to_decisions(options.debug);
        running.notices.wakes(&mailbox);
        // What is left in the box rings no bell any more.
        running.notices.deliver(py)?;
        let call = port.get().number();
        let engine = running.engine.clone();
        // A task keeps room for whatever it was made with.
        let ask = Box::new(ask);
        let work = async move {
            let answer = engine.send_boxed(ask).await;
            mailbox.put(call, answer.map(|answer| Arrival::Answer(Box::new(answer))));
        };
        // Registered after the start is no race: the mailbox is drained on this thread only.
        let work = threads.spawn(work)?.abort_handle();
        let on_retry = options.on_retry.as_ref().zip(retries);
        let on_retry = on_retry.map(|(hook, retries)| (hook.clone_ref(py), retries));
        LoopPort::expect(port, call, future, work, on_retry, &running.notices)?;
        Ok(call)
    }

    /// What is going on, in JSON.
    fn status(&self, py: Python<'_>) -> PyResult<String> {
        let (_, running) = self.running(py)?;
        let status = py.detach(|| running.engine.status());
        let status = status.map_err(|error| raise(py, &error.into()))?;
        serde_json::to_string(&status).map_err(|error| {
            raise(
                py,
                &Error::new(ErrorKind::Internal, format!("the status cannot be written: {error}")),
            )
        })
    }

    /// Opens and empties ledgers; returns how many.
    fn reset(&self, py: Python<'_>, provider: Option<&str>, key: Option<&str>) -> PyResult<usize> {
        let (_, running) = self.running(py)?;
        let reset = py.detach(|| running.engine.reset(provider, key));
        let reset = reset.map_err(|error| raise(py, &error));
        running.notices.deliver(py)?;
        reset
    }

    /// The waiting calls, in JSON.
    fn queue(&self, py: Python<'_>) -> PyResult<String> {
        let (_, engine, _) = self.engine(py)?;
        let queue = py.detach(|| engine.queue());
        let queue = queue.map_err(|error| raise(py, &error.into()))?;
        serde_json::to_string(&queue).map_err(|error| {
            raise(
                py,
                &Error::new(ErrorKind::Internal, format!("the queue cannot be written: {error}")),
            )
        })
    }

    /// Takes calls of a provider, of a priority below this, or all, out of the lines; returns how many.
    fn clear_queue(
        &self,
        py: Python<'_>,
        provider: Option<&str>,
        below_priority: Option<u8>,
    ) -> PyResult<usize> {
        let (_, engine, _) = self.engine(py)?;
        let cleared = py.detach(|| engine.clear_queue(provider, below_priority));
        cleared.map_err(|error| raise(py, &error))
    }

    /// Counts at least the usage in the JSON, elements of `status()["keys"]`; returns the number of keys.
    fn take_over(&self, py: Python<'_>, usage: &str) -> PyResult<usize> {
        let told: Result<Vec<Usage>, _> = serde_json::from_str(usage);
        let told = told.map_err(|error| {
            let error = Error::argument("usage", format!("the saved usage is invalid: {error}"));
            raise(py, &error.hint("pass what save_usage() has written"))
        })?;
        let (threads, engine, notices) = self.engine(py)?;
        let taken = py.detach(|| threads.enter(|| engine.take_over(&told)));
        notices.deliver(py)?;
        taken.map_err(|error| raise(py, &error))
    }

    /// The limits and the pace of a provider in the words of the config, in JSON.
    fn stated(&self, py: Python<'_>, provider: &str) -> PyResult<String> {
        let (_, engine, _) = self.engine(py)?;
        let stated = engine.stated(provider).map_err(|error| raise(py, &error))?;
        Ok(stated.to_string())
    }

    /// Forgets all of them; returns how many.
    fn clear_cache(&self, py: Python<'_>) -> PyResult<u64> {
        let (_, engine, _) = self.engine(py)?;
        let forgotten = py.detach(|| engine.clear_cache());
        forgotten.map_err(|error| raise(py, &error))
    }

    /// From now on these events are kept for `next_events`; names that are none are refused.
    fn listen(&self, py: Python<'_>, kinds: Vec<String>) -> PyResult<()> {
        let mut wanted = Events::NONE;
        for kind in &kinds {
            wanted = wanted.with(kind).ok_or_else(|| {
                let hint = format!("events are {}", Events::NAMES.join(", "));
                raise(
                    py,
                    &Error::argument("event", format!("there is no event {kind:?}")).hint(hint),
                )
            })?;
        }
        self.wanted.store(wanted.0, std::sync::atomic::Ordering::SeqCst);
        if let Some(running) = self.running.load_full() {
            running.notices.listen(wanted);
            // A listener that is to end need not sit out its patience.
            running.notices.wake_listener();
        }
        Ok(())
    }

    /// Events in JSON, waited for as long as that when there are none; `None` once this is closed.
    fn next_events(&self, py: Python<'_>, seconds: f64) -> PyResult<Option<Vec<String>>> {
        if self.closed.load(std::sync::atomic::Ordering::Acquire) {
            let left = self.running.load_full();
            let left = left.map_or_else(Vec::new, |running| {
                running.notices.next_events(std::time::Duration::ZERO)
            });
            return Ok((!left.is_empty()).then_some(left));
        }
        let (_, running) = self.running(py)?;
        let patience = std::time::Duration::from_secs_f64(seconds.clamp(0.0, 3_600.0));
        Ok(Some(py.detach(|| running.notices.next_events(patience))))
    }

    /// Cancels waiting calls, rejects new ones, and ends streams that are not being read.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.closed.store(true, std::sync::atomic::Ordering::Release);
        if let Some(running) = self.running.load_full()
            && running.process == std::process::id()
        {
            let threads = Threads::get()?;
            py.detach(|| {
                if threads.enter(|| running.engine.close()) > 0 {
                    threads.hang_up();
                }
            });
            running.notices.wake_listener();
            running.notices.deliver(py)?;
        }
        Ok(())
    }
}

impl Core {
    /// The engine of this process, what it runs on, and its notices.
    pub(super) fn engine(
        &self,
        py: Python<'_>,
    ) -> PyResult<(Threads, Arc<Engine>, Arc<NoticeBox>)> {
        let (threads, running) = self.running(py)?;
        Ok((threads, running.engine.clone(), running.notices.clone()))
    }

    /// Has a stream end when its time is over, read or not.
    pub(super) fn watch_stream(&self, py: Python<'_>, seat: &ParkedStream) -> PyResult<()> {
        if !seat.expires() {
            return Ok(());
        }
        let (_, running) = self.running(py)?;
        running.overdue.look(&running.engine)
    }

    /// The engine of this process. One that was made before a fork belongs to the parent: its locks, sockets and
    /// database connections are never touched, not even to drop them.
    fn running(&self, py: Python<'_>) -> PyResult<(Threads, Arc<OfProcess>)> {
        let process = std::process::id();
        let threads = Threads::get()?;
        loop {
            let known = self.running.load_full();
            if let Some(known) = &known
                && known.process == process
            {
                return Ok((threads, known.clone()));
            }
            if self.closed.load(std::sync::atomic::Ordering::Acquire) {
                let error = Error::new(ErrorKind::Closed, "this LLMInterface was closed");
                return Err(raise(py, &error.hint("make a new one")));
            }
            super::forks::watch(py)?;
            let notices = Arc::new(NoticeBox::default());
            let settings = self.settings.clone();
            let engine = py.detach(|| threads.enter(|| Engine::start(settings, notices.clone())));
            let engine = engine.map_err(|error| raise(py, &error))?;
            let overdue = Arc::default();
            let made = OfProcess { process, engine, notices: notices.clone(), overdue };
            let made = Some(Arc::new(made));
            let before = arc_swap::Guard::into_inner(self.running.compare_and_swap(&known, made));
            // Read only now: a program that begins to listen at the same time either finds the engine or is found here.
            notices.listen(Events(self.wanted.load(std::sync::atomic::Ordering::SeqCst)));
            forget_if_foreign(before, process);
            forget_if_foreign(known, process);
        }
    }
}

fn forget_if_foreign(running: Option<Arc<OfProcess>>, process: u32) {
    if let Some(running) = running.filter(|running| running.process != process) {
        std::mem::forget(running);
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        forget_if_foreign(self.running.swap(None), std::process::id());
    }
}

fn with_hook(
    ask: Request,
    options: &CallOptions,
    wakes: Option<Arc<Mailbox>>,
) -> (Request, Option<Arc<Retries>>) {
    if options.on_retry.is_none() {
        return (ask, None);
    }
    let retries = Arc::new(Retries::default());
    let notes = retries.clone();
    let hook = RetryHook(Arc::new(move |attempt| {
        notes.note(attempt);
        if let Some(mailbox) = &wakes {
            mailbox.wake();
        }
    }));
    (Request { on_retry: Some(hook), ..ask }, Some(retries))
}

fn tree(py: Python<'_>, argument: &str, text: Option<&str>) -> PyResult<Option<Value>> {
    let parsed = text.map(serde_json::from_str).transpose();
    parsed.map_err(|error| {
        // The text may hold keys: the message has only the place.
        let place = format!("line {}, column {}", error.line(), error.column());
        raise(py, &Error::argument(argument, format!("{argument} is not valid JSON at {place}")))
    })
}
