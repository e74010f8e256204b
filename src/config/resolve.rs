//! Precedence: arguments, config file, environment, catalogue.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::arguments::{Arguments, ConfigArgument};
use super::error::ConfigError;
use super::formats;
use super::keys::Keys;
use super::limits;
use super::prices;
use super::providers::{self, Providers, canonical, named, once, provider_of};
use super::reader::{Node, Table};
use super::routes::Written;
use super::runtime;
use super::schema::{self, Takes};
use super::settings::{Pacing, Settings};
use super::sources::Sources;
use super::strategy;
use super::unknown_sections;
use super::users;

impl Settings {
    /// What holds, from everything the user wrote: arguments, then the config file, then the environment, then the
    /// catalogue.
    ///
    /// Keys of a provider come from the first of these that has any; limits are laid over each other one by one.
    /// A provider without a key is fine until it is used.
    ///
    /// # Errors
    /// The first thing that is wrong, with its path, and with what was probably meant.
    ///
    /// ```
    /// use quotaflow::config::{Arguments, Settings, Sources};
    /// use serde_json::json;
    ///
    /// let limits = Some(json!({"openai": {"rpn": 60}}));
    /// let error = Settings::resolve(Arguments { limits, ..Arguments::default() }, Sources::default());
    /// let text = error.unwrap_err().to_string();
    /// assert_eq!(text, "limits.openai.rpn: there is no such field; did you mean `rpm`?");
    /// ```
    pub fn resolve(mut arguments: Arguments, sources: Sources) -> Result<Settings, ConfigError> {
        let mut warnings = sources.warnings.clone();
        let mut tree = tree(&arguments, &sources)?;
        // Which of several mistakes is reported, and which key comes first, does not depend on how a format orders fields.
        let trees = [&mut arguments.keys, &mut arguments.limits, &mut arguments.base_urls];
        trees.into_iter().flatten().for_each(Value::sort_all_objects);
        tree.sort_all_objects();
        warnings.extend(unknown_sections::take_out(&mut tree));
        let file = match &arguments.config {
            Some(ConfigArgument::Value(_)) => None,
            _ => sources.file.as_ref().map(|file| file.path.as_path()),
        };
        let root = |value, name| Node::root(value, name, None);
        // A tree that is no table has no fields to name: the argument is the place.
        let top = if file.is_none() && !tree.is_object() { "config" } else { "" };
        let top = Node::root(&tree, top, file).table(schema::TOP)?;

        let written = Written::read(&top)?;
        let sections = providers::sections(&top)?;
        let base_urls = arguments.base_urls.as_ref().map(|value| root(value, "base_urls"));
        let mut providers = providers::addressed(
            base_urls.as_ref(),
            &sections,
            &written.targets(),
            &sources,
            &mut warnings,
        )?;

        let keys = arguments.keys.as_ref().map(|value| root(value, "keys").private());
        if arguments.others {
            let limits = arguments.limits.as_ref().map(|value| root(value, "limits"));
            providers::add_others(limits.as_ref(), Takes::Table, &mut providers)?;
            providers::add_others(top.get("limits").as_ref(), Takes::Table, &mut providers)?;
            providers::add_others(keys.as_ref(), Takes::Keys, &mut providers)?;
        }
        for (name, table) in &sections {
            configure(&mut providers, name, table)?;
        }
        if let Some(node) = top.get("limits") {
            limits_by_provider(&node, &mut providers)?;
        }
        if let Some(value) = &arguments.limits {
            limits_by_provider(&root(value, "limits"), &mut providers)?;
        }
        let retry = runtime::retry(&top)?;
        providers.values_mut().for_each(|settings| settings.usual = Pacing::from(&retry));
        gather_keys(keys, &sections, &written, &sources, &mut providers, &mut warnings)?;

        let state = arguments.state.map(Value::String);
        let state = state.as_ref().map(|value| root(value, "state").taking(Takes::Text));
        Ok(Settings {
            routes: written.resolve(&mut providers)?,
            state: runtime::state(state.as_ref(), &top, &sources)?,
            retry,
            strategy: strategy::read(&top)?,
            timeouts: runtime::timeouts(&top)?,
            queue_max_size: runtime::queue_max_size(&top)?,
            max_wait: runtime::max_wait(&top)?,
            answer_cache: runtime::answer_cache(&top)?,
            prices: prices::read(&top, &mut providers)?.into(),
            users: users::users(&top)?,
            providers,
            warnings,
        })
    }
}

/// The config as one tree, whatever it was written in.
fn tree(arguments: &Arguments, sources: &Sources) -> Result<Value, ConfigError> {
    match (&arguments.config, &sources.file) {
        (Some(ConfigArgument::Value(value)), _) => Ok(value.clone()),
        (_, Some(file)) => formats::parse(&file.path, file.text.expose()),
        (Some(ConfigArgument::Path(path)), None) => {
            Err(ConfigError::of_file(path, "this config file was not read"))
        }
        (None, None) => Ok(Value::Object(Map::new())),
    }
}

fn configure(providers: &mut Providers, name: &str, table: &Table<'_>) -> Result<(), ConfigError> {
    let settings = named(providers, name, table.node())?;
    if let Some(node) = table.get("limits") {
        limits::of_provider(&node, &settings.provider)?.lay_on(settings);
    }
    let model = table.get("default_model").map(|node| node.name().map(str::to_owned));
    settings.default_model = model.transpose()?;
    settings.timeout = table.get("timeout").map(|node| runtime::timeout(&node)).transpose()?;
    Ok(())
}

/// `{openai: {rpm: 60}}`, on top of what was read before.
fn limits_by_provider(node: &Node<'_>, providers: &mut Providers) -> Result<(), ConfigError> {
    let mut seen = Vec::new();
    for (name, node) in node.entries(Takes::Table)? {
        once(&mut seen, name, &node)?;
        let settings = named(providers, name, &node)?;
        limits::of_provider(&node, &settings.provider)?.lay_on(settings);
    }
    Ok(())
}

fn gather_keys(
    arguments: Option<Node<'_>>,
    sections: &[(&str, Table<'_>)],
    written: &Written<'_>,
    sources: &Sources,
    providers: &mut Providers,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let mut stated: BTreeMap<String, Node<'_>> = BTreeMap::new();
    if let Some(node) = &arguments {
        let mut seen = Vec::new();
        for (name, node) in node.entries(Takes::Keys)? {
            once(&mut seen, name, &node)?;
            named(providers, name, &node)?;
            stated.insert(canonical(name), node);
        }
    }
    let mut of_targets: BTreeMap<String, Vec<Node<'_>>> = BTreeMap::new();
    for table in written.targets() {
        let nodes = ["key", "backup_keys"].into_iter().filter_map(|name| table.get(name));
        let provider = canonical(&provider_of(table)?);
        of_targets.entry(provider).or_default().extend(nodes);
    }
    for (name, settings) in providers {
        let mut keys = Keys::of(&settings.provider, sources);
        let section = sections.iter().find(|(other, _)| canonical(other) == *name);
        let section = section.and_then(|(_, table)| table.get("keys"));
        let targets = of_targets.remove(name).unwrap_or_default();
        match (stated.remove(name), section, targets) {
            (Some(node), ..) => keys.stated(node)?,
            (None, None, targets) if targets.is_empty() => keys.environment()?,
            (None, section, targets) => {
                section.map_or(Ok(()), |node| keys.stated(node))?;
                targets.into_iter().try_for_each(|node| keys.names(node))?;
            }
        }
        let gathered = keys.finish();
        settings.keys = gathered.keys;
        settings.key_names = gathered.names;
        warnings.extend(gathered.warnings);
    }
    Ok(())
}
