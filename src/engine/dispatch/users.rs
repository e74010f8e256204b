//! On whose behalf is a call, what is their share of the lines, and which limits of theirs hold?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::registry::{Target, limits_money};
use super::reservation::HeldReservation;
use crate::config::{UserSettings, Users};
use crate::engine::Engine;
use crate::engine::call::costs::{MICRODOLLAR, cost_of_answer};
use crate::engine::world::observer::Notice;
use crate::kernel::{Amounts, Configured, LedgerId, Price, Usage, counted};
use crate::secret::Secret;

/// The place of a provider in the names of ledgers of users.
const NAMESPACE: &str = "user";

/// Somebody on whose behalf calls are made; the empty name is everybody who was not named.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) name: Arc<str>,
    /// In thousandths.
    pub(crate) weight: u32,
    /// The ledger of their own limits, if they have any.
    pub(crate) own: Option<Own>,
}

/// The limits of one user over all targets, and the ledger that counts them.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) id: LedgerId,
    pub(crate) limits: Configured,
}

/// How many tokens of an answer are priced to know what one costs.
const SAMPLE: u64 = 1_000;

impl User {
    /// Whether what calls cost counts against a limit of theirs.
    fn limits_money(&self) -> bool {
        self.own.as_ref().is_some_and(|own| limits_money(&own.limits))
    }
}

/// What was stated of users, ready for calls.
#[derive(Debug)]
pub(in crate::engine) struct UserRoll {
    default: Stated,
    named: BTreeMap<String, Stated>,
    nobody: Arc<User>,
    /// The models without a price that were told of.
    unpriced: Mutex<BTreeSet<String>>,
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
        let nobody = User { name: "".into(), weight: users.default.weight, own: None };
        UserRoll {
            default: (&users.default).into(),
            named,
            nobody: Arc::new(nobody),
            unpriced: Mutex::default(),
        }
    }
}

impl Engine {
    /// The user of this name.
    pub(in crate::engine) fn user(&self, name: Option<&str>) -> Arc<User> {
        let Some(name) = name else { return self.users.nobody.clone() };
        let stated = self.users.named.get(name).unwrap_or(&self.users.default);
        // The name of a person is nobody's business who reads the file.
        let own = (!stated.limits.is_empty()).then(|| Own {
            id: LedgerId::new(NAMESPACE, &format!("{OWN}{}", self.digest_of(name)), "*"),
            limits: stated.limits.clone(),
        });
        Arc::new(User { name: name.into(), weight: stated.weight, own })
    }

    fn digest_of(&self, name: &str) -> String {
        Secret::new(name).digest(self.store.salt())
    }

    /// What a call costs at `target` whose prompt is about so long, where its cost counts against a limit; `None` where
    /// it does not, and when nobody knows.
    pub(in crate::engine) fn price(
        &self,
        target: &Target,
        user: &User,
        input_tokens: u64,
    ) -> Option<Price> {
        if !user.limits_money() && !target.lanes().counts_money {
            return None;
        }
        let (now, tokens) = (self.world.clock.now(), input_tokens.max(1));
        let cost = |input_tokens, output_tokens| {
            let usage = Usage { input_tokens, output_tokens, ..Usage::default() };
            let (own, provider) = (&self.settings.prices, &target.vendor.provider.name);
            cost_of_answer(own, provider, &target.model, Some(&usage), b"", now)
        };
        let (call, prompt, both) = (cost(0, 0)?, cost(tokens, 0)?, cost(tokens, SAMPLE)?);
        let input = prompt.saturating_sub(call).div_ceil(tokens);
        let output = both.saturating_sub(prompt).div_ceil(SAMPLE);
        Some(Price { call, input, output })
    }

    /// What counts of an answer that a provider billed like this: its tokens, and what it cost. `body` is the answer, for
    /// what it says of its bill besides.
    pub(in crate::engine) fn billed(
        &self,
        held: &HeldReservation,
        usage: &Usage,
        body: &[u8],
    ) -> Amounts {
        let target = &held.target;
        let provider = &target.vendor.provider;
        let counted = counted(usage, provider.counts_output, provider.counts_cached_input);
        // Finding a price takes longer than all the rest of a call.
        if !held.user().limits_money() && !held.limits().any(limits_money) {
            return counted;
        }
        let (own, now) = (&self.settings.prices, self.world.clock.now());
        let cost = cost_of_answer(own, &provider.name, &target.model, Some(usage), body, now);
        let cost = cost.map(|cost| cost.div_ceil(MICRODOLLAR));
        if cost.is_none() && self.users.unpriced.lock().insert(target.name.clone()) {
            self.world.observer.notice(&Notice::Warning(format!(
                "nobody knows what {} costs: it does not count against limits on cost",
                target.name
            )));
        }
        Amounts { spend: cost.unwrap_or(0), ..counted }
    }

    /// The ledgers of all users that anything was ever counted for.
    pub(in crate::engine) fn ledgers_of_users(
        stored: &[LedgerId],
    ) -> impl Iterator<Item = &LedgerId> {
        let prefix = format!("{NAMESPACE}|{OWN}");
        stored.iter().filter(move |id| id.as_str().starts_with(&prefix))
    }
}

/// No quota group of a provider is named like this, even if one is called `user`.
const OWN: &str = "own-";
