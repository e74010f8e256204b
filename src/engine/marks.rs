//! What does somebody who uses our keys elsewhere tell us about one?
//!
//! What is marked stands in the same ledgers as what our own calls meet, so every process that shares the state knows.

use std::sync::Arc;

use super::Engine;
use super::roster::Vendor;
use super::status::KeyStatus;
use crate::error::Error;
use crate::kernel::{
    Block, Failure, FailureClass, LedgerId, Moment, Origin, Scope, Until, day_ends, day_turns,
};

/// Where days turn at providers that document no zone of their own.
const NO_ZONE: &str = "UTC";

impl Engine {
    /// Closes a key for what somebody else's request met: the key alone for what concerns only it, its quota group
    /// otherwise, for whoever uses a key elsewhere need not say for which model. Says until when; `None` when such a
    /// failure closes nothing.
    ///
    /// # Errors
    /// When there is no such key, or the state cannot be written.
    pub fn close_key(
        &self,
        provider: &str,
        label: &str,
        failure: &Failure,
    ) -> Result<Option<Moment>, Error> {
        let (vendor, place) = self.vendor_and_key(provider, label)?;
        let now = self.clock.now();
        let entropy = self.entropy.draw();
        let own = matches!(failure.scope, Scope::Key) || failure.class == FailureClass::Auth;
        let mut closed = None;
        self.store.update(&[vendor.whole_key(place, own)], &mut |ledgers| {
            let ledger = ledgers.get_mut(0);
            let strikes = ledger.blocks().strikes(failure.class);
            closed = Block::after(failure, strikes, now, entropy);
            if let Some(block) = closed.clone() {
                ledger.block(block, now);
            }
        })?;
        self.wake_lines(&vendor);
        Ok(closed.map(|block| block.until))
    }

    /// Closes a key until it is opened again: somebody says that it does not work.
    ///
    /// # Errors
    /// When there is no such key, or the state cannot be written.
    pub fn disable_key(&self, provider: &str, label: &str) -> Result<(), Error> {
        let failure = Failure::new(FailureClass::Auth, Scope::Key, "marked as failed");
        self.close_key(provider, label, &failure).map(drop)
    }

    /// A key is used up until the day turns at its provider: what is said of a key when nothing more is known.
    ///
    /// # Errors
    /// When there is no such key, or the state cannot be written.
    pub fn exhaust_key(
        &self,
        provider: &str,
        label: &str,
        until: Option<Moment>,
    ) -> Result<Moment, Error> {
        let (vendor, _) = self.vendor_and_key(provider, label)?;
        let now = self.clock.now();
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
    ///
    /// # Errors
    /// When there is no such provider.
    pub fn day_ends(&self, provider: &str, date: &str) -> Result<Option<Moment>, Error> {
        let vendor = self.vendor(provider)?;
        Ok(day_ends(date, vendor.provider.reset_zone.unwrap_or(NO_ZONE)))
    }

    /// Opens what is closed for a key: what its quota closed, and with `also_disabled` everything. What was used stays
    /// counted. Says whether there was anything.
    ///
    /// # Errors
    /// When there is no such key, or the state cannot be written.
    pub fn open_key(
        &self,
        provider: &str,
        label: &str,
        also_disabled: bool,
    ) -> Result<bool, Error> {
        let (vendor, place) = self.vendor_and_key(provider, label)?;
        let mut ids = vec![vendor.whole_key(place, true), vendor.whole_key(place, false)];
        ids.dedup();
        let mut opened = false;
        self.store.update(&ids, &mut |ledgers| {
            for place in 0..ledgers.len() {
                let opens = |class: FailureClass| also_disabled || class.is_quota();
                opened |= ledgers.get_mut(place).open(opens);
            }
        })?;
        self.wake_lines(&vendor);
        Ok(opened)
    }

    /// How one key is.
    ///
    /// # Errors
    /// When there is no such key, or the state cannot be read.
    pub fn key(&self, provider: &str, label: &str) -> Result<KeyStatus, Error> {
        let (vendor, place) = self.vendor_and_key(provider, label)?;
        let stored = self.store.ids()?;
        Ok(self.key_status(&vendor, &vendor.keys[place], &stored, self.clock.now())?)
    }

    fn vendor_and_key(&self, provider: &str, label: &str) -> Result<(Arc<Vendor>, usize), Error> {
        let vendor = self.vendor(provider)?;
        let place = vendor.key_labelled(label)?;
        Ok((vendor, place))
    }
}

impl Vendor {
    /// The ledger over all models of a key alone, or of its group.
    fn whole_key(&self, place: usize, alone: bool) -> LedgerId {
        let key = &self.keys[place];
        if alone { self.ledger_id(&key.alone, "*") } else { self.ledger_id(&key.group(), "*") }
    }
}
