//! The simulator for Python.

use std::net::{Ipv4Addr, SocketAddr};

use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Runtime};

use super::exceptions::raise;
use crate::config::ConfigError;
use crate::simulator::{FaultRule, Running, SettingsError, SimulatorSettings, serve};

/// A simulator that listens on loopback, on a thread of its own: it answers any client.
#[pyclass(frozen, module = "quotaflow._quotaflow")]
pub(super) struct Simulator {
    address: String,
    running: Mutex<Option<(Running, Runtime)>>,
    process: u32,
}

/// Starts a simulator on 127.0.0.1; port 0 is any free one.
#[pyfunction]
pub(super) fn simulate(
    py: Python<'_>,
    settings_json_or_yaml: &str,
    port: u16,
) -> PyResult<Simulator> {
    let settings =
        SimulatorSettings::from_yaml(settings_json_or_yaml).map_err(|error| wrong(py, &error))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("quotaflow-simulator")
        .enable_all()
        .build()
        .map_err(|error| PyRuntimeError::new_err(format!("no thread can be started: {error}")))?;
    let running = py.detach(|| runtime.block_on(serve(settings, address)));
    let running = running
        .map_err(|error| raise(py, &crate::error::Error::argument("port", error.to_string())))?;
    let address = running.addr.to_string();
    let running = Mutex::new(Some((running, runtime)));
    Ok(Simulator { address, running, process: std::process::id() })
}

#[pymethods]
impl Simulator {
    #[getter]
    fn address(&self) -> &str {
        &self.address
    }

    /// The counts so far, in JSON; `{}` once it was stopped.
    fn stats(&self) -> PyResult<String> {
        let stats = self.running.lock().as_ref().map(|(running, _)| running.stats());
        let text = stats.map_or_else(|| Ok("{}".to_owned()), |stats| serde_json::to_string(&stats));
        text.map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))
    }

    /// Adds rules, a JSON list, behind those there are.
    fn add_faults(&self, py: Python<'_>, json: &str) -> PyResult<()> {
        let rules: Vec<FaultRule> = serde_json::from_str(json).map_err(|error| {
            raise(py, &crate::error::Error::argument("faults", error.to_string()))
        })?;
        let added = self.running.lock().as_ref().map(|(running, _)| running.add_faults(rules));
        added.unwrap_or(Ok(())).map_err(|error| wrong(py, &error))
    }

    /// Ends it.
    fn stop(&self, py: Python<'_>) {
        if let Some((running, runtime)) = self.running.lock().take() {
            py.detach(|| {
                runtime.block_on(running.stop());
                runtime.shutdown_background();
            });
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let Some((running, runtime)) = self.running.lock().take() else { return };
        if self.process == std::process::id() {
            drop(running);
            runtime.shutdown_background();
        } else {
            // A child of a fork has none of its threads, and would wait for them.
            std::mem::forget((running, runtime));
        }
    }
}

fn wrong(py: Python<'_>, error: &SettingsError) -> PyErr {
    let config = ConfigError {
        message: error.to_string(),
        path: "simulator".to_owned(),
        hint: None,
        file: None,
    };
    raise(py, &config.into())
}
