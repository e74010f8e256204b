//! Users of a config: weights and limits.

use std::num::NonZeroU64;

use super::error::ConfigError;
use super::limits::{lay_over, read};
use super::reader::{Node, Table};
use super::redact::shown;
use super::schema::{self, Takes};
use super::settings::{USUAL_WEIGHT, UserSettings, Users};
use crate::kernel::{Period, Refill, Resource};

/// The entry that holds for users without their own.
const OTHERS: &str = "default";

impl Users {
    /// What holds for the user of this name.
    ///
    /// ```
    /// use quotaflow::config::{Arguments, ConfigArgument, Settings, Sources};
    /// use serde_json::json;
    /// let config = json!({"users": {"default": {"rpm": 10}, "alice": {"weight": 2.5}}});
    /// let config = Some(ConfigArgument::Value(config));
    /// let arguments = Arguments { config, state: Some("memory".into()), ..Arguments::default() };
    /// let users = Settings::resolve(arguments, Sources::default()).unwrap().users;
    /// assert_eq!((users.of("alice").weight, users.of("alice").limits.len()), (2_500, 1));
    /// assert_eq!(users.of("bob").weight, 1_000);
    /// ```
    pub fn of(&self, name: &str) -> &UserSettings {
        self.named.get(name).unwrap_or(&self.default)
    }
}

/// Reads `users: {default: {rpm: 10}, alice: {weight: 3, cost_per_day: 1.5}}`.
pub(super) fn users(top: &Table<'_>) -> Result<Users, ConfigError> {
    let Some(node) = top.get("users") else { return Ok(Users::default()) };
    let entries = node.entries(Takes::Table)?;
    let mut users = Users::default();
    for (name, node) in entries.iter().filter(|(name, _)| *name == OTHERS) {
        let _ = name;
        users.default = user(node, &users.default)?;
    }
    for (name, node) in entries.iter().filter(|(name, _)| *name != OTHERS) {
        if name.trim().is_empty() {
            return Err(node
                .error("a user needs a name")
                .hint("write default for all other users"));
        }
        if shown(name, false) != *name {
            return Err(node.error("a user's name is shown, and this one looks like a key"));
        }
        users.named.insert((*name).to_owned(), user(node, &users.default)?);
    }
    Ok(users)
}

fn user(node: &Node<'_>, default: &UserSettings) -> Result<UserSettings, ConfigError> {
    let table = node.table(schema::USER)?;
    let mut settings = default.clone();
    if let Some(node) = table.get("weight") {
        let weight = node.number(0.001, 1_000_000.0)?;
        settings.weight = (weight * f64::from(USUAL_WEIGHT)).round() as u32;
    }
    let rolls = |_: Resource, _: Period, _: NonZeroU64| Refill::Rolling;
    lay_over(&mut settings.limits, read(&table, &rolls)?);
    Ok(settings)
}
