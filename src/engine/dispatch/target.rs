//! One model at one provider: its lanes, its latency and its trouble.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::lanes::Lanes;
use super::types::Target;
use crate::kernel::{Block, Moment, RetryPolicy};
use crate::providers::Provider;

/// Calls of this priority and above may use what `pause_threshold` keeps from all others.
const MATTERS: u8 = 5;

/// Whether this model is free at OpenRouter, within the daily count that all such models share.
pub(super) fn is_given_away(provider: &Provider, model: &str) -> bool {
    provider.name == "openrouter" && model.ends_with(":free")
}

impl Target {
    /// Whether an answer costs no money: the user's own server, or a free model of OpenRouter.
    pub(crate) fn is_free(&self) -> bool {
        self.vendor.local || is_given_away(&self.vendor.provider, &self.model)
    }

    /// A refusal closed a key's quota here.
    pub(crate) fn was_closed(&self, key: usize, block: &Block, now: Moment) {
        if block.class.is_quota() {
            self.suspects.lock().refused(key, block.until, now);
            self.watches.store(true, Ordering::Relaxed);
        }
    }

    /// A key was served here.
    pub(crate) fn was_served(&self, key: usize, now: Moment) {
        if self.watches.load(Ordering::Relaxed) {
            let mut suspects = self.suspects.lock();
            suspects.served(key, now);
            self.watches.store(suspects.is_watching(), Ordering::Relaxed);
        }
    }

    /// An answer took this long.
    pub(crate) fn took(&self, lasted: Duration) {
        self.latency.lock().record(lasted);
    }

    /// How long an answer takes lately; `None` before the first of this process.
    pub(crate) fn usual_latency(&self) -> Option<Duration> {
        self.latency.lock().mean()
    }

    /// Keys of different groups that are always refused together here, and how often.
    pub(crate) fn suspects(&self) -> Vec<(usize, usize, u32)> {
        let keys = &self.vendor.keys;
        let suspects = self.suspects.lock();
        let apart = |pair: &(usize, usize, u32)| keys[pair.0].group() != keys[pair.1].group();
        suspects.pairs().filter(apart).collect()
    }

    /// Whether a call waits here.
    pub(crate) fn is_waited_for(&self) -> bool {
        !self.line.lock().is_empty()
    }

    pub(crate) fn lanes(&self) -> Arc<Lanes> {
        self.lanes.read().clone()
    }

    /// Whether these are its lanes still: a key that moves to another group makes them anew.
    pub(crate) fn has_lanes(&self, lanes: &Arc<Lanes>) -> bool {
        Arc::ptr_eq(&self.lanes.read(), lanes)
    }

    /// How many thousandths of every limit a call of this priority leaves to more important ones.
    pub(crate) fn kept(&self, priority: u8) -> u16 {
        if priority >= MATTERS {
            return 0;
        }
        ((1.0 - self.pacing.pause_threshold).clamp(0.0, 1.0) * 1000.0).round() as u16
    }

    /// The retry policy of a call here; what the call does not set comes from the config.
    pub(crate) fn retries(
        &self,
        max_retries: Option<u32>,
        base: Option<Duration>,
        cap: Duration,
    ) -> RetryPolicy {
        RetryPolicy {
            max_retries: max_retries.unwrap_or(self.pacing.max_retries),
            base: base.unwrap_or(self.pacing.base_delay),
            multiplier: self.pacing.retry_multiplier,
            cap,
        }
    }
}
