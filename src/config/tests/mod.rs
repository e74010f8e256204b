//! Tests of the config.

mod errors;
mod files;
mod keys;
mod limits;
mod pacing;
mod precedence;
mod prices;
mod routes;
mod secrets;
mod strategy;
mod users;

use std::path::PathBuf;

use serde_json::Value;

use super::{Arguments, ConfigArgument, ConfigError, KeySettings, Settings, Sources};

/// A machine with nothing on it but these variables.
fn machine(variables: &[(&str, &str)]) -> Sources {
    Sources {
        environment: variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).into())).collect(),
        home: Some(PathBuf::from("/home/ada")),
        cache_folder: Some(PathBuf::from("/home/ada/.cache")),
        ..Sources::default()
    }
}

/// The settings of a config given as a tree, on a machine with these variables.
fn with_config(config: Value, variables: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let config = Some(ConfigArgument::Value(config));
    Settings::resolve(Arguments { config, ..Arguments::default() }, machine(variables))
}

/// Labels and secrets, in order.
fn shown(keys: &[KeySettings]) -> Vec<(&str, &str)> {
    keys.iter().map(|key| (key.label.as_str(), key.secret.expose())).collect()
}
