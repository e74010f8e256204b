//! How does Python start the stand-in for providers?

use std::net::{Ipv4Addr, SocketAddr};

use parking_lot::Mutex;
use pyo3::prelude::*;

use super::raising::raise;
use super::runtime::Threads;
use crate::config::ConfigError;
use crate::simulator::{FaultRule, Running, SettingsError, SimulatorSettings, serve};

/// A stand-in that listens on loopback.
#[pyclass(frozen, module = "quotaflow._quotaflow")]
pub(super) struct Simulator {
    address: String,
    running: Mutex<Option<Running>>,
}

/// Starts a stand-in on 127.0.0.1; port 0 is any free one.
#[pyfunction]
pub(super) fn simulate(
    py: Python<'_>,
    settings_json_or_yaml: &str,
    port: u16,
) -> PyResult<Simulator> {
    let settings =
        SimulatorSettings::from_yaml(settings_json_or_yaml).map_err(|error| wrong(py, &error))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let running = Threads::get()?.wait(py, serve(settings, address), |_| Ok(()))?;
    let running = running
        .map_err(|error| raise(py, &crate::error::Error::argument("port", error.to_string())))?;
    let address = running.addr.to_string();
    Ok(Simulator { address, running: Mutex::new(Some(running)) })
}

#[pymethods]
impl Simulator {
    #[getter]
    fn address(&self) -> &str {
        &self.address
    }

    /// The counts so far, in JSON; `{}` once it was stopped.
    fn stats(&self) -> PyResult<String> {
        let stats = self.running.lock().as_ref().map(Running::stats);
        let text = stats.map_or_else(|| Ok("{}".to_owned()), |stats| serde_json::to_string(&stats));
        text.map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))
    }

    /// Adds rules, a JSON list, behind those there are.
    fn add_faults(&self, py: Python<'_>, json: &str) -> PyResult<()> {
        let rules: Vec<FaultRule> = serde_json::from_str(json).map_err(|error| {
            raise(py, &crate::error::Error::argument("faults", error.to_string()))
        })?;
        let added = self.running.lock().as_ref().map(|running| running.add_faults(rules));
        added.unwrap_or(Ok(())).map_err(|error| wrong(py, &error))
    }

    /// Ends it.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        let running = self.running.lock().take();
        match running {
            Some(running) => Threads::get()?.wait(py, running.stop(), |_| Ok(())),
            None => Ok(()),
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
