//! The status: keys, limits, blocks, lines; and the reset of ledgers.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::key::{Key, NO_KEY};
use super::types::{Dispatch, Target, Vendor};
use super::users::ledgers_of_users;
use crate::config::{Pacing, ProviderSettings, limit_name};
use crate::error::Error;
use crate::kernel::FailureClass::{CreditExhausted, DailyQuota};
use crate::kernel::{
    Amounts, Block, BreakerState, DEGRADED_BELOW, FailureClass, Ledger, LedgerId, Limit, Moment,
    Origin, Period,
};
use crate::stores::StoreError;

/// The keys, limits, blocks and lines at one instant.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// When, in seconds since the epoch.
    pub at: f64,
    /// Every key of every provider.
    pub keys: Vec<KeyStatus>,
    /// Every line with waiting calls.
    pub waiting: Vec<WaitingStatus>,
    /// Every target that calls with a fallback avoid.
    pub avoided: Vec<AvoidedStatus>,
    /// Keys that probably share a quota and are not in one group: put them into one `group`.
    pub suspects: Vec<SuspectStatus>,
}

/// A target in trouble.
#[derive(Clone, Debug, Serialize)]
pub struct AvoidedStatus {
    /// `provider/model`.
    pub target: String,
    /// Until when, in seconds since the epoch; then one call finds out whether it is well again.
    pub until: f64,
}

/// Two keys that are always refused together.
#[derive(Clone, Debug, Serialize)]
pub struct SuspectStatus {
    /// `provider/model`.
    pub target: String,
    /// The labels of the two.
    pub keys: [String; 2],
    /// How often.
    pub together: u32,
}

/// One key.
#[derive(Clone, Debug, Serialize)]
pub struct KeyStatus {
    /// The provider.
    pub provider: String,
    /// The label; never the key.
    pub label: String,
    /// The quota group it counts in.
    pub group: String,
    /// `healthy`, `degraded` (its health is below 70), `cooling` (a short refusal closes it), `exhausted` (a day's
    /// quota or the credit), `disabled` (not valid).
    pub state: &'static str,
    /// 0 to 100: how much of what it asked for lately it was served.
    pub health: u8,
    /// When a used-up day, month or credit comes back, in seconds since the epoch; `None` while nothing is used up.
    pub exhausted_until: Option<f64>,
    /// Attempts that left.
    pub sent: u64,
    /// Attempts that were refused for quota.
    pub refused: u64,
    /// Calls under way in this process.
    pub in_flight: u64,
    /// What closes it or its group, for which model (`*`: all).
    pub blocks: Vec<BlockStatus>,
    /// Every limit that was configured or learned.
    pub limits: Vec<LimitStatus>,
}

/// Why something is closed.
#[derive(Clone, Debug, Serialize)]
pub struct BlockStatus {
    /// The model, or `*`.
    pub model: String,
    /// The failure class.
    pub reason: FailureClass,
    /// Until when, in seconds since the epoch; `None`: until it is reconfigured.
    pub until: Option<f64>,
    /// `provider` or `guess`.
    pub origin: Origin,
}

/// How far a limit is used.
#[derive(Clone, Debug, Serialize)]
pub struct LimitStatus {
    /// The model, or `*`.
    pub model: String,
    /// What is limited.
    pub resource: crate::kernel::Resource,
    /// Over which window.
    pub period: crate::kernel::Period,
    /// How much.
    pub limit: u64,
    /// How much of it is used.
    pub used: u64,
    /// What is left.
    pub remaining: u64,
    /// When all of it is back, in seconds since the epoch.
    pub reset: f64,
    /// Where the limit comes from.
    pub source: crate::kernel::Source,
    /// When it was learned, in seconds since the epoch; it is forgotten seven days after the provider last
    /// reported it. `None` for a limit that was not learned.
    pub learned_at: Option<f64>,
}

/// A waiting line.
#[derive(Clone, Debug, Serialize)]
pub struct WaitingStatus {
    /// `provider/model`.
    pub target: String,
    /// How many wait.
    pub waiting: usize,
}

impl Dispatch {
    /// The status now.
    pub(in crate::engine) fn status(&self) -> Result<Status, StoreError> {
        let now = self.now();
        let mut status = Status {
            at: now.as_seconds(),
            keys: Vec::new(),
            waiting: Vec::new(),
            avoided: Vec::new(),
            suspects: Vec::new(),
        };
        let stored = self.store.ids()?;
        for vendor in self.known_vendors() {
            // A local server that was not used yet is left out, unless it was used before a restart.
            let keyless = vendor.ledger_id(NO_KEY, "");
            let used = stored.iter().any(|id| id.as_str().starts_with(keyless.as_str()));
            let vendor = if used { self.without_key(vendor) } else { vendor };
            let silent = !used && vendor.known_targets().is_empty();
            for key in vendor.keys.iter().filter(|key| key.secret.is_some() || !silent) {
                status.keys.push(self.key_status(&vendor, key, &stored, now)?);
            }
            let lines = vendor.known_targets().into_iter().map(|target| WaitingStatus {
                target: target.name.clone(),
                waiting: target.line.lock().len(),
            });
            status.waiting.extend(lines.filter(|line| line.waiting > 0));
            for target in vendor.known_targets() {
                target.describe_trouble(&mut status, now);
            }
        }
        Ok(status)
    }

    pub(in crate::engine) fn key_status(
        &self,
        vendor: &Arc<Vendor>,
        key: &Key,
        stored: &[LedgerId],
        now: Moment,
    ) -> Result<KeyStatus, StoreError> {
        let group = key.group();
        let mut status = KeyStatus {
            provider: vendor.provider.name.clone(),
            label: key.label.clone(),
            group: group.to_string(),
            state: "healthy",
            health: 100,
            exhausted_until: None,
            sent: 0,
            refused: 0,
            in_flight: 0,
            blocks: Vec::new(),
            limits: Vec::new(),
        };
        for (model, id) in ledgers_of(vendor, key, stored) {
            let configured = vendor.configured(key, &model);
            let id_is_own = id == vendor.ledger_id(&key.alone, "*");
            let is_whole = model == "*" && id == vendor.ledger_id(&group, "*");
            self.store.update(&[id], &mut |ledgers| {
                let ledger = ledgers.get_mut(0);
                if is_whole || model != "*" {
                    ledger.conform(&configured, now);
                }
                if model == "*" && id_is_own {
                    status.health = ledger.health().percent(now);
                }
                if is_whole {
                    status.sent = ledger.totals().sent;
                    status.in_flight = ledger.in_flight();
                }
                status.refused += ledger.totals().refused;
                let blocks = ledger.blocks().iter().filter(|block| block.until > now);
                status.blocks.extend(blocks.map(|block| BlockStatus::of(&model, block)));
                if let Some(until) = exhausted_until(ledger, now) {
                    let known = status.exhausted_until.unwrap_or(f64::MIN);
                    status.exhausted_until = Some(until.as_seconds().max(known));
                }
                // What a key counted before it joined its group is counted there now.
                let counts = is_whole || model != "*";
                let meters = ledger.meters(now).into_iter().filter(|_| counts);
                status.limits.extend(meters.map(|(limit, used, reset)| LimitStatus {
                    model: model.clone(),
                    resource: limit.resource,
                    period: limit.period,
                    limit: limit.amount.get(),
                    used,
                    remaining: limit.amount.get().saturating_sub(used),
                    reset: reset.as_seconds(),
                    source: limit.source,
                    learned_at: ledger.told_at(&limit).map(Moment::as_seconds),
                }));
            })?;
        }
        status.state = state_of(&status);
        Ok(status)
    }

    /// Opens and empties the ledgers of a provider or of one of its keys; of all when neither is named. Returns how
    /// many.
    pub(in crate::engine) fn reset(
        &self,
        provider: Option<&str>,
        label: Option<&str>,
    ) -> Result<usize, Error> {
        let vendors = match provider {
            Some(name) => vec![self.vendor(name)?],
            None => self.known_vendors(),
        };
        let keys = || {
            let keys =
                vendors.iter().flat_map(|vendor| vendor.keys.iter().map(move |key| (vendor, key)));
            keys.filter(|(_, key)| label.is_none_or(|label| key.is(label)))
        };
        if label.is_some() && keys().next().is_none() {
            let known: Vec<&str> = vendors
                .iter()
                .flat_map(|vendor| &vendor.keys)
                .map(|key| key.label.as_str())
                .collect();
            // What was asked for may be a key, so it is not repeated.
            let error = Error::argument("key", "there is no key with this label");
            return Err(error.hint(format!("the labels are {}", known.join(", "))));
        }
        let stored = self.store.ids()?;
        let mut ids: Vec<LedgerId> = keys()
            .flat_map(|(vendor, key)| ledgers_of(vendor, key, &stored))
            .map(|(_, id)| id)
            .collect();
        if provider.is_none() && label.is_none() {
            ids.extend(ledgers_of_users(&stored).cloned());
        }
        ids.sort();
        ids.dedup();
        self.store.update(&ids, &mut |ledgers| {
            (0..ledgers.len()).for_each(|place| ledgers.get_mut(place).reset());
        })?;
        for vendor in &vendors {
            vendor.wake_lines();
        }
        Ok(ids.len())
    }
}

/// The stored ledgers that concern a key: its own, its group's, and its group's at every model.
pub(in crate::engine) fn ledgers_of(
    vendor: &Vendor,
    key: &Key,
    stored: &[LedgerId],
) -> Vec<(String, LedgerId)> {
    let own = vendor.ledger_id(&key.alone, "*");
    let prefix = vendor.ledger_id(&key.group(), "");
    stored
        .iter()
        .filter_map(|id| match id.as_str().strip_prefix(prefix.as_str()) {
            Some(model) => Some((model.to_owned(), id.clone())),
            None => (*id == own).then(|| ("*".to_owned(), id.clone())),
        })
        .collect()
}

/// The end of what holds for a day or longer: a used-up limit, whatever it counts, or a block.
fn exhausted_until(ledger: &Ledger, now: Moment) -> Option<Moment> {
    let least = Amounts { requests: 1, input_tokens: 1, output_tokens: 1, spend: 0 };
    let limits = [Period::Day, Period::Month].into_iter().filter_map(|period| {
        ledger.limit_in_the_way(period, &least, 0, now).and_then(|obstacle| obstacle.until())
    });
    let blocks = ledger
        .blocks()
        .iter()
        .filter(|block| block.until > now && matches!(block.class, DailyQuota | CreditExhausted));
    limits.chain(blocks.map(|block| block.until)).max()
}

fn state_of(status: &KeyStatus) -> &'static str {
    if status.blocks.iter().any(|block| block.reason == FailureClass::Auth) {
        "disabled"
    } else if status.exhausted_until.is_some() {
        "exhausted"
    } else if !status.blocks.is_empty() {
        "cooling"
    } else if status.health < DEGRADED_BELOW {
        "degraded"
    } else {
        "healthy"
    }
}

impl BlockStatus {
    fn of(model: &str, block: &Block) -> Self {
        let until = (block.until != Moment::FAR_FUTURE).then(|| block.until.as_seconds());
        BlockStatus { model: model.to_owned(), reason: block.class, until, origin: block.origin }
    }
}

impl Target {
    fn describe_trouble(&self, status: &mut Status, now: Moment) {
        if let BreakerState::Open(until) = self.breaker.lock().state(now) {
            let (target, until) = (self.name.clone(), until.as_seconds());
            status.avoided.push(AvoidedStatus { target, until });
        }
        let label = |key: usize| self.vendor.keys[key].label.clone();
        let pairs = self.suspects().into_iter();
        status.suspects.extend(pairs.map(|(one, other, together)| SuspectStatus {
            target: self.name.clone(),
            keys: [label(one), label(other)],
            together,
        }));
    }
}

/// The name that stands for all models.
const ALL: &str = "*";

impl Dispatch {
    /// The limits and the pace of a provider in the words of the config, with those of `models`; the labels of its
    /// `keys`; its `base_url`, if it has one.
    pub(in crate::engine) fn stated(&self, provider: &str) -> Result<Value, Error> {
        let vendor = self.vendor(provider)?;
        let settings = &vendor.settings;
        let mut stated = words(&settings.limits, &settings.pacing(ALL));
        let named = settings.model_limits.keys().chain(settings.model_pacing.keys());
        let models: Map<String, Value> =
            named.map(|model| (model.clone(), of_model(settings, model).into())).collect();
        let labels: Vec<&str> = vendor.keys.iter().map(|key| key.label.as_str()).collect();
        let base_url = Some(&vendor.provider.base_url).filter(|url| !url.is_empty());
        stated.insert("provider".to_owned(), json!(vendor.provider.name));
        stated.insert("base_url".to_owned(), json!(base_url));
        stated.insert("default_model".to_owned(), json!(settings.default_model));
        stated.insert("keys".to_owned(), json!(labels));
        stated.insert("models".to_owned(), models.into());
        Ok(stated.into())
    }
}

fn of_model(settings: &ProviderSettings, model: &str) -> Map<String, Value> {
    let limits = settings.model_limits.get(model).map_or(&[][..], Vec::as_slice);
    words(limits, &settings.pacing(model))
}

fn words(limits: &[Limit], pacing: &Pacing) -> Map<String, Value> {
    let mut words = Map::new();
    for limit in limits {
        if let Some(name) = limit_name(limit.resource, limit.period) {
            words.insert(name.to_owned(), limit.amount.get().into());
        }
    }
    words.insert("max_tokens_per_request".to_owned(), json!(pacing.max_tokens_per_request));
    words.insert("base_delay".to_owned(), json!(pacing.base_delay.as_secs_f64()));
    words.insert("max_retries".to_owned(), json!(pacing.max_retries));
    words.insert("retry_multiplier".to_owned(), json!(pacing.retry_multiplier));
    words.insert("pause_threshold".to_owned(), json!(pacing.pause_threshold));
    words
}
