//! Routes: the models of each task, with fallbacks.

use serde_json::{Map, Value};

use crate::providers::Provider;

use super::error::ConfigError;
use super::providers::{Providers, named, provider_of};
use super::reader::{Node, Table};
use super::redact::{holds_a_key, shown};
use super::schema::{self, Takes, nearest};
use super::settings::{Routes, Target, TaskRoute};

/// The tables under `models`, before their providers are known.
#[derive(Default)]
pub(super) struct Written<'a> {
    default: Option<Table<'a>>,
    fallback: Vec<Table<'a>>,
    tasks: Vec<WrittenTask<'a>>,
}

struct WrittenTask<'a> {
    name: &'a str,
    target: Table<'a>,
    fallback: Option<Vec<Table<'a>>>,
}

impl<'a> Written<'a> {
    /// Reads the shape of `models`.
    pub(super) fn read(top: &Table<'a>) -> Result<Self, ConfigError> {
        let mut written = Written::default();
        let Some(models) = top.get("models") else { return Ok(written) };
        for (name, node) in models.entries(Takes::Table)? {
            match name {
                "default" => written.default = Some(node.table(schema::TARGET)?),
                "fallback" => written.fallback = targets(node)?,
                _ => written.tasks.push(task(name, &node)?),
            }
        }
        Ok(written)
    }

    /// Every target, whatever it is for.
    pub(super) fn targets(&self) -> Vec<&Table<'a>> {
        let tasks = self
            .tasks
            .iter()
            .flat_map(|task| std::iter::once(&task.target).chain(task.fallback.iter().flatten()));
        self.default.iter().chain(&self.fallback).chain(tasks).collect()
    }

    /// The routes, now that every provider is known.
    pub(super) fn resolve(&self, providers: &mut Providers) -> Result<Routes, ConfigError> {
        let default = self.default.as_ref().map(|table| target(table, providers)).transpose()?;
        let fallback = all(&self.fallback, providers)?;
        let mut routes = Routes { default, fallback, ..Routes::default() };
        for task in &self.tasks {
            let fallback = task.fallback.as_ref().map(|tables| all(tables, providers));
            let fallback = fallback.transpose()?;
            let target = target(&task.target, providers)?;
            routes.tasks.insert(task.name.to_owned(), TaskRoute { target, fallback });
        }
        Ok(routes)
    }
}

fn task<'a>(name: &'a str, node: &Node<'a>) -> Result<WrittenTask<'a>, ConfigError> {
    if let Some(meant) = nearest(name, ["default", "fallback"]) {
        return Err(node
            .error("this task's name is too close to a reserved one")
            .hint(format!("did you mean `{meant}`?")));
    }
    if shown(name, false) != name {
        return Err(node.error("a task's name is shown, and this one looks like a key"));
    }
    let target = node.table(schema::TASK)?;
    let fallback = target.get("fallback").map(targets).transpose()?;
    Ok(WrittenTask { name, target, fallback })
}

fn targets(node: Node<'_>) -> Result<Vec<Table<'_>>, ConfigError> {
    let node = node.taking(Takes::TableOrList);
    node.one_or_many().iter().map(|node| node.table(schema::TARGET)).collect()
}

fn all(tables: &[Table<'_>], providers: &mut Providers) -> Result<Vec<Target>, ConfigError> {
    tables.iter().map(|table| target(table, providers)).collect()
}

fn target(table: &Table<'_>, providers: &mut Providers) -> Result<Target, ConfigError> {
    let place = table.get("provider").unwrap_or_else(|| table.node().clone());
    let settings = named(providers, &provider_of(table)?, &place)?;
    let model = match (table.get("model"), &settings.default_model) {
        (Some(node), _) => node.name()?.to_owned(),
        (None, Some(model)) => model.clone(),
        (None, None) => {
            return Err(table.node().error("`model` is missing").hint(format!(
                "add it here, or `default_model` at providers.{}",
                settings.provider.name
            )));
        }
    };
    let params = params(table, &settings.provider)?;
    Ok(Target { provider: settings.provider.name.clone(), model, params })
}

/// The parameters of a target, which the provider takes.
fn params(table: &Table<'_>, provider: &Provider) -> Result<Map<String, Value>, ConfigError> {
    // What is written without a value is not written.
    let others = || table.others().filter(|(_, node)| !node.is_nothing());
    for (name, node) in others() {
        if name == "fallback" {
            return Err(node
                .error("only a task has fallbacks of its own")
                .hint("the ones of the default are `models.fallback`"));
        }
        if shown(name, false) != name || holds_a_key(node.value()) {
            return Err(node
                .error("this looks like a key, not like a parameter")
                .hint("put it into an environment variable, and the name of that into `key`"));
        }
    }
    let params = others().map(|(name, node)| (name.to_owned(), node.value().clone()));
    let params = params.collect();
    provider.check_params(&params).map_err(|wrong| match wrong.field {
        Some(field) => table.child(&field).error(wrong.message),
        None => table.node().error(wrong.message),
    })?;
    Ok(params)
}
