//! Limits of a config, and how they refill.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use crate::kernel::{Limit, Period, Refill, Resource, Source};
use crate::providers::Provider;

use super::error::ConfigError;
use super::pacing;
use super::reader::{Node, Table};
use super::redact::shown;
use super::schema::{self, KEY_LIMITS, LIMIT_NAMES, LIMITS, MODEL_LIMITS, nearest};
use super::settings::{PacingSettings, ProviderSettings};

/// No provider allows more of anything per window; a larger number is a slip of the finger.
const MOST: u64 = 1_000_000_000_000;

/// More calls in flight than this no process can hold.
const MOST_IN_FLIGHT: u64 = 100_000;

/// A larger amount of dollars is a mistake.
const MOST_DOLLARS: f64 = 1e9;

const REFILLS: [&str; 3] = ["bucket", "rolling", "calendar"];

/// What is stated of a provider: over all models, and by model.
#[derive(Default)]
pub(super) struct Stated {
    limits: Vec<Limit>,
    pacing: PacingSettings,
    by_model: BTreeMap<String, (Vec<Limit>, PacingSettings)>,
}

impl Stated {
    /// Lays what is stated on what the settings hold already, one by one.
    pub(super) fn lay_on(self, settings: &mut ProviderSettings) {
        lay_over(&mut settings.limits, self.limits);
        settings.pacing.lay_over(self.pacing);
        for (model, (limits, pacing)) in self.by_model {
            lay_over(settings.model_limits.entry(model.clone()).or_default(), limits);
            settings.model_pacing.entry(model).or_default().lay_over(pacing);
        }
    }
}

/// Reads `{rpm: 60, …, models: {name: {rpm: 3}}}`.
pub(super) fn of_provider(node: &Node<'_>, provider: &Provider) -> Result<Stated, ConfigError> {
    let table = node.table(LIMITS)?;
    let mut stated = Stated {
        limits: read(&table, &refills_of(provider))?,
        pacing: pacing::read(&table)?,
        ..Stated::default()
    };
    if let Some(models) = table.get("models") {
        for (model, node) in models.entries(schema::Takes::Table)? {
            if shown(model, false) != model {
                return Err(node.error("a model's name is shown, and this one looks like a key"));
            }
            let table = node.table(MODEL_LIMITS)?;
            let said = (read(&table, &refills_of(provider))?, pacing::read(&table)?);
            stated.by_model.insert(model.trim().to_owned(), said);
        }
    }
    Ok(stated)
}

/// Reads `{rpm: 60, …}` of one key.
pub(super) fn of_key(node: &Node<'_>, provider: &Provider) -> Result<Vec<Limit>, ConfigError> {
    read(&node.table(KEY_LIMITS)?, &refills_of(provider))
}

/// What a limit is called in the config; `None` for one that cannot be stated there.
///
/// ```
/// use quotaflow::config::limit_name;
/// use quotaflow::kernel::{Period, Resource};
/// assert_eq!(limit_name(Resource::Tokens, Period::Minute), Some("tpm"));
/// ```
pub fn limit_name(resource: Resource, period: Period) -> Option<&'static str> {
    if resource == Resource::Concurrency {
        return Some("concurrency");
    }
    let named = LIMIT_NAMES.iter().find(|(_, of, over)| (*of, *over) == (resource, period));
    named.map(|(name, _, _)| *name)
}

/// Lays `over` on `under`: the same resource over the same period is replaced, the rest stays.
pub(super) fn lay_over(under: &mut Vec<Limit>, over: Vec<Limit>) {
    let same = |a: &Limit, b: &Limit| a.resource == b.resource && a.period == b.period;
    under.retain(|limit| !over.iter().any(|other| same(limit, other)));
    under.extend(over);
    under.sort_by_key(|limit| (limit.resource, limit.period));
}

/// How a limit refills of which only the amount is stated.
type Usual<'a> = &'a dyn Fn(Resource, Period, NonZeroU64) -> Refill;

fn refills_of(provider: &Provider) -> impl Fn(Resource, Period, NonZeroU64) -> Refill {
    move |resource, period, amount| provider.refill(resource, period, amount)
}

/// Every limit that stands in a table.
pub(super) fn read(table: &Table<'_>, usual: Usual<'_>) -> Result<Vec<Limit>, ConfigError> {
    let mut limits = Vec::new();
    for (name, resource, period) in LIMIT_NAMES {
        if let Some(node) = table.get(name) {
            limits.push(limit(&node, resource, period, usual)?);
        }
    }
    if let Some(node) = table.get("concurrency") {
        let amount = positive(&node, MOST_IN_FLIGHT)?;
        let (resource, period) = (Resource::Concurrency, Period::Second);
        limits.push(configured(resource, period, amount, Refill::Release));
    }
    limits.sort_by_key(|limit| (limit.resource, limit.period));
    Ok(limits)
}

fn configured(resource: Resource, period: Period, amount: NonZeroU64, refill: Refill) -> Limit {
    Limit { resource, period, amount, refill, source: Source::Configured }
}

fn positive(node: &Node<'_>, most: u64) -> Result<NonZeroU64, ConfigError> {
    NonZeroU64::new(node.whole(1, most)?).ok_or_else(|| node.wrong())
}

/// Dollars, in millionths.
fn micros(node: &Node<'_>) -> Result<NonZeroU64, ConfigError> {
    let dollars = node.number(0.000_001, MOST_DOLLARS)?;
    NonZeroU64::new((dollars * 1e6).round() as u64).ok_or_else(|| node.wrong())
}

fn limit(
    node: &Node<'_>,
    resource: Resource,
    period: Period,
    usual: Usual<'_>,
) -> Result<Limit, ConfigError> {
    let stated_amount = |node: &Node<'_>| match resource {
        Resource::Spend => micros(node),
        _ => positive(node, MOST),
    };
    if !node.is_table() {
        let amount = stated_amount(node)?;
        return Ok(configured(resource, period, amount, usual(resource, period, amount)));
    }
    let table = node.table(schema::LIMIT)?;
    let amount = table.get("amount").ok_or_else(|| {
        node.error("`amount` is missing").hint("write {amount: 60, refill: bucket}, or just 60")
    })?;
    let amount = stated_amount(&amount)?;
    let usual = usual(resource, period, amount);
    let refill = match table.get("refill") {
        Some(node) => stated_refill(&node, &table, amount, &usual)?,
        None => usual,
    };
    // A burst and a zone change the refill they belong to; on another they would silently do nothing.
    let refill = match (refill, table.get("burst"), table.get("zone")) {
        (Refill::Bucket { .. }, Some(burst), None) => {
            Refill::Bucket { burst: positive(&burst, amount.get())? }
        }
        (Refill::Calendar { .. }, None, Some(zone)) => {
            Refill::Calendar { zone: known_zone(&zone)? }
        }
        (Refill::Calendar { .. }, Some(burst), _) | (Refill::Rolling, Some(burst), _) => {
            return Err(burst.error("only a bucket has a burst").hint("add refill: bucket"));
        }
        (Refill::Bucket { .. } | Refill::Rolling, _, Some(zone)) => {
            return Err(zone
                .error("only a calendar limit has a zone")
                .hint("add refill: calendar"));
        }
        (refill, ..) => refill,
    };
    Ok(configured(resource, period, amount, refill))
}

fn stated_refill(
    node: &Node<'_>,
    table: &Table<'_>,
    amount: NonZeroU64,
    usual: &Refill,
) -> Result<Refill, ConfigError> {
    match node.text()? {
        "bucket" => Ok(match usual {
            Refill::Bucket { burst } => Refill::Bucket { burst: *burst },
            _ => Refill::Bucket { burst: amount },
        }),
        "rolling" => Ok(Refill::Rolling),
        "calendar" => match (usual, table.get("zone")) {
            (_, Some(zone)) => Ok(Refill::Calendar { zone: known_zone(&zone)? }),
            (Refill::Calendar { zone }, None) => Ok(Refill::Calendar { zone: zone.clone() }),
            _ => Err(table.node().error("a calendar limit needs a zone").hint("add zone: UTC")),
        },
        other => {
            let meant = nearest(other, REFILLS);
            let error = node.error("there is no such refill");
            Err(error.hint(meant.map_or_else(
                || "write bucket, rolling or calendar".to_owned(),
                |meant| format!("did you mean `{meant}`?"),
            )))
        }
    }
}

fn known_zone(node: &Node<'_>) -> Result<String, ConfigError> {
    let zone = node.text()?;
    match jiff::tz::db().get(zone) {
        // The name as the database spells it, so that the same zone is the same limit.
        Ok(known) => Ok(known.iana_name().unwrap_or(zone).to_owned()),
        Err(_) => {
            let names: Vec<_> = jiff::tz::db().available().map(|name| name.to_string()).collect();
            let meant = nearest_zone(zone, &names);
            Err(node.error("there is no such time zone").hint(meant.map_or_else(
                || "write a name of the tz database, such as America/Los_Angeles".to_owned(),
                |meant| format!("did you mean `{meant}`?"),
            )))
        }
    }
}

fn nearest_zone<'n>(zone: &str, names: &'n [String]) -> Option<&'n str> {
    let wanted = zone.to_ascii_lowercase().replace(' ', "_");
    let distance = |name: &str| strsim::damerau_levenshtein(&wanted, &name.to_ascii_lowercase());
    // A city without its continent is the usual slip.
    let city = |name: &str| name.to_ascii_lowercase().rsplit('/').next() == Some(&wanted);
    let by_city = names.iter().find(|name| city(name));
    by_city
        .or_else(|| {
            names.iter().min_by_key(|name| distance(name)).filter(|name| distance(name) < 4)
        })
        .map(String::as_str)
}
