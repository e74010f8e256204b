//! Where does a call go, and where next?

use std::sync::Arc;

use serde_json::{Map, Value};

use super::Engine;
use super::ask::Ask;
use super::observe::Notice;
use super::roster::{Target, Vendor};
use crate::config::Target as Named;
use crate::error::{Error, ErrorKind};
use crate::providers::Provider;

/// One stop of a route: a target and the parameters the call has there.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) target: Arc<Target>,
    pub(crate) params: Map<String, Value>,
}

impl Engine {
    /// The primary target and the fallbacks, checked.
    pub(crate) fn route(&self, ask: &Ask) -> Result<Vec<Stop>, Error> {
        let routes = &self.settings.routes;
        let task = ask.task_name.as_deref().and_then(|task| routes.tasks.get(task));
        let planned = task.map(|task| &task.target).or(routes.default.as_ref());
        let mut stops = vec![self.primary(ask, planned)?];
        if ask.fallback {
            let fallbacks =
                task.and_then(|task| task.fallback.as_ref()).unwrap_or(&routes.fallback);
            for named in fallbacks {
                // What a fallback cannot do for this call is no reason to refuse it to the primary.
                match self.stop(&named.provider, &named.model, &named.params, ask) {
                    Ok(stop)
                        if stops.iter().any(|known| Arc::ptr_eq(&known.target, &stop.target)) => {}
                    Ok(stop) => stops.push(stop),
                    Err(error) => self.observer.notice(&Notice::Warns(format!(
                        "fallback {}/{} is left out: {error}",
                        named.provider, named.model
                    ))),
                }
            }
        }
        Ok(stops)
    }

    fn primary(&self, ask: &Ask, planned: Option<&Named>) -> Result<Stop, Error> {
        let nothing = Map::new();
        match (&ask.provider, &ask.model) {
            (Some(provider), Some(model)) => self.stop(provider, model, &nothing, ask),
            (None, Some(model)) => {
                let provider = self.provider_of(model, planned)?;
                self.stop(&provider, model, &nothing, ask)
            }
            (Some(provider), None) => {
                let vendor = self.vendor(provider)?;
                let model = planned
                    .filter(|planned| planned.provider == vendor.provider.name)
                    .map(|planned| (planned.model.clone(), planned.params.clone()))
                    .or_else(|| Some((vendor.settings.default_model.clone()?, Map::new())));
                let Some((model, params)) = model else {
                    let message = format!("no model was given for provider {provider}");
                    return Err(Error::argument("model", message).hint(
                        "pass model=\"…\", or set default_model for the provider in the config",
                    ));
                };
                self.stop(provider, &model, &params, ask)
            }
            (None, None) => match planned {
                Some(named) => self.stop(&named.provider, &named.model, &named.params, ask),
                None => Err(Error::argument("model", "neither a model nor a provider was given")
                    .hint("pass model=\"…\", or write models.default in the config")),
            },
        }
    }

    fn provider_of(&self, model: &str, planned: Option<&Named>) -> Result<String, Error> {
        if let Some(planned) = planned.filter(|planned| planned.model == model) {
            return Ok(planned.provider.clone());
        }
        if let Some(name) = Provider::for_model(model) {
            return Ok(name.to_owned());
        }
        let message = format!("the provider of model {model:?} cannot be told from its name");
        let hint = format!("pass provider=\"…\"; known are {}", self.known_providers().join(", "));
        Err(Error::argument("provider", message).hint(hint))
    }

    fn stop(
        &self,
        provider: &str,
        model: &str,
        planned: &Map<String, Value>,
        ask: &Ask,
    ) -> Result<Stop, Error> {
        if model.trim().is_empty() {
            return Err(Error::argument("model", "the model's name is empty"));
        }
        let vendor = self.vendor(provider)?;
        let mut params = planned.clone();
        params.extend(ask.params.iter().map(|(name, value)| (name.clone(), value.clone())));
        if !params.is_empty() {
            vendor.provider.check_params(&params)?;
        }
        if vendor.keys.is_empty() {
            return Err(self.no_key(&vendor));
        }
        Ok(Stop { target: vendor.target(model, self.settings.queue_max_size), params })
    }

    fn no_key(&self, vendor: &Vendor) -> Error {
        let name = &vendor.provider.name;
        let mut looked_for = self.settings.key_names_looked_for(name);
        if looked_for.is_empty() {
            looked_for = vendor.provider.key_envs.iter().map(|env| (*env).to_owned()).collect();
        }
        let hint = format!(
            "set {} in the environment or in .env, or pass keys={{\"{name}\": \"…\"}}",
            looked_for.join(" or ")
        );
        Error::new(ErrorKind::NoKey, format!("there is no key for {name}"))
            .hint(hint)
            .with(|facts| facts.provider = Some(name.clone()))
    }
}
