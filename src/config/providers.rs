//! Providers of a config, with dialect and base URL.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::providers::{Dialect, Provider};

use super::error::ConfigError;
use super::reader::{Node, Table};
use super::redact::shown;
use super::schema::{self, Takes, nearest};
use super::settings::ProviderSettings;
use super::sources::Sources;

/// Every provider by canonical name.
pub(super) type Providers = BTreeMap<String, ProviderSettings>;

/// Name, dialect, the provider whose ways a server of one's own has that speaks it; empty: those of no other.
const DIALECTS: [(&str, Dialect, &str); 5] = [
    ("openai", Dialect::OpenAi, ""),
    ("anthropic", Dialect::Anthropic, "anthropic"),
    ("gemini", Dialect::Gemini, "gemini"),
    ("responses", Dialect::Responses, ""),
    ("ollama", Dialect::Ollama, "ollama"),
];

/// The address and dialect stated for one provider.
#[derive(Default)]
struct Said<'a> {
    base_url: Option<(String, Node<'a>)>,
    dialect: Option<(Dialect, Node<'a>)>,
}

/// The catalogue with the user's addresses, and the user's own providers; without keys and limits yet.
///
/// An address in `base_urls` beats the config's; two different ones in the config are an error. Who has no address of
/// its own is looked for in the environment last.
pub(super) fn addressed<'a>(
    base_urls: Option<&Node<'a>>,
    sections: &[(&'a str, Table<'a>)],
    targets: &[&Table<'a>],
    sources: &Sources,
    warnings: &mut Vec<String>,
) -> Result<Providers, ConfigError> {
    let mut said: BTreeMap<String, Said<'a>> = BTreeMap::new();
    for (name, table) in sections {
        let entry = said.entry(canonical(name)).or_default();
        if let Some(node) = table.get("base_url") {
            entry.base_url = Some((base_url(&node)?, node));
        }
        if let Some(node) = table.get("dialect") {
            entry.dialect = Some((dialect(&node)?, node));
        }
    }
    for table in targets {
        let Some(node) = table.get("base_url") else { continue };
        let url = base_url(&node)?;
        let entry = said.entry(canonical(&provider_of(table)?)).or_default();
        if entry.base_url.as_ref().is_some_and(|(other, _)| *other != url) {
            return Err(node
                .error("this provider already has another base_url")
                .hint("put the second address under `providers` with a name of its own"));
        }
        entry.base_url = Some((url, node));
    }
    if let Some(node) = base_urls {
        let mut seen = Vec::new();
        for (name, node) in node.entries(Takes::Text)? {
            once(&mut seen, name, &node)?;
            said.entry(canonical(name)).or_default().base_url = Some((base_url(&node)?, node));
        }
    }
    let known = Provider::names().iter().filter_map(|name| Provider::find(name));
    let mut providers: Providers =
        known.map(|provider| (provider.name.clone(), without_keys(provider))).collect();
    for (name, said) in said {
        apply(&mut providers, name, said, warnings)?;
    }
    for settings in providers.values_mut() {
        look_around(&mut settings.provider, sources, warnings);
    }
    Ok(providers)
}

/// Adds what is no provider but has keys or limits: a database, a scraper. It has no address, for nothing is sent there.
pub(super) fn add_others(
    node: Option<&Node<'_>>,
    takes: Takes,
    providers: &mut Providers,
) -> Result<(), ConfigError> {
    let Some(node) = node else { return Ok(()) };
    for (name, node) in node.entries(takes)? {
        let name = canonical(name);
        if let Entry::Vacant(place) = providers.entry(name) {
            check_name(place.key(), &node)?;
            let provider = Provider::compatible(place.key(), "");
            place.insert(without_keys(provider));
        }
    }
    Ok(())
}

fn check_name(name: &str, node: &Node<'_>) -> Result<(), ConfigError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.is_empty() || !name.chars().all(plain) || shown(name, false) != name {
        return Err(node.error("a provider's name is made of letters, digits and the signs - _ ."));
    }
    Ok(())
}

/// The address and the version of the API that the environment names. What is wrong there is only a warning: a user who does
/// not use that provider need not mend it.
fn look_around(provider: &mut Provider, sources: &Sources, warnings: &mut Vec<String>) {
    let variable = |name: &str| {
        let value = sources.variable(name)?.expose().trim();
        (!value.is_empty()).then_some(value)
    };
    if provider.base_url.is_empty() {
        let names = provider.base_url_envs.iter();
        if let Some((name, value)) = names.filter_map(|name| Some((name, variable(name)?))).next() {
            match provider.clone().with_base_url(value) {
                Ok(addressed) => *provider = addressed,
                Err(wrong) => warnings.push(format!("{name} is ignored: {wrong}")),
            }
        }
    }
    let version = provider.api_version_env.and_then(|name| Some((name, variable(name)?)));
    if let Some((name, value)) = version {
        if value.len() <= 40 && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            provider.api_version = Some(value.to_owned());
        } else {
            warnings.push(format!("{name} is ignored: it is not a version such as 2024-10-21"));
        }
    }
}

fn apply(
    providers: &mut Providers,
    name: String,
    said: Said<'_>,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    if let Some(known) = providers.get_mut(&name) {
        if let Some((dialect, node)) = said.dialect {
            known.provider = known.provider.clone().speaking(dialect).ok_or_else(|| {
                node.error("a known provider speaks its own dialect")
                    .hint("give a server of your own a name of its own")
            })?;
        }
        if let Some((url, _)) = said.base_url {
            known.provider.base_url = url;
        }
        return Ok(());
    }
    // Without an address the name is an error where it is used, with the path it has there.
    let Some((url, node)) = said.base_url else { return Ok(()) };
    check_name(&name, &node)?;
    if let Some(meant) = nearest(&name, Provider::names().iter().copied()) {
        warnings.push(format!(
            "{} is taken as a server of your own at its base_url; if you meant {meant}, write that",
            shown(&name, true)
        ));
    }
    let dialect = said.dialect.map_or(Dialect::OpenAi, |(dialect, _)| dialect);
    let provider = own(&name, &url, dialect);
    providers.insert(name, without_keys(provider));
    Ok(())
}

/// A server of the user's own that speaks `dialect`; it may or may not want a key.
fn own(name: &str, base_url: &str, dialect: Dialect) -> Provider {
    let model = DIALECTS.iter().find(|(_, other, _)| *other == dialect);
    match model.and_then(|(_, _, name)| Provider::find(name)?.speaking(dialect)) {
        Some(mut provider) => {
            provider.name = name.to_owned();
            provider.base_url = base_url.to_owned();
            provider.key_envs = &[];
            provider.needs_key = false;
            provider
        }
        None => {
            let mut provider = Provider::compatible(name, base_url);
            provider.dialect = dialect;
            provider
        }
    }
}

fn without_keys(provider: Provider) -> ProviderSettings {
    ProviderSettings { key_names: Vec::new(), ..ProviderSettings::unconfigured(provider) }
}

/// The one name of a provider that may have several.
pub(super) fn canonical(name: &str) -> String {
    Provider::find(name).map_or_else(|| name.trim().to_owned(), |provider| provider.name)
}

/// Refuses a provider that is written twice in one table, under two of its names.
pub(super) fn once(seen: &mut Vec<String>, name: &str, node: &Node<'_>) -> Result<(), ConfigError> {
    let canonical = canonical(name);
    if seen.contains(&canonical) {
        return Err(node
            .error(format!("this is another name of {}", shown(&canonical, true)))
            .hint("write all of it under one name"));
    }
    seen.push(canonical);
    Ok(())
}

/// The name of a target's provider and where it stands: as written, or as its model's name tells.
pub(super) fn provider_of(table: &Table<'_>) -> Result<String, ConfigError> {
    if let Some(node) = table.get("provider") {
        return Ok(node.text()?.to_owned());
    }
    let model = table.get("model").map(|node| node.text()).transpose()?;
    model.and_then(Provider::for_model).map(str::to_owned).ok_or_else(|| {
        table.node().error("`provider` is missing, and the model's name does not tell it")
    })
}

/// The settings of the provider called `name` at `node`.
pub(super) fn named<'p>(
    providers: &'p mut Providers,
    name: &str,
    node: &Node<'_>,
) -> Result<&'p mut ProviderSettings, ConfigError> {
    let own: Vec<String> = providers.keys().cloned().collect();
    providers.get_mut(&canonical(name)).ok_or_else(|| {
        let meant = nearest(name, own.iter().map(String::as_str));
        let error = node.error("there is no provider of this name");
        error.hint(match meant {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!(
                "known are {}; any other OpenAI-compatible server needs a base_url",
                own.join(", ")
            ),
        })
    })
}

fn dialect(node: &Node<'_>) -> Result<Dialect, ConfigError> {
    let text = node.text()?.to_ascii_lowercase();
    let known = DIALECTS.iter().find(|(name, ..)| *name == text);
    known.map(|(_, dialect, _)| *dialect).ok_or_else(|| {
        let meant = nearest(&text, DIALECTS.iter().map(|(name, ..)| *name));
        node.error("there is no such dialect").hint(meant.map_or_else(
            || {
                let names: Vec<&str> = DIALECTS.iter().map(|(name, ..)| *name).collect();
                format!("write one of {}", names.join(", "))
            },
            |meant| format!("did you mean `{meant}`?"),
        ))
    })
}

/// An `http` or `https` address with a host and nothing that could be a secret in it.
fn base_url(node: &Node<'_>) -> Result<String, ConfigError> {
    let wrong = |message: &str| {
        Err(node.error(message).hint("write it as the provider's SDK takes it: https://host/v1"))
    };
    let text = node.text()?;
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return wrong("this address has a space in it");
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return wrong("this is not an address: it begins with neither http:// nor https://");
    };
    if !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) {
        return wrong("an address begins with http:// or https://");
    }
    if rest.is_empty() || rest.starts_with(['/', ':', '?', '#']) {
        return wrong("this address has no host");
    }
    let Ok(url) = url::Url::parse(text) else {
        return wrong("this is not an address");
    };
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("an address must not have a user or a password in it");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return wrong("an address must not have a `?` or `#` part");
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// `providers.<name>` of the config, each provider once.
pub(super) fn sections<'a>(top: &Table<'a>) -> Result<Vec<(&'a str, Table<'a>)>, ConfigError> {
    let Some(node) = top.get("providers") else { return Ok(Vec::new()) };
    let mut seen = Vec::new();
    let mut sections = Vec::new();
    for (name, node) in node.entries(Takes::Table)? {
        once(&mut seen, name, &node)?;
        sections.push((name, node.table(schema::PROVIDER)?));
    }
    Ok(sections)
}
