//! Import of usage and blocks that another program saved.
//!
//! The input was written by [`Engine::status`](crate::engine::Engine::status), perhaps by a program with another state.
//! Nothing that counts here is forgotten, and importing the same twice changes nothing.

use serde::Deserialize;

use crate::engine::dispatch::types::{Dispatch, Vendor};
use crate::error::Error;
use crate::kernel::{Block, Configured, FailureClass, LedgerId, Moment, Origin, Period, Resource};

/// What one key had used and what closed it, in the fields of a [`KeyStatus`](crate::engine::KeyStatus).
#[derive(Clone, Debug, Deserialize)]
pub struct Usage {
    /// The provider.
    pub provider: String,
    /// The label; never the key.
    pub label: String,
    /// How far each limit was used.
    #[serde(default)]
    pub limits: Vec<UsedLimit>,
    /// What was closed.
    #[serde(default)]
    pub blocks: Vec<Closed>,
}

/// How far a limit was used.
#[derive(Clone, Debug, Deserialize)]
pub struct UsedLimit {
    /// The model, or `*`.
    pub model: String,
    /// What is limited.
    pub resource: Resource,
    /// Over which window.
    pub period: Period,
    /// How much of it was used.
    pub used: u64,
    /// When all of it is back, in seconds since the epoch.
    pub reset: f64,
}

/// Why something was closed.
#[derive(Clone, Debug, Deserialize)]
pub struct Closed {
    /// The model, or `*`.
    pub model: String,
    /// The failure class.
    pub reason: FailureClass,
    /// Until when, in seconds since the epoch; `None`: until it is reconfigured.
    pub until: Option<f64>,
    /// `provider` or `guess`.
    pub origin: Origin,
}

impl Dispatch {
    /// Counts at least the given usage, and closes what it lists as closed. Returns for how many keys.
    pub(in crate::engine) fn take_over(&self, told: &[Usage]) -> Result<usize, Error> {
        let now = self.now();
        let mut known = 0;
        for usage in told {
            let Ok(vendor) = self.vendor(&usage.provider) else { continue };
            let vendor = if vendor.key_labelled(&usage.label).is_ok() {
                vendor
            } else {
                self.without_key(vendor)
            };
            let Ok(place) = vendor.key_labelled(&usage.label) else { continue };
            known += 1;
            for limit in &usage.limits {
                let (id, configured) = vendor.ledger(place, &limit.model);
                let reset = moment(Some(limit.reset));
                self.store.update(&[id], &mut |ledgers| {
                    let ledger = ledgers.get_mut(0);
                    ledger.conform(&configured, now);
                    ledger.count_at_least(limit.resource, limit.period, limit.used, reset, now);
                })?;
            }
            for closed in usage.blocks.iter().filter(|closed| moment(closed.until) > now) {
                let block = closed.block(now);
                let own = block.class == FailureClass::Auth && closed.model == "*";
                let (group, _) = vendor.ledger(place, &closed.model);
                let id = if own { vendor.ledger_id(&vendor.keys[place].alone, "*") } else { group };
                self.store.update(&[id], &mut |ledgers| {
                    ledgers.get_mut(0).stay_closed(block.clone(), now);
                })?;
            }
            vendor.wake_lines();
        }
        Ok(known)
    }
}

impl Vendor {
    /// Where a key counts at a model, and under which limits.
    fn ledger(&self, place: usize, model: &str) -> (LedgerId, Configured) {
        let key = &self.keys[place];
        (self.ledger_id(&key.group(), model), self.configured(key, model))
    }
}

impl Closed {
    fn block(&self, now: Moment) -> Block {
        Block {
            class: self.reason,
            until: moment(self.until),
            origin: self.origin,
            since: now,
            strikes: 1,
            probe_until: None,
        }
    }
}

/// What is no time, or too far away, never comes.
fn moment(seconds: Option<f64>) -> Moment {
    const FURTHEST: f64 = 9e9;
    match seconds {
        Some(seconds) if seconds.is_finite() && seconds < FURTHEST => {
            Moment::from_nanos((seconds.max(0.0) * 1e9) as i64)
        }
        _ => Moment::FAR_FUTURE,
    }
}
