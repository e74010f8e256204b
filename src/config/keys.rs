//! API keys and their labels.

use crate::kernel::Limit;
use crate::providers::Provider;
use crate::secret::Secret;

use super::error::ConfigError;
use super::limits;
use super::reader::Node;
use super::redact::looks_like_a_key;
use super::schema::{self, Takes};
use super::settings::KeySettings;
use super::sources::Sources;

/// The keys of one provider while they are gathered, the first come first.
pub(super) struct Keys<'a> {
    provider: &'a Provider,
    sources: &'a Sources,
    keys: Vec<KeySettings>,
    /// Environment names that were looked at.
    names: Vec<String>,
    warnings: Vec<String>,
}

/// What was gathered.
pub(super) struct Gathered {
    pub(super) keys: Vec<KeySettings>,
    pub(super) names: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// What a key's table says besides the key.
#[derive(Clone, Default)]
struct Extras {
    label: Option<String>,
    group: Option<String>,
    limits: Option<Vec<Limit>>,
}

impl<'a> Keys<'a> {
    pub(super) fn of(provider: &'a Provider, sources: &'a Sources) -> Self {
        Keys { provider, sources, keys: Vec::new(), names: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn finish(self) -> Gathered {
        Gathered { keys: self.keys, names: self.names, warnings: self.warnings }
    }

    /// Keys as `keys` writes them: a text, a table, or a list of these; `$NAME` and `{env: NAME}` are references.
    pub(super) fn stated(&mut self, node: Node<'_>) -> Result<(), ConfigError> {
        let node = node.private().taking(Takes::Keys);
        if node.is_nothing() {
            return Err(node.wrong());
        }
        for (index, node) in node.one_or_many().into_iter().enumerate() {
            if node.is_text() {
                self.text_or_reference(&node, index, Extras::default())?;
            } else if node.is_table() {
                self.stated_table(&node, index)?;
            } else {
                return Err(node.wrong());
            }
        }
        Ok(())
    }

    fn stated_table(&mut self, node: &Node<'_>, index: usize) -> Result<(), ConfigError> {
        let table = node.table(schema::KEY)?;
        let name = |field| table.get(field).map(|node| node.name().map(str::to_owned)).transpose();
        let limits = table.get("limits").map(|node| limits::of_key(&node, self.provider));
        let extras =
            Extras { label: name("label")?, group: name("group")?, limits: limits.transpose()? };
        match (table.get("key"), table.get("env")) {
            (Some(_), Some(env)) => Err(env.error("a key has either `key` or `env`, not both")),
            (None, None) => Err(node.error("`key` or `env` is missing")),
            (Some(key), None) => self.text_or_reference(&key, index, extras),
            (None, Some(env)) => self.reference(&env, env.text()?, extras),
        }
    }

    fn text_or_reference(
        &mut self,
        node: &Node<'_>,
        index: usize,
        extras: Extras,
    ) -> Result<(), ConfigError> {
        let raw = node.raw_text()?;
        let text = node.text()?;
        if let Some(name) = variable_of(text) {
            return self.reference(node, name, extras);
        }
        if is_a_name_in_capitals(text) {
            return Err(node
                .error("this looks like the name of an environment variable, not like a key")
                .hint("write a dollar sign in front of it: $NAME"));
        }
        let label = extras.label.clone();
        let label = label.unwrap_or_else(|| format!("{} key {}", self.provider.name, index + 1));
        self.add(label, raw, &extras, |message| node.error(message))
    }

    /// What `models.<task>.key` and `backup_keys` have: the name of an environment variable, bare or as `$NAME` or
    /// `${NAME}`, several with commas, or a key itself. What is empty, as a template without its variable is, is none.
    pub(super) fn names(&mut self, node: Node<'_>) -> Result<(), ConfigError> {
        for node in node.private().one_or_many() {
            if node.is_nothing() {
                continue;
            }
            let text = node.raw_text()?;
            if text.trim().is_empty() {
                self.warnings.push(format!("{} is empty: it is ignored", node.path()));
            }
            for text in text.split(',').map(str::trim).filter(|text| !text.is_empty()) {
                self.name_or_key(&node, text)?;
            }
        }
        Ok(())
    }

    fn name_or_key(&mut self, node: &Node<'_>, text: &str) -> Result<(), ConfigError> {
        let name = variable_of(text);
        // Servers that want no key are often given a word in its place: `ollama`, `none`, `EMPTY`.
        let is_word = !self.provider.needs_key && !text.contains('_');
        let is_key =
            || self.sources.variable(text).is_none() && (is_word || can_only_be_a_key(text));
        if name.is_some() || !is_key() {
            return self.reference(node, name.unwrap_or(text), Extras::default());
        }
        if self.keys.iter().any(|known| known.secret.expose() == text) {
            return Ok(());
        }
        let label = |number| format!("{} key {number}", self.provider.name);
        let free = |label: &String| self.keys.iter().all(|known| known.label != *label);
        let label = (self.keys.len() + 1..).map(label).find(free).unwrap_or_default();
        self.add(label, text, &Extras::default(), |message| node.error(message))
    }

    fn reference(
        &mut self,
        node: &Node<'_>,
        name: &str,
        extras: Extras,
    ) -> Result<(), ConfigError> {
        let sources = self.sources;
        let value = sources.variable(name);
        // A key in the place of a name must not be shown, so a name that is not set has to look like one.
        if value.is_none() && !is_a_name_in_capitals(name) {
            return Err(node
                .error("this is not the name of an environment variable that is set")
                .hint("write a name such as OPENAI_API_KEY here, and the key into the variable"));
        }
        self.names.push(name.to_owned());
        let Some(value) = value else {
            self.warnings.push(format!(
                "{name} is named as a key of {} at {}, but it is not set",
                self.provider.name,
                node.path()
            ));
            return Ok(());
        };
        self.variable(name, value, &extras)
    }

    /// Keys of the environment: `NAME`, `NAME_2`…, `NAME_BACKUP_1`…, and `NAMES` with commas.
    pub(super) fn environment(&mut self) -> Result<(), ConfigError> {
        let sources = self.sources;
        for base in base_names(self.provider) {
            let mut found: Vec<_> = sources
                .variables()
                .filter_map(|(name, value)| Some((place_of(name, &base)?, name, value)))
                .collect();
            found.sort_by_key(|(place, name, _)| (*place, *name));
            for (_, name, value) in found {
                self.variable(name, value, &Extras::default())?;
            }
            self.names.extend(["", "_2", "_BACKUP_1", "S"].map(|ending| format!("{base}{ending}")));
        }
        Ok(())
    }

    fn variable(&mut self, name: &str, value: &Secret, extras: &Extras) -> Result<(), ConfigError> {
        let text = value.expose();
        if text.trim().is_empty() {
            self.warnings.push(format!("{name} is set but empty: it is ignored"));
            return Ok(());
        }
        let label = extras.label.clone().unwrap_or_else(|| name.to_owned());
        let error = |message| ConfigError::at(name, message);
        if !name.ends_with('S') || !text.contains(',') {
            return self.add(label, text, extras, error);
        }
        let members = text.split(',').map(str::trim).filter(|member| !member.is_empty());
        members.enumerate().try_for_each(|(index, member)| {
            self.add(format!("{label} #{}", index + 1), member, extras, error)
        })
    }

    fn add(
        &mut self,
        label: String,
        text: &str,
        extras: &Extras,
        error: impl Fn(String) -> ConfigError,
    ) -> Result<(), ConfigError> {
        let key = text.trim();
        if key.len() < text.len() {
            self.warnings.push(format!("{label} has space around the key: it is left out"));
        }
        // What is not visible ASCII cannot stand in a header, and is a sign of a bad copy.
        if let Some(wrong) = key.chars().find(|c| !c.is_ascii_graphic()) {
            let what = match wrong {
                '\n' | '\r' => "a line break",
                c if c.is_whitespace() => "a space",
                c if c.is_control() => "a control character",
                _ => "a character that no key has",
            };
            return Err(error(format!("the key {label} has {what} in it"))
                .hint("copy the key again, and nothing else"));
        }
        if extras.label.as_ref().is_some_and(|stated| stated == key) {
            return Err(error("a label is shown, so it must not hold the key".to_owned()));
        }
        if let Some(same) = self.keys.iter().find(|other| other.secret.expose() == key) {
            if same.label != label {
                self.warnings.push(format!(
                    "{label} holds the same key as {}: they count as one",
                    same.label
                ));
            }
            return Ok(());
        }
        if self.keys.iter().any(|other| other.label == label) {
            return Err(error(format!("two keys of {} are called {label}", self.provider.name))
                .hint("give each key a label of its own"));
        }
        let Extras { group, limits, .. } = extras.clone();
        self.keys.push(KeySettings { label, secret: Secret::new(key), group, limits });
        Ok(())
    }
}

/// The names whose spellings are looked for; a provider of the user's own has `NAME_API_KEY`.
fn base_names(provider: &Provider) -> Vec<String> {
    if Provider::find(&provider.name).is_some() {
        return provider.key_envs.iter().map(|name| (*name).to_owned()).collect();
    }
    let upper = provider.name.to_ascii_uppercase();
    let name: String =
        upper.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    vec![format!("{name}_API_KEY")]
}

/// Where a variable stands among the spellings of `base`: the name itself, numbered, backups, the plural.
fn place_of(name: &str, base: &str) -> Option<(u8, u32)> {
    let rest = name.strip_prefix(base)?;
    let number = |digits: &str| {
        let digits = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        digits?.parse::<u32>().ok()
    };
    match rest {
        "" => Some((0, 0)),
        "_BACKUP" => Some((2, 0)),
        "S" => Some((3, 0)),
        _ => match rest.strip_prefix("_BACKUP_") {
            Some(digits) => Some((2, number(digits)?)),
            None => Some((1, number(rest.strip_prefix('_')?)?)),
        },
    }
}

/// What `$NAME` and `${NAME}` name.
fn variable_of(text: &str) -> Option<&str> {
    let name = text.strip_prefix('$')?;
    Some(name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap_or(name))
}

/// Whether this, in a place where names of variables are written, is a key: it begins like one, has a sign in it that
/// no variable's name has, or is long and without underscores.
fn can_only_be_a_key(text: &str) -> bool {
    let in_names = |c: char| c.is_ascii_alphanumeric() || c == '_';
    looks_like_a_key(text) || !text.chars().all(in_names) || text.len() >= 20 && !text.contains('_')
}

/// Capitals, digits and underscores, beginning with a letter, with an underscore in it: no key looks like that.
fn is_a_name_in_capitals(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.contains('_')
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}
