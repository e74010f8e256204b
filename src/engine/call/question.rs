//! The identity of a call apart from its prompt: provider, model and parameters.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Calls;
use super::request::Request;
use crate::error::Error;

/// What determines the answers of calls beside their prompts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The first provider of the route.
    pub provider: String,
    /// The model.
    pub model: String,
    /// A digest of provider, address, model, parameters and instructions: the same for calls that resolve to
    /// the same, and independent of when and how they are sent.
    pub digest: [u8; 32],
}

impl Calls {
    /// What such calls ask, with `system` before each prompt: names, tasks and the config are resolved. Needs no key.
    pub(in crate::engine) fn question(
        &self,
        ask: &Request,
        system: Option<&str>,
    ) -> Result<Question, Error> {
        #[derive(Serialize)]
        struct Parts<'a> {
            provider: &'a str,
            base_url: &'a str,
            model: &'a str,
            system: Option<&'a str>,
            params: BTreeMap<&'a str, &'a Value>,
        }
        let named = self.named(ask)?;
        let vendor = self.dispatch.vendor(&named.provider)?;
        let params = named.params.iter().chain(&ask.params);
        let parts = Parts {
            provider: &vendor.provider.name,
            base_url: &vendor.provider.base_url,
            model: &named.model,
            system,
            // Of two with the same name the caller's comes last and is kept.
            params: params.map(|(name, value)| (name.as_str(), value)).collect(),
        };
        let text = serde_json::to_vec(&parts).unwrap_or_default();
        let digest = Sha256::digest(text).into();
        Ok(Question { provider: vendor.provider.name.clone(), model: named.model, digest })
    }
}
