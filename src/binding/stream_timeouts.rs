//! Timeouts of streams that are not being read.
//!
//! One thread for each engine, for as long as there are streams whose time ends. It sleeps until the next of them is
//! overdue, never takes the interpreter, and holds no engine while it sleeps. A child of a fork has its own engine.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::runtime::Threads;
use crate::engine::Engine;

/// The longest sleep: the clock may be set, and streams end by themselves.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct Watch {
    /// Whether there is a thread.
    runs: Mutex<bool>,
    sooner: Condvar,
}

impl Watch {
    /// A stream whose time ends was begun.
    pub(super) fn look(self: &Arc<Self>, engine: &Arc<Engine>) -> PyResult<()> {
        let mut runs = self.runs.lock();
        if *runs {
            self.sooner.notify_one();
            return Ok(());
        }
        let (watch, engine) = (self.clone(), Arc::downgrade(engine));
        let thread = std::thread::Builder::new().name("quotaflow-overdue".to_owned());
        thread.spawn(move || watch.run(&engine)).map_err(|error| {
            PyRuntimeError::new_err(format!("no thread can be started: {error}"))
        })?;
        *runs = true;
        Ok(())
    }

    fn run(&self, engine: &Weak<Engine>) {
        let Ok(threads) = Threads::get() else { return };
        loop {
            let Some(engine) = engine.upgrade() else { break };
            let overdue = threads.enter(|| engine.end_overdue());
            if overdue.ended > 0 {
                threads.hang_up();
            }
            let mut runs = self.runs.lock();
            // Asked again with the lock held: who began a stream since then is about to look whether there is a thread.
            let Some(next) = engine.next_overdue() else {
                *runs = false;
                return;
            };
            drop(engine);
            self.sooner.wait_for(&mut runs, next.min(LOOK_AGAIN));
        }
        *self.runs.lock() = false;
    }
}
