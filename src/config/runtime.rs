//! Runtime settings: retries, timeouts, queue, answer cache, state.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::ConfigError;
use super::pacing::{self, LONGEST_DELAY};
use super::reader::{Node, Table};
use super::redact::looks_like_a_key;
use super::schema;
use super::settings::{AnswerCache, RetryBudget, RetrySettings, StateSetting, Timeouts};
use super::sources::Sources;
use crate::secret::Secret;

/// The longest span that can be meant in seconds: thirty days.
const MONTH: f64 = 30.0 * 86_400.0;

/// A timeout below this never sees an answer.
const SHORTEST_TIMEOUT: f64 = 0.001;

/// The name of the state file in the user's cache folder.
const STATE_FILE: &str = "state.sqlite";

/// Default of [`super::Settings::queue_max_size`].
const QUEUE: u64 = 100_000;

/// Default of [`super::Settings::max_wait`].
const MAX_WAIT: Duration = Duration::from_secs(300);

pub(super) fn retry(top: &Table<'_>) -> Result<RetrySettings, ConfigError> {
    let mut settings = RetrySettings::default();
    let Some(node) = top.get("retry") else { return Ok(settings) };
    let table = node.table(schema::RETRY)?;
    if let Some(node) = table.get("max_retries") {
        settings.max_retries = pacing::max_retries(&node)?;
    }
    if let Some(node) = table.get("retry_delay") {
        settings.retry_delay = node.seconds(0.0, LONGEST_DELAY)?;
    }
    if let Some(node) = table.get("retry_multiplier") {
        settings.retry_multiplier = pacing::multiplier(&node)?;
    }
    if let Some(node) = table.get("cap") {
        settings.cap = node.seconds(0.0, 86_400.0)?;
    }
    if settings.cap < settings.retry_delay {
        return Err(node.error("`cap` is shorter than `retry_delay`"));
    }
    if let Some(node) = table.get("budget") {
        settings.budget = budget(&node.table(schema::BUDGET)?)?;
    }
    Ok(settings)
}

fn budget(table: &Table<'_>) -> Result<RetryBudget, ConfigError> {
    let mut budget = RetryBudget::default();
    if let Some(node) = table.get("share") {
        budget.share = node.number(0.0, 1.0)?;
    }
    if let Some(node) = table.get("reserve") {
        let reserve = node.whole(0, 1_000_000)?;
        budget.reserve = u32::try_from(reserve).map_err(|_| node.wrong())?;
    }
    Ok(budget)
}

pub(super) fn timeouts(top: &Table<'_>) -> Result<Timeouts, ConfigError> {
    let mut timeouts = Timeouts::default();
    let Some(node) = top.get("timeouts") else { return Ok(timeouts) };
    let table = node.table(schema::TIMEOUTS)?;
    if let Some(node) = table.get("connect") {
        timeouts.connect = timeout(&node)?;
    }
    if let Some(node) = table.get("read") {
        timeouts.read = timeout(&node)?;
    }
    timeouts.call = table.get("call").map(|node| timeout(&node)).transpose()?;
    timeouts.piece = table.get("piece").map(|node| timeout(&node)).transpose()?;
    Ok(timeouts)
}

/// A time after which an answer is given up.
pub(super) fn timeout(node: &Node<'_>) -> Result<Duration, ConfigError> {
    node.seconds(SHORTEST_TIMEOUT, MONTH)
}

pub(super) fn queue_max_size(top: &Table<'_>) -> Result<usize, ConfigError> {
    let table = top.get("queue").map(|node| node.table(schema::QUEUE)).transpose()?;
    let node = table.as_ref().and_then(|table| table.get("max_size"));
    let size = node.map_or(Ok(QUEUE), |node| node.whole(1, 10_000_000))?;
    Ok(usize::try_from(size).unwrap_or(usize::MAX))
}

pub(super) fn max_wait(top: &Table<'_>) -> Result<Duration, ConfigError> {
    top.get("max_wait").map_or(Ok(MAX_WAIT), |node| node.seconds(0.0, MONTH))
}

pub(super) fn answer_cache(top: &Table<'_>) -> Result<AnswerCache, ConfigError> {
    /// A year; what is older is no cache but an archive.
    const LONGEST: f64 = 366.0 * 86_400.0;
    let mut cache = AnswerCache::default();
    let Some(node) = top.get("answer_cache") else { return Ok(cache) };
    let table = node.table(schema::ANSWER_CACHE)?;
    if let Some(node) = table.get("ttl") {
        cache.ttl = node.seconds(SHORTEST_TIMEOUT, LONGEST)?;
    }
    if let Some(node) = table.get("max_bytes") {
        cache.max_bytes = node.whole(0, 1 << 40)?;
    }
    if let Some(node) = table.get("always") {
        cache.always = node.flag()?;
    }
    Ok(cache)
}

/// The argument, else the config (where a path starts at the folder of its file), else the user's cache folder.
pub(super) fn state(
    argument: Option<&Node<'_>>,
    top: &Table<'_>,
    sources: &Sources,
) -> Result<StateSetting, ConfigError> {
    if let Some(node) = argument.cloned().or_else(|| top.get("state")) {
        return stated(&node, sources);
    }
    match &sources.cache_folder {
        Some(folder) => Ok(StateSetting::UserCache(folder.join("quotaflow").join(STATE_FILE))),
        None => {
            Err(ConfigError::at("state", "this user has no cache folder to remember counts in")
                .hint("set `state` to the path of a file, or to \"memory\""))
        }
    }
}

fn stated(node: &Node<'_>, sources: &Sources) -> Result<StateSetting, ConfigError> {
    let wrong = |message: &str| {
        node.error(message).hint("write \"memory\", the path of a file, or redis://host:6379/0")
    };
    let text = node.text()?;
    if text.chars().any(char::is_control) {
        return Err(wrong("this names no place for the state"));
    }
    if looks_like_a_key(text) {
        return Err(wrong("this looks like a key, not like a place for the state"));
    }
    if text == "memory" || text == ":memory:" {
        return Ok(StateSetting::Memory);
    }
    if let Some((scheme, _)) = text.split_once("://") {
        let url = url::Url::parse(text);
        let host = url.is_ok_and(|url| url.host_str().is_some_and(|host| !host.is_empty()));
        return match (scheme, host) {
            ("redis" | "rediss", true) => Ok(StateSetting::Redis(Secret::new(text))),
            ("redis" | "rediss", false) => Err(wrong("this address has no host")),
            _ => Err(wrong("there is no state of this kind")),
        };
    }
    let path = match (text.strip_prefix("~/"), &sources.home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(text),
    };
    let folder = node.file().and_then(Path::parent);
    Ok(StateSetting::Sqlite(folder.map_or_else(|| path.clone(), |folder| folder.join(&path))))
}
