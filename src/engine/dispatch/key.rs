//! An API key of a provider: label, secret and quota group.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::kernel::Configured;
use crate::secret::Secret;

/// The group of a lane that needs no key.
pub(crate) const NO_KEY: &str = "key-none";

/// A key and where it counts.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) label: String,
    pub(crate) secret: Option<Secret>,
    /// The name of its ledgers while it is a group of its own.
    pub(crate) alone: String,
    /// The group the user put it in; what the provider says does not move it then.
    pub(crate) configured_group: Option<String>,
    pub(super) limits: Configured,
    pub(super) group: RwLock<Arc<str>>,
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
