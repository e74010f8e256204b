//! Typed reading of config nodes, with paths for errors.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use super::error::ConfigError;
use super::redact::{HIDDEN, shown};
use super::schema::{MEANT_PARAMETER, Section, Takes};

/// One value with its place, so that every error can say where.
#[derive(Clone)]
pub(super) struct Node<'a> {
    value: &'a Value,
    path: String,
    file: Option<&'a Path>,
    takes: Takes,
    /// Among keys: no value below here is ever repeated in an error.
    private: bool,
}

/// A table whose field names have been checked.
pub(super) struct Table<'a> {
    node: Node<'a>,
    fields: &'a Map<String, Value>,
    section: Section,
}

impl<'a> Node<'a> {
    /// The top of a tree; `path` names the argument it is, or is empty for a config.
    pub(super) fn root(value: &'a Value, path: &str, file: Option<&'a Path>) -> Self {
        Node { value, path: path.to_owned(), file, takes: Takes::Table, private: false }
    }

    /// The same place, read as something else.
    pub(super) fn taking(self, takes: Takes) -> Self {
        Node { takes, ..self }
    }

    /// The same place among keys.
    pub(super) fn private(self) -> Self {
        Node { private: true, ..self }
    }

    /// Where this is.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The file this stands in.
    pub(super) fn file(&self) -> Option<&'a Path> {
        self.file
    }

    /// What stands here, for parameters that are handed on as they are.
    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    /// Whether nothing stands here.
    pub(super) fn is_nothing(&self) -> bool {
        self.value.is_null()
    }

    /// Whether a text stands here.
    pub(super) fn is_text(&self) -> bool {
        self.value.is_string()
    }

    /// Whether a table stands here.
    pub(super) fn is_table(&self) -> bool {
        self.value.is_object()
    }

    /// An error at this place.
    pub(super) fn error(&self, message: impl Into<String>) -> ConfigError {
        ConfigError {
            file: self.file.map(Path::to_owned),
            ..ConfigError::at(self.path.clone(), message)
        }
    }

    /// "expected this, found that"; what was found is named by its type, and only numbers by their value.
    pub(super) fn wrong(&self) -> ConfigError {
        self.error(format!("expected {}, found {}", self.takes.words(), self.found()))
    }

    fn found(&self) -> String {
        match self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(truth) if !self.private => truth.to_string(),
            Value::Number(number) if !self.private => format!("the number {number}"),
            Value::Bool(_) => "true or false".to_owned(),
            Value::Number(_) => "a number".to_owned(),
            Value::String(text) if text.trim().is_empty() => "an empty text".to_owned(),
            Value::String(_) => "a text".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "a table".to_owned(),
        }
    }

    fn child(&self, name: &str, value: &'a Value, takes: Takes) -> Node<'a> {
        let name = shown(name, self.private);
        let quoted = name != HIDDEN && name.contains(['.', ' ', '[', '"']);
        let name = if quoted { format!("{name:?}") } else { name.to_owned() };
        let path = if self.path.is_empty() { name } else { format!("{}.{name}", self.path) };
        Node { value, path, file: self.file, takes, private: self.private }
    }

    /// A table with the fields of `section` and, unless it is open, no others.
    pub(super) fn table(&self, section: Section) -> Result<Table<'a>, ConfigError> {
        let fields = self.value.as_object().ok_or_else(|| self.wrong())?;
        for (name, value) in fields {
            if section.field(name).is_some() {
                continue;
            }
            let meant = section.nearest(name);
            // In an open table most names are parameters; only those that can hardly be one are refused.
            let misspelt = meant.is_some() && name.len() > 3 && name != MEANT_PARAMETER;
            if section.open && !misspelt {
                continue;
            }
            let error = self.child(name, value, self.takes).error("there is no such field");
            return Err(error.hint(match meant {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => {
                    let names: Vec<_> = section.fields.iter().map(|field| field.name).collect();
                    format!("the fields here are {}", names.join(", "))
                }
            }));
        }
        Ok(Table { node: self.clone(), fields, section })
    }

    /// A table whose names the user chooses; entries with nothing in them are left out unless they must not be nothing.
    pub(super) fn entries(&self, takes: Takes) -> Result<Vec<(&'a str, Node<'a>)>, ConfigError> {
        let fields = self.value.as_object().ok_or_else(|| self.wrong())?;
        Ok(fields
            .iter()
            .map(|(name, value)| (name.as_str(), self.child(name, value, takes)))
            .filter(|(_, node)| !(takes.may_be_nothing() && node.is_nothing()))
            .collect())
    }

    /// The members of a list, or the value itself as the only one.
    pub(super) fn one_or_many(&self) -> Vec<Node<'a>> {
        match self.value {
            Value::Array(members) => members
                .iter()
                .enumerate()
                .map(|(index, value)| Node {
                    value,
                    path: format!("{}[{index}]", self.path),
                    ..self.clone()
                })
                .collect(),
            _ => vec![self.clone()],
        }
    }

    /// A text that is not empty, without the space around it.
    pub(super) fn text(&self) -> Result<&'a str, ConfigError> {
        let text = self.value.as_str().map(str::trim);
        text.filter(|text| !text.is_empty()).ok_or_else(|| self.wrong())
    }

    /// A text that will be shown as a name: a model, a label, a group.
    pub(super) fn name(&self) -> Result<&'a str, ConfigError> {
        let text = self.text()?;
        if shown(text, false) == text {
            Ok(text)
        } else {
            Err(self.error("this looks like a key, and it would be shown"))
        }
    }

    /// A text exactly as it was written, even if it is empty.
    pub(super) fn raw_text(&self) -> Result<&'a str, ConfigError> {
        self.value.as_str().ok_or_else(|| self.wrong())
    }

    /// A whole number from `least` to `most`; `60.0` and `1e6` are whole.
    pub(super) fn whole(&self, least: u64, most: u64) -> Result<u64, ConfigError> {
        let number = self.value.as_u64().or_else(|| whole_of(self.value.as_f64()?));
        match number {
            Some(number) if (least..=most).contains(&number) => Ok(number),
            _ if self.value.is_number() => Err(self.error(format!(
                "expected a whole number from {least} to {most}, found {}",
                self.found()
            ))),
            _ => Err(self.wrong()),
        }
    }

    /// A number from `least` to `most`.
    pub(super) fn number(&self, least: f64, most: f64) -> Result<f64, ConfigError> {
        match self.value.as_f64() {
            Some(number) if (least..=most).contains(&number) => Ok(number),
            Some(_) => Err(self.error(format!(
                "expected a number from {least} to {most}, found {}",
                self.found()
            ))),
            None => Err(self.wrong()),
        }
    }

    /// True or false.
    pub(super) fn flag(&self) -> Result<bool, ConfigError> {
        self.value.as_bool().ok_or_else(|| self.wrong())
    }

    /// A span of time, written in seconds.
    pub(super) fn seconds(&self, least: f64, most: f64) -> Result<Duration, ConfigError> {
        Ok(Duration::from_secs_f64(self.number(least, most)?))
    }
}

fn whole_of(number: f64) -> Option<u64> {
    let whole = number.fract() == 0.0 && (0.0..9e15).contains(&number);
    whole.then_some(number as u64)
}

impl<'a> Table<'a> {
    /// The field with this name of the section, if it was written.
    pub(super) fn get(&self, name: &str) -> Option<Node<'a>> {
        let takes = self.section.field(name)?.takes;
        let node = self.node.child(name, self.fields.get(name)?, takes);
        (!(takes.may_be_nothing() && node.is_nothing())).then_some(node)
    }

    /// The place of the table itself.
    pub(super) fn node(&self) -> &Node<'a> {
        &self.node
    }

    /// What an open table holds besides the fields of its section.
    pub(super) fn others(&self) -> impl Iterator<Item = (&'a str, Node<'a>)> {
        let others = self.fields.iter().filter(|(name, _)| self.section.field(name).is_none());
        others.map(|(name, value)| (name.as_str(), self.node.child(name, value, Takes::Text)))
    }

    /// The place of one of its values, whether or not it is there.
    pub(super) fn child(&self, name: &str) -> Node<'a> {
        self.node.child(name, self.fields.get(name).unwrap_or(&Value::Null), Takes::Text)
    }
}
