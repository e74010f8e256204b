//! Which keys are there, which quota group does each belong to, and which lanes do they make at a model?

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use serde_json::{Map, Value};
use tokio::sync::Notify;

use super::backoff::Resting;
use super::line::Line;
use crate::config::{Pacing, ProviderSettings};
use crate::error::Error;
use crate::kernel::{
    Block, Breaker, Configured, Failure, Lane, LedgerId, Limit, Moment, Resource, RetryPolicy,
    SharedQuotaSuspicion,
};
use crate::providers::{ChatRequest, Provider, Tokenizer};
use crate::secret::Secret;

/// Whether one of these limits is on cost.
pub(in crate::engine) fn limits_money(limits: &Configured) -> bool {
    limits.iter().any(|limit| limit.resource == Resource::Spend)
}

/// What is shorter is no secret but a word that may stand anywhere ("none", "ollama").
const SHORTEST_SECRET: usize = 8;

/// The group of a lane that needs no key.
pub(crate) const NO_KEY: &str = "key-none";

/// Calls of this priority and above may use what `pause_threshold` keeps from all others.
const MATTERS: u8 = 5;

/// A key and where it counts.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) label: String,
    pub(crate) secret: Option<Secret>,
    /// Its ledgers' name while it is a group of its own.
    pub(crate) alone: String,
    /// The group the user put it in; the provider's word does not move it then.
    pub(crate) configured_group: Option<String>,
    limits: Configured,
    group: RwLock<Arc<str>>,
}

impl Key {
    /// Whether this is its label, or the key itself.
    pub(crate) fn is(&self, label: &str) -> bool {
        self.label == label || self.secret.as_ref().is_some_and(|known| known.expose() == label)
    }

    pub(crate) fn group(&self) -> Arc<str> {
        self.group.read().clone()
    }
}

/// One provider with its keys.
#[derive(Debug)]
pub(crate) struct Vendor {
    pub(crate) provider: Provider,
    pub(crate) keys: Vec<Key>,
    pub(crate) settings: ProviderSettings,
    /// Whether its server is one's own.
    pub(crate) local: bool,
    model_limits: HashMap<String, Configured>,
    no_limits: Configured,
    targets: RwLock<HashMap<String, Arc<Target>>>,
}

/// One model at one provider: the lanes that lead there and the line before it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) vendor: Arc<Vendor>,
    pub(crate) model: String,
    /// `provider/model`, for people.
    pub(crate) name: String,
    /// How its calls are paced.
    pub(crate) pacing: Pacing,
    lanes: RwLock<Arc<Lanes>>,
    pub(crate) line: Mutex<Line>,
    /// Who pauses after a failure here.
    pub(crate) resting: Mutex<Resting>,
    /// Whether it is in such trouble that calls go elsewhere if they can.
    pub(crate) breaker: Mutex<Breaker>,
    suspects: Mutex<SharedQuotaSuspicion>,
    /// Whether a key is refused, so that an answer to another one says something about the two.
    watches: AtomicBool,
    /// How long an answer takes lately.
    latency: Mutex<Habit>,
    pub(crate) changed: Notify,
    /// The tokenizer of the model, where it is public.
    pub(crate) tokenizer: Option<Tokenizer>,
    /// Whether a limit on tokens was stated or told of.
    pub(crate) counts_tokens: AtomicBool,
    /// A few prompts that were billed before they could be counted.
    pub(in crate::engine) uncounted: Mutex<Vec<Uncounted>>,
}

/// A prompt that was billed before the tables of its model's tokenizer were loaded.
#[derive(Debug)]
pub(in crate::engine) struct Uncounted {
    pub(in crate::engine) request: ChatRequest,
    pub(in crate::engine) params: Map<String, Value>,
    /// The lane it went down.
    pub(in crate::engine) lane: usize,
    pub(in crate::engine) billed: u64,
}

/// The lanes of a target and the ledgers they share, ready for one `update`.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    pub(crate) ids: Vec<LedgerId>,
    pub(crate) configured: Vec<Configured>,
    pub(crate) lanes: Vec<Lane>,
    /// Whether a limit on cost was stated of any of them.
    pub(crate) counts_money: bool,
    /// Each lane by itself, with only its own ledgers: what settling needs.
    pub(crate) alone: Vec<Lanes>,
}

/// The mean of what lasted lately. Calls that begin together end in the order of their slowness, the slowest last: so
/// many are looked at together that those of a moment are among each other.
#[derive(Clone, Copy, Debug, Default)]
struct Habit {
    seen: u32,
    /// In seconds.
    mean: f64,
}

impl Habit {
    /// So many decide.
    const RECENT: u32 = 256;

    fn record(&mut self, lasted: Duration) {
        self.seen = self.seen.saturating_add(1).min(Self::RECENT);
        self.mean += (lasted.as_secs_f64() - self.mean) / f64::from(self.seen);
    }

    fn mean(&self) -> Option<Duration> {
        (self.seen > 0).then(|| Duration::from_secs_f64(self.mean.max(0.0)))
    }
}

impl Vendor {
    pub(crate) fn new(settings: ProviderSettings, salt: &str) -> Self {
        let provider = settings.provider.clone();
        let group_limits: Configured = settings.limits.clone().into();
        let mut keys: Vec<Key> = settings
            .keys
            .iter()
            .map(|key| {
                let alone = format!("key-{}", key.secret.digest(salt));
                let group =
                    key.group.as_ref().map_or(alone.clone(), |name| format!("group-{name}"));
                Key {
                    label: key.label.clone(),
                    secret: Some(key.secret.clone()),
                    alone,
                    configured_group: key.group.clone(),
                    limits: key.limits.clone().map_or_else(|| group_limits.clone(), Into::into),
                    group: RwLock::new(group.into()),
                }
            })
            .collect();
        if keys.is_empty() && !provider.needs_key {
            keys.push(Key {
                label: "no key".to_owned(),
                secret: None,
                alone: NO_KEY.to_owned(),
                configured_group: None,
                limits: group_limits.clone(),
                group: RwLock::new(NO_KEY.into()),
            });
        }
        let model_limits = settings
            .model_limits
            .iter()
            .map(|(model, limits)| (model.clone(), limits.clone().into()))
            .collect();
        let no_limits: Configured = Vec::<Limit>::new().into();
        let (local, targets) = (settings.is_local(), RwLock::default());
        Vendor { provider, keys, settings, local, model_limits, no_limits, targets }
    }

    /// What a failure says without any key of ours: some providers repeat the one they were sent.
    pub(crate) fn redacted(&self, mut failure: Failure) -> Failure {
        for key in &self.keys {
            let secret = key.secret.as_ref().map_or("", |secret| secret.expose());
            if secret.len() >= SHORTEST_SECRET && failure.message.contains(secret) {
                failure.message = failure.message.replace(secret, "***");
            }
        }
        failure
    }

    /// The place of the key with this label, or of this key itself.
    pub(crate) fn key_labelled(&self, label: &str) -> Result<usize, Error> {
        self.keys.iter().position(|key| key.is(label)).ok_or_else(|| {
            // What was asked for may be a key: only what there is is told.
            let known: Vec<&str> = self.keys.iter().map(|key| key.label.as_str()).collect();
            let message = format!("{} has no such key", self.provider.name);
            Error::argument("key", message).hint(format!("the labels are {}", known.join(", ")))
        })
    }

    /// The name of a ledger of this provider.
    pub(crate) fn ledger_id(&self, group: &str, model: &str) -> LedgerId {
        LedgerId::new(&self.provider.name, group, model)
    }

    /// The target of `model`, made when it is asked for first.
    pub(crate) fn target(self: &Arc<Self>, model: &str, line_size: usize) -> Arc<Target> {
        if let Some(target) = self.targets.read().get(model) {
            return target.clone();
        }
        let mut targets = self.targets.write();
        let made = targets.entry(model.to_owned()).or_insert_with(|| {
            Arc::new(Target {
                vendor: self.clone(),
                model: model.to_owned(),
                name: format!("{}/{model}", self.provider.name),
                pacing: self.settings.pacing(model),
                lanes: RwLock::new(Arc::new(self.lanes(model))),
                line: Mutex::new(Line::new(line_size)),
                resting: Mutex::default(),
                breaker: Mutex::default(),
                suspects: Mutex::default(),
                watches: AtomicBool::new(false),
                latency: Mutex::default(),
                changed: Notify::new(),
                tokenizer: Tokenizer::of_model(model),
                counts_tokens: AtomicBool::new(self.states_tokens(model)),
                uncounted: Mutex::default(),
            })
        });
        made.clone()
    }

    /// Whether a limit on tokens of prompts was stated for `model`.
    fn states_tokens(&self, model: &str) -> bool {
        let counts = |key: &Key| {
            let limits = [self.configured(key, model), self.configured(key, "*")];
            limits
                .iter()
                .flat_map(|limits| limits.iter())
                .any(|limit| limit.resource.is_of_prompts())
        };
        self.keys.iter().any(counts)
    }

    /// Every target that was asked for.
    pub(crate) fn known_targets(&self) -> Vec<Arc<Target>> {
        let mut targets: Vec<_> = self.targets.read().values().cloned().collect();
        targets.sort_by(|a, b| a.model.cmp(&b.model));
        targets
    }

    /// The targets somebody waits for.
    pub(crate) fn waited_for(&self) -> Vec<Arc<Target>> {
        self.targets.read().values().filter(|target| target.is_waited_for()).cloned().collect()
    }

    /// The configured limits of a key's group: of one model, or of all (`*`).
    pub(crate) fn configured(&self, key: &Key, model: &str) -> Configured {
        if model == "*" {
            // A group has one set of limits: that of its first key.
            let group = key.group();
            let first = self.keys.iter().find(|other| *other.group() == *group).unwrap_or(key);
            return first.limits.clone();
        }
        self.model_limits.get(model).unwrap_or(&self.no_limits).clone()
    }

    /// Puts a key into a group and makes the lanes anew.
    pub(crate) fn move_key(&self, key: usize, group: &str) {
        *self.keys[key].group.write() = group.into();
        for target in self.known_targets() {
            *target.lanes.write() = Arc::new(self.lanes(&target.model));
            target.changed.notify_one();
        }
    }

    fn lanes(&self, model: &str) -> Lanes {
        let mut lanes = Lanes::default();
        for place in 0..self.keys.len() {
            self.add_lane(&mut lanes, place, model);
            let mut alone = Lanes::default();
            self.add_lane(&mut alone, place, model);
            lanes.alone.push(alone);
        }
        lanes.counts_money = lanes.configured.iter().any(limits_money);
        lanes
    }

    fn add_lane(&self, lanes: &mut Lanes, place: usize, model: &str) {
        let key = &self.keys[place];
        let group = key.group();
        let of_model = self.configured(key, model);
        let group_model = lanes.place(self.ledger_id(&group, model), &of_model);
        let whole_group = lanes.place(self.ledger_id(&group, "*"), &self.configured(key, "*"));
        let alone = if *group == *key.alone {
            whole_group
        } else {
            lanes.place(self.ledger_id(&key.alone, "*"), &self.no_limits)
        };
        let free = is_given_away(&self.provider, model)
            .then(|| lanes.place(self.ledger_id(&group, "*:free"), &self.no_limits));
        let lane = Lane::new(place, group_model, whole_group, alone, free);
        // What somebody stated is enough to go by, and one's own server refuses nobody.
        let nothing_stated = of_model.is_empty() && self.configured(key, "*").is_empty();
        let feels_its_way = nothing_stated && !self.provider.is_self_hosted();
        lanes.lanes.push(if feels_its_way { lane.feeling_its_way() } else { lane });
    }
}

/// Whether OpenRouter gives this model away, within the daily count that all such models share.
fn is_given_away(provider: &Provider, model: &str) -> bool {
    provider.name == "openrouter" && model.ends_with(":free")
}

impl Lanes {
    fn place(&mut self, id: LedgerId, configured: &Configured) -> usize {
        if let Some(place) = self.ids.iter().position(|known| *known == id) {
            return place;
        }
        self.ids.push(id);
        self.configured.push(configured.clone());
        self.ids.len() - 1
    }
}

impl Target {
    /// Whether an answer costs no money: one's own server, or a model that OpenRouter gives away.
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

    /// Keys of different groups that are always refused together here, and how often they were.
    pub(crate) fn suspects(&self) -> Vec<(usize, usize, u32)> {
        let keys = &self.vendor.keys;
        let suspects = self.suspects.lock();
        let apart = |pair: &(usize, usize, u32)| keys[pair.0].group() != keys[pair.1].group();
        suspects.pairs().filter(apart).collect()
    }

    pub(crate) fn lanes(&self) -> Arc<Lanes> {
        self.lanes.read().clone()
    }

    /// Whether these are its lanes still: a key that moves to another group makes them anew.
    pub(crate) fn has_lanes(&self, lanes: &Arc<Lanes>) -> bool {
        Arc::ptr_eq(&self.lanes.read(), lanes)
    }

    /// How many thousandths of every limit a call of this priority leaves to those that matter more.
    pub(crate) fn kept(&self, priority: u8) -> u16 {
        if priority >= MATTERS {
            return 0;
        }
        ((1.0 - self.pacing.pause_threshold).clamp(0.0, 1.0) * 1000.0).round() as u16
    }

    /// How a call here is tried again, where it says so itself and where it does not.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_habit_is_not_that_of_the_slowest_who_come_last() {
        let mut habit = Habit::default();
        assert_eq!(habit.mean(), None);
        (1..=200).for_each(|tenths| habit.record(Duration::from_millis(100 * tenths)));
        let mean = habit.mean().unwrap().as_secs_f64();
        assert!((10.0..10.1).contains(&mean), "{mean}");
        // What became of it since is heard of.
        (0..1_500).for_each(|_| habit.record(Duration::from_secs(1)));
        assert!(habit.mean().unwrap() < Duration::from_millis(1_100));
    }
}
