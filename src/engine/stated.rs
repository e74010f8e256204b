//! What holds for the calls of a provider, as it was stated?

use serde_json::{Map, Value, json};

use super::Engine;
use crate::config::{Pacing, ProviderSettings, limit_name};
use crate::error::Error;
use crate::kernel::Limit;

/// The model whose name no model has: what is stated of all of them.
const ALL: &str = "*";

impl Engine {
    /// The limits and the pace of a provider in the words of the config, with those of `models`; the labels of its
    /// `keys`; its `base_url`, if it has one.
    ///
    /// # Errors
    /// When there is no such provider.
    pub fn stated(&self, provider: &str) -> Result<Value, Error> {
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
