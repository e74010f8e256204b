//! The route of a call: its target and its fallbacks, checked and in order.

use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};

use super::Calls;
use super::errors;
use super::question::{Question, digest_of_kind};
use super::request::Request;
use crate::config::{Strategy, Target as Named, Wanted};
use crate::engine::dispatch::types::{Target, Vendor};
use crate::engine::world::observer::Notice;
use crate::error::{Error, ErrorKind};
use crate::providers::{ChatRequest, Provider};

/// A target of a route, or the error of sending this call there; `None` once it was taken.
type Checked = Option<Result<Stop, Error>>;

/// One stop of a route: a target and the parameters the call has there.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) target: Arc<Target>,
    pub(crate) params: Map<String, Value>,
    /// The prompt in the model's tokens, once counted; see [`Stop::counted`].
    pub(crate) counted: OnceLock<Option<u64>>,
}

impl Calls {
    /// What such calls ask, with `system` before each prompt: names, tasks and the config are resolved. Needs no key.
    pub(in crate::engine) fn question(
        &self,
        ask: &Request,
        system: Option<&str>,
    ) -> Result<Question, Error> {
        let named = self.named(ask)?;
        let vendor = self.dispatch.vendor(&named.provider)?;
        // Of two with the same name the caller's comes last and is kept.
        let params = named.params.iter().chain(&ask.params);
        let digest = digest_of_kind(&vendor.provider, &named.model, params, system);
        Ok(Question { provider: vendor.provider.name.clone(), model: named.model, digest })
    }

    /// The primary target and the fallbacks, checked, in the order of the strategy.
    pub(crate) fn route(&self, ask: &Request) -> Result<Vec<Stop>, Error> {
        let routes = &self.settings.routes;
        let task = ask.task_name.as_deref().and_then(|task| routes.tasks.get(task));
        let planned = task.map(|task| &task.target).or(routes.default.as_ref());
        let fallbacks = task.and_then(|task| task.fallback.as_ref()).unwrap_or(&routes.fallback);
        let mut written = self.written(ask, planned, fallbacks);
        let mut stops: Vec<Stop> = Vec::with_capacity(written.len());
        let mut refused = None;
        let named = |place: usize| place.checked_sub(1).map(|place| &fallbacks[place]).or(planned);
        for place in self.order(ask, &written, named) {
            let Some(stop) = written[place].take() else { continue };
            match stop {
                Ok(stop) if stops.iter().any(|known| Arc::ptr_eq(&known.target, &stop.target)) => {}
                Ok(stop) => stops.push(stop),
                Err(error) if place == 0 && stops.is_empty() => return Err(error),
                // A fallback that cannot serve this call is no reason to fail it.
                Err(error) => {
                    let name = named(place).map_or_else(String::new, |named| {
                        format!(" {}/{}", named.provider, named.model)
                    });
                    let kind = if place == 0 { "target" } else { "fallback" };
                    let words = format!("{kind}{name} is left out: {error}");
                    self.dispatch.notice(&Notice::Warning(words));
                    refused.get_or_insert(error);
                }
            }
            if !ask.fallback && !stops.is_empty() {
                break;
            }
        }
        match refused {
            Some(error) if stops.is_empty() => Err(error),
            _ => Ok(stops),
        }
    }

    /// Every target of the route in the order of the config, the primary first.
    fn written(&self, ask: &Request, planned: Option<&Named>, fallbacks: &[Named]) -> Vec<Checked> {
        let mut written = vec![Some(self.primary(ask, planned))];
        // Without fallbacks, only a strategy considers other targets.
        if ask.fallback || self.settings.strategy != Strategy::default() {
            let stop = |named: &Named| self.stop(&named.provider, &named.model, &named.params, ask);
            written.extend(fallbacks.iter().map(stop).map(Some));
        }
        written
    }

    /// The places of these targets in the order of the strategy; `named` is the entry of the config at a place.
    fn order<'c>(
        &self,
        ask: &Request,
        written: &[Checked],
        named: impl Fn(usize) -> Option<&'c Named>,
    ) -> Vec<usize> {
        let strategy = &self.settings.strategy;
        if *strategy == Strategy::default() {
            return (0..written.len()).collect();
        }
        let is_named = ask.provider.is_some() || ask.model.is_some();
        let wanted = written.iter().enumerate().map(|(place, stop)| {
            // A target that cannot serve the call keeps its place, so that no paid one moves up to the place of a free
            // one.
            let (local, free) = match stop {
                Some(Ok(stop)) => (stop.target.vendor.local, stop.target.is_free()),
                _ => {
                    let vendor =
                        named(place).and_then(|named| self.dispatch.vendor(&named.provider).ok());
                    vendor.map_or((false, false), |vendor| (vendor.local, vendor.local))
                }
            };
            Wanted { local, free, named: place == 0 && is_named }
        });
        strategy.order(&wanted.collect::<Vec<_>>())
    }

    /// The route without the targets for which the call is too large; an error when there is no other.
    pub(crate) fn fitting(
        &self,
        route: Vec<Stop>,
        request: &ChatRequest,
    ) -> Result<Vec<Stop>, Error> {
        if route.iter().all(|stop| stop.target.pacing.max_tokens_per_request.is_none()) {
            return Ok(route);
        }
        let mut fitting: Vec<Stop> = Vec::with_capacity(route.len());
        let (mut too_large, mut skipped) = (None, None);
        for stop in route {
            let Some(error) = errors::too_large(&stop.target, &stop.params, request) else {
                if let Some((from, reason)) = skipped.take() {
                    let to = stop.target.name.clone();
                    self.dispatch.notice(&Notice::Fallback { from, to, reason });
                }
                fitting.push(stop);
                continue;
            };
            skipped.get_or_insert_with(|| (stop.target.name.clone(), error.message.clone()));
            too_large.get_or_insert(error);
        }
        match too_large {
            Some(error) if fitting.is_empty() => Err(error),
            _ => Ok(fitting),
        }
    }

    /// The target that the call names, or its task, without asking for keys.
    pub(crate) fn named(&self, ask: &Request) -> Result<Named, Error> {
        let routes = &self.settings.routes;
        let task = ask.task_name.as_deref().and_then(|task| routes.tasks.get(task));
        self.wanted(ask, task.map(|task| &task.target).or(routes.default.as_ref()))
    }

    fn primary(&self, ask: &Request, planned: Option<&Named>) -> Result<Stop, Error> {
        let wanted = self.wanted(ask, planned)?;
        self.stop(&wanted.provider, &wanted.model, &wanted.params, ask)
    }

    fn wanted(&self, ask: &Request, planned: Option<&Named>) -> Result<Named, Error> {
        let named = |provider: &str, model: &str| Named {
            provider: provider.to_owned(),
            model: model.to_owned(),
            params: Map::new(),
        };
        match (&ask.provider, &ask.model) {
            (Some(provider), Some(model)) => Ok(named(provider, model)),
            (None, Some(model)) => Ok(named(&self.provider_of(model, planned)?, model)),
            (Some(provider), None) => {
                let vendor = self.dispatch.vendor(provider)?;
                let planned =
                    planned.filter(|planned| planned.provider == vendor.provider.name).cloned();
                let usual = || Some(named(provider, vendor.settings.default_model.as_ref()?));
                planned.or_else(usual).ok_or_else(|| {
                    let message = format!("no model was given for provider {provider}");
                    Error::argument("model", message).hint(
                        "pass model=\"…\", or set default_model for the provider in the config",
                    )
                })
            }
            (None, None) => planned.cloned().ok_or_else(|| {
                Error::argument("model", "neither a model nor a provider was given")
                    .hint("pass model=\"…\", or write models.default in the config")
            }),
        }
    }

    fn provider_of(&self, model: &str, planned: Option<&Named>) -> Result<String, Error> {
        if let Some(planned) = planned.filter(|planned| planned.model == model) {
            return Ok(planned.provider.clone());
        }
        if let Some(name) = Provider::for_model(model) {
            return Ok(name.to_owned());
        }
        let message = format!("the provider of model {model:?} is unknown");
        let hint = format!(
            "pass provider=\"…\"; known are {}",
            self.dispatch.known_providers().join(", ")
        );
        Err(Error::argument("provider", message).hint(hint))
    }

    fn stop(
        &self,
        provider: &str,
        model: &str,
        planned: &Map<String, Value>,
        ask: &Request,
    ) -> Result<Stop, Error> {
        if model.trim().is_empty() {
            return Err(Error::argument("model", "the model's name is empty"));
        }
        let vendor = self.dispatch.vendor(provider)?;
        let mut params = planned.clone();
        params.extend(ask.params.iter().map(|(name, value)| (name.clone(), value.clone())));
        if !params.is_empty() {
            vendor.provider.check_params(&params)?;
        }
        if vendor.keys.is_empty() {
            return Err(self.no_key(&vendor));
        }
        let target = self.dispatch.target(&vendor, model);
        Ok(Stop { target, params, counted: OnceLock::new() })
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
