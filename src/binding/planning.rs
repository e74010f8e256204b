//! Forecasts of workloads for Python.

use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;

use super::call_options::CallOptions;
use super::core::Core;
use super::exceptions::raise;
use super::prompt::Prompt;
use crate::engine::{Load, PlannedRun};
use crate::error::{Error, ErrorKind};

#[pymethods]
impl Core {
    /// About how many tokens each prompt is.
    fn prompt_sizes(
        &self,
        py: Python<'_>,
        options: &Bound<'_, CallOptions>,
        prompts: Vec<Prompt>,
    ) -> PyResult<Vec<u64>> {
        let (_, engine, _) = self.engine(py)?;
        let options = options.get();
        let sizes = py.detach(|| {
            let asks = prompts.iter().map(|prompt| options.ask(prompt).map(|ask| ask.messages));
            engine.prompt_sizes(&options.ask, asks.collect::<Result<_, _>>()?)
        });
        sizes.map_err(|error| raise(py, &error))
    }

    /// What would come of sending prompts, in JSON: runs of (which of the options, tokens of a prompt, how many).
    #[expect(clippy::too_many_arguments, reason = "what a plan is made of")]
    fn plan(
        &self,
        py: Python<'_>,
        options: Vec<Py<CallOptions>>,
        runs: Vec<(usize, u64, u64)>,
        most_in_flight: usize,
        most_waiting: usize,
        latency: Option<f64>,
        output_tokens: Option<u64>,
    ) -> PyResult<String> {
        let (_, engine, notices) = self.engine(py)?;
        let latency = latency.map(Duration::from_secs_f64);
        let load = Load { most_in_flight, most_waiting, latency, output_tokens };
        let run = |(ask, size, count)| PlannedRun { ask, size, count };
        let runs: Vec<PlannedRun> = runs.into_iter().map(run).collect();
        if runs.iter().any(|run| run.ask >= options.len()) {
            return Err(raise(py, &Error::argument("runs", "there are no such options")));
        }
        let asks: Vec<_> = options.iter().map(|options| &options.get().ask).collect();
        let raised = Mutex::new(None);
        let goes_on = || {
            let checked = Python::attach(|py| py.check_signals());
            checked.map_err(|error| *raised.lock() = Some(error)).is_ok()
        };
        let planned = py.detach(|| engine.plan(&asks, &runs, &load, &goes_on));
        notices.deliver(py)?;
        let planned = planned.map_err(|error| raise(py, &error))?;
        if let Some(error) = raised.into_inner() {
            return Err(error);
        }
        serde_json::to_string(&planned).map_err(|error| {
            raise(py, &Error::new(ErrorKind::Internal, format!("no plan: {error}")))
        })
    }
}
