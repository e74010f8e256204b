//! The error of invalid simulator settings.

use std::fmt;

/// Invalid simulator settings, with the place and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError(String);

impl SettingsError {
    pub(in super::super) fn new(message: impl Into<String>) -> Self {
        SettingsError(message.into())
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "simulator settings: {}", self.0)
    }
}

impl std::error::Error for SettingsError {}
