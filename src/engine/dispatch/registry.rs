//! The registry of providers: their keys, quota groups and targets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::key::{Key, NO_KEY};
use super::lanes::Lanes;
use super::spend::limits_money;
use super::target::is_given_away;
use super::types::{Dispatch, Line, Target, Vendor};
use super::users::{User, UserRoll};
use crate::config::{ProviderSettings, Settings};
use crate::engine::world::World;
use crate::engine::world::observer::Notice;
use crate::error::Error;
use crate::kernel::{Configured, Failure, Lane, LedgerId, Limit, Moment};
use crate::providers::{Provider, Tokenizer};
use crate::stores::QuotaStore;

/// A shorter key is no secret but a word that may stand anywhere ("none", "ollama").
const SHORTEST_SECRET: usize = 8;

impl Dispatch {
    /// Everything that the settings name, over this store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(in crate::engine) fn new(
        settings: &Settings,
        store: Arc<dyn QuotaStore>,
        world: World,
    ) -> Result<Arc<Self>, Error> {
        let dispatch = Dispatch {
            world,
            store,
            vendors: RwLock::default(),
            users: UserRoll::new(&settings.users),
            prices: settings.prices.clone(),
            unpriced: Mutex::default(),
            queue_max_size: settings.queue_max_size,
            closed: AtomicBool::new(false),
        };
        for provider in settings.providers.values() {
            dispatch.add_vendor(provider.clone())?;
        }
        for warning in &settings.warnings {
            dispatch.notice(&Notice::Warning(warning.clone()));
        }
        Ok(Arc::new(dispatch))
    }

    pub(in crate::engine) fn add_vendor(
        &self,
        settings: ProviderSettings,
    ) -> Result<Arc<Vendor>, Error> {
        let vendor = Arc::new(Vendor::new(settings, self.store.salt()));
        self.remember_groups(&vendor)?;
        let name = vendor.provider.name.clone();
        Ok(self.vendors.write().entry(name).or_insert(vendor).clone())
    }

    /// The same provider, from now on with one lane without a key, if it has no key.
    pub(in crate::engine) fn without_key(&self, vendor: Arc<Vendor>) -> Arc<Vendor> {
        if !vendor.keys.is_empty() {
            return vendor;
        }
        let mut settings = vendor.settings.clone();
        settings.provider.needs_key = false;
        let made = Arc::new(Vendor::new(settings, self.store.salt()));
        let mut vendors = self.vendors.write();
        let known = vendors.entry(made.provider.name.clone()).or_insert_with(|| made.clone());
        if known.keys.is_empty() {
            *known = made;
        }
        known.clone()
    }

    /// The provider of that name or alias; one of the catalogue that is not configured is added.
    pub(in crate::engine) fn vendor(&self, name: &str) -> Result<Arc<Vendor>, Error> {
        if let Some(vendor) = self.vendors.read().get(name) {
            return Ok(vendor.clone());
        }
        let Some(provider) = Provider::find(name) else {
            let known = self.known_providers();
            let nearest = known
                .iter()
                .map(|known| (strsim::damerau_levenshtein(known, name), known))
                .filter(|(distance, _)| *distance <= 3)
                .min();
            let hint = match nearest {
                Some((_, nearest)) => format!("did you mean {nearest:?}?"),
                None => format!("known are {}; any other needs a base_url", known.join(", ")),
            };
            let message = format!("there is no provider {name:?}");
            return Err(Error::argument("provider", message).hint(hint));
        };
        let canonical = self.vendors.read().get(&provider.name).cloned();
        match canonical {
            Some(vendor) => Ok(vendor),
            None => self.add_vendor(ProviderSettings::unconfigured(provider)),
        }
    }

    pub(in crate::engine) fn known_vendors(&self) -> Vec<Arc<Vendor>> {
        self.vendors.read().values().cloned().collect()
    }

    pub(in crate::engine) fn known_providers(&self) -> Vec<String> {
        let mut names: Vec<String> =
            Provider::names().iter().map(|name| (*name).to_owned()).collect();
        names.extend(self.vendors.read().keys().cloned());
        names.sort();
        names.dedup();
        names
    }

    /// The target of a model, made on first use.
    pub(in crate::engine) fn target(&self, vendor: &Arc<Vendor>, model: &str) -> Arc<Target> {
        vendor.target(model, self.queue_max_size)
    }

    /// The user of this name; without one, the user of all calls that name none.
    pub(in crate::engine) fn user(&self, name: Option<&str>) -> Arc<User> {
        self.users.user(name, self.store.salt())
    }

    pub(in crate::engine) fn now(&self) -> Moment {
        self.world.clock.now()
    }

    pub(in crate::engine) fn notice(&self, notice: &Notice) {
        self.world.observer.notice(notice);
    }

    /// Whether it takes no more calls.
    pub(in crate::engine) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Rejects new calls and cancels the waiting ones.
    pub(in crate::engine) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for vendor in self.known_vendors() {
            for target in vendor.known_targets() {
                target.line.lock().close();
                target.changed.notify_one();
            }
        }
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

    /// The failure without any configured key in its message: some providers repeat the one they were sent.
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
            // What was asked for may be a key, so it is not repeated.
            let known: Vec<&str> = self.keys.iter().map(|key| key.label.as_str()).collect();
            let message = format!("{} has no such key", self.provider.name);
            Error::argument("key", message).hint(format!("the labels are {}", known.join(", ")))
        })
    }

    /// The name of a ledger of this provider.
    pub(crate) fn ledger_id(&self, group: &str, model: &str) -> LedgerId {
        LedgerId::new(&self.provider.name, group, model)
    }

    /// The target of `model`, made on first use.
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
                counts_tokens: AtomicBool::new(self.limits_tokens(model)),
                uncounted: Mutex::default(),
            })
        });
        made.clone()
    }

    /// Whether a limit on tokens of prompts is configured for `model`.
    fn limits_tokens(&self, model: &str) -> bool {
        let counts = |key: &Key| {
            let limits = [self.configured(key, model), self.configured(key, "*")];
            limits
                .iter()
                .flat_map(|limits| limits.iter())
                .any(|limit| limit.resource.is_of_prompts())
        };
        self.keys.iter().any(counts)
    }

    /// Every target that was used.
    pub(crate) fn known_targets(&self) -> Vec<Arc<Target>> {
        let mut targets: Vec<_> = self.targets.read().values().cloned().collect();
        targets.sort_by(|a, b| a.model.cmp(&b.model));
        targets
    }

    /// The targets with waiting calls.
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
        // A configured limit is enough to go by, and the user's own server refuses no call.
        let nothing_configured = of_model.is_empty() && self.configured(key, "*").is_empty();
        let feels_its_way = nothing_configured && !self.provider.is_self_hosted();
        lanes.lanes.push(if feels_its_way { lane.feeling_its_way() } else { lane });
    }
}
