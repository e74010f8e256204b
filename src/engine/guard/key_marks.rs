//! Marks set by hand on keys (`APIKeyManager`): failed, used up, available.
//!
//! `APIKeyManager` sends nothing. Its keys are variables, and their ledgers are the ones that prompts use. A mark
//! becomes a block: of the key alone for an invalid key, else of its group over all models, because no model is
//! named. A failure about a model closes nothing. Questions are answered from all ledgers of the key: a block or a
//! used-up meter of a day or longer at any model means used up, a block of class `auth` means failed. A minute's
//! refusal does not count. Opening a key removes its blocks and its day counts at every model.

use std::sync::Arc;

use crate::engine::dispatch::status::{KeyStatus, ledgers_of};
use crate::engine::dispatch::types::{Dispatch, Vendor};
use crate::error::Error;
use crate::kernel::{
    Failure, FailureClass, LedgerId, Moment, Origin, Scope, Until, close, day_ends, day_turns,
};

/// The time zone of days at providers that document none.
const NO_ZONE: &str = "UTC";

impl Dispatch {
    /// Closes a key for the failure of a request that was sent elsewhere.
    pub(in crate::engine) fn close_key(
        &self,
        provider: &str,
        label: &str,
        failure: &Failure,
    ) -> Result<Option<Moment>, Error> {
        let (vendor, place) = self.vendor_and_key(provider, label)?;
        let Some(id) = vendor.closed_by(place, failure) else { return Ok(None) };
        let now = self.now();
        let entropy = self.world.entropy.draw();
        let mut closed = None;
        self.store.update(&[id], &mut |ledgers| {
            closed = close(ledgers.get_mut(0), failure, entropy, now);
        })?;
        vendor.wake_lines();
        Ok(closed.map(|block| block.until))
    }

    /// Marks a key as invalid: closes it until an instant, or until it is opened again.
    pub(in crate::engine) fn disable_key(
        &self,
        provider: &str,
        label: &str,
        until: Option<Moment>,
    ) -> Result<(), Error> {
        let failure = Failure {
            until: until.map(|at| Until { at, origin: Origin::Provider }),
            ..Failure::new(FailureClass::Auth, Scope::Key, "marked as failed")
        };
        self.close_key(provider, label, &failure).map(drop)
    }

    /// Marks a key as used up until an instant, or until the day turns at its provider.
    pub(in crate::engine) fn exhaust_key(
        &self,
        provider: &str,
        label: &str,
        until: Option<Moment>,
    ) -> Result<Moment, Error> {
        let (vendor, _) = self.vendor_and_key(provider, label)?;
        let now = self.now();
        let zone = vendor.provider.reset_zone.unwrap_or(NO_ZONE);
        let at = until.unwrap_or_else(|| day_turns(now, zone));
        let message = "marked as used up";
        let failure = Failure {
            until: Some(Until { at, origin: Origin::Provider }),
            ..Failure::new(FailureClass::DailyQuota, Scope::Group, message)
        };
        Ok(self.close_key(provider, label, &failure)?.unwrap_or(at))
    }

    /// The end of a civil day, `YYYY-MM-DD`, at a provider; `None` when that is no date.
    pub(in crate::engine) fn day_ends(
        &self,
        provider: &str,
        date: &str,
    ) -> Result<Option<Moment>, Error> {
        let vendor = self.vendor(provider)?;
        Ok(day_ends(date, vendor.provider.reset_zone.unwrap_or(NO_ZONE)))
    }

    /// Opens what is closed for a key, at every model. Returns whether anything changed.
    pub(in crate::engine) fn open_key(
        &self,
        provider: &str,
        label: &str,
        also_disabled: bool,
    ) -> Result<bool, Error> {
        let (vendor, place) = self.vendor_and_key(provider, label)?;
        let stored = self.store.ids()?;
        let ids: Vec<LedgerId> = ledgers_of(&vendor, &vendor.keys[place], &stored)
            .into_iter()
            .map(|(_, id)| id)
            .collect();
        let mut opened = false;
        self.store.update(&ids, &mut |ledgers| {
            for place in 0..ledgers.len() {
                let opens = |class: FailureClass| also_disabled || class.is_quota();
                let ledger = ledgers.get_mut(place);
                opened |= ledger.open(opens) | ledger.forget_days();
            }
        })?;
        vendor.wake_lines();
        Ok(opened)
    }

    /// The status of one key.
    pub(in crate::engine) fn key(&self, provider: &str, label: &str) -> Result<KeyStatus, Error> {
        let (vendor, place) = self.vendor_and_key(provider, label)?;
        let stored = self.store.ids()?;
        Ok(self.key_status(&vendor, &vendor.keys[place], &stored, self.now())?)
    }

    fn vendor_and_key(&self, provider: &str, label: &str) -> Result<(Arc<Vendor>, usize), Error> {
        let vendor = self.vendor(provider)?;
        let place = vendor.key_labelled(label)?;
        Ok((vendor, place))
    }
}

impl Vendor {
    /// The ledger that a failure closes for a key, whatever the model was.
    fn closed_by(&self, place: usize, failure: &Failure) -> Option<LedgerId> {
        let key = &self.keys[place];
        let group = key.group();
        match failure.scope {
            _ if failure.class == FailureClass::Auth => Some(self.ledger_id(&key.alone, "*")),
            Scope::Call | Scope::Model => None,
            Scope::Key => Some(self.ledger_id(&key.alone, "*")),
            Scope::GroupFreeModels => Some(self.ledger_id(&group, "*:free")),
            Scope::GroupModel | Scope::Group => Some(self.ledger_id(&group, "*")),
        }
    }
}
