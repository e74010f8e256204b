//! Users on whose behalf calls are made: their weight, their own limits.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{UserSettings, Users};
use crate::kernel::{Configured, LedgerId};
use crate::secret::Secret;

/// The place of a provider in the names of ledgers of users.
const NAMESPACE: &str = "user";
/// No quota group of a provider is named like this, even if one is called `user`.
const OWN: &str = "own-";

/// A user on whose behalf calls are made; the empty name stands for all calls that name none.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) name: Arc<str>,
    /// In thousandths.
    pub(crate) weight: u32,
    /// The user's own limits, if there are any.
    pub(crate) own: Option<Own>,
}

/// The limits of one user over all targets, and the ledger that counts them.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) id: LedgerId,
    pub(crate) limits: Configured,
}

/// What the config says of users, ready for calls.
#[derive(Debug)]
pub(in crate::engine) struct UserRoll {
    default: Stated,
    named: BTreeMap<String, Stated>,
    unnamed: Arc<User>,
}

#[derive(Debug)]
struct Stated {
    weight: u32,
    limits: Configured,
}

impl From<&UserSettings> for Stated {
    fn from(settings: &UserSettings) -> Self {
        Stated { weight: settings.weight, limits: settings.limits.clone().into() }
    }
}

impl UserRoll {
    pub(in crate::engine) fn new(users: &Users) -> Self {
        let named = users.named.iter().map(|(name, user)| (name.clone(), user.into())).collect();
        let unnamed = User { name: "".into(), weight: users.default.weight, own: None };
        UserRoll { default: (&users.default).into(), named, unnamed: Arc::new(unnamed) }
    }

    /// The user of this name. In ledgers it stands as a digest with this salt.
    pub(in crate::engine) fn user(&self, name: Option<&str>, salt: &str) -> Arc<User> {
        let Some(name) = name else { return self.unnamed.clone() };
        let stated = self.named.get(name).unwrap_or(&self.default);
        // User names are hashed in the state file.
        let own = (!stated.limits.is_empty()).then(|| Own {
            id: LedgerId::new(NAMESPACE, &format!("{OWN}{}", Secret::new(name).digest(salt)), "*"),
            limits: stated.limits.clone(),
        });
        Arc::new(User { name: name.into(), weight: stated.weight, own })
    }
}

/// The ledgers of all users that anything was ever counted for.
pub(in crate::engine) fn ledgers_of_users(stored: &[LedgerId]) -> impl Iterator<Item = &LedgerId> {
    let prefix = format!("{NAMESPACE}|{OWN}");
    stored.iter().filter(move |id| id.as_str().starts_with(&prefix))
}
