//! Closing of JSON schemas for providers that take only closed ones.
//!
//! OpenAI's `strict` and Anthropic's formats want objects that allow no other fields, and know a part of JSON schema.
//! What such a schema leaves out it says in descriptions, and the answer is held to the whole one afterwards. A schema
//! that cannot be closed without meaning something else is not.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

/// Who closes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// Every field is required.
    OpenAi,
    /// Fields may be left out; a schema may not hold itself.
    Anthropic,
}

/// Keywords that change what a schema means in ways that cannot be left out.
const CANNOT: [&str; 14] = [
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "patternProperties",
    "propertyNames",
    "prefixItems",
    "contains",
    "unevaluatedProperties",
    "unevaluatedItems",
    "$dynamicRef",
    "minProperties",
];

/// What is neither sent nor said.
const SILENT: [&str; 9] = [
    "title",
    "examples",
    "example",
    "discriminator",
    "$schema",
    "$id",
    "$comment",
    "readOnly",
    "deprecated",
];

/// Formats that both know.
const FORMATS: [&str; 9] =
    ["date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"];

/// The schema with closed objects; `None` when that would mean something else.
pub(super) fn closed(schema: &Value, closing: Closing) -> Option<Value> {
    let root = schema.as_object()?;
    if closing == Closing::Anthropic && holds_itself(schema) {
        return None;
    }
    let mut made = match reference(root) {
        // The top must be an object; a schema that holds itself begins with a reference.
        Some(place) => Closer(closing).close(schema.pointer(place.strip_prefix('#')?)?)?,
        None => Closer(closing).close(schema)?,
    };
    for defs in ["$defs", "definitions"] {
        if let Some(Value::Object(parts)) = root.get(defs) {
            let parts: Option<Map<String, Value>> = parts
                .iter()
                .map(|(name, part)| Some((name.clone(), Closer(closing).close(part)?)))
                .collect();
            made.as_object_mut()?.insert(defs.to_owned(), Value::Object(parts?));
        }
    }
    Some(made)
}

struct Closer(Closing);

impl Closer {
    fn close(&self, schema: &Value) -> Option<Value> {
        let fields = schema.as_object()?;
        if CANNOT.iter().any(|keyword| fields.contains_key(*keyword)) {
            return None;
        }
        if let Some(place) = reference(fields) {
            return place.starts_with('#').then(|| json!({"$ref": place}));
        }
        let mut made = Map::new();
        let mut said: Vec<String> = Vec::new();
        let mut is_object = false;
        for (keyword, value) in fields {
            match keyword.as_str() {
                "type" => {
                    is_object = mentions(value, "object");
                    made.insert("type".to_owned(), value.clone());
                }
                "enum" | "description" => {
                    made.insert(keyword.clone(), value.clone());
                }
                "const" => {
                    made.insert("enum".to_owned(), json!([value]));
                }
                "format" if FORMATS.iter().any(|known| value == known) => {
                    made.insert("format".to_owned(), value.clone());
                }
                "items" => {
                    made.insert("items".to_owned(), self.close(value)?);
                }
                "properties" => {
                    let properties: Option<Map<String, Value>> = value
                        .as_object()?
                        .iter()
                        .map(|(name, field)| Some((name.clone(), self.close(field)?)))
                        .collect();
                    made.insert("properties".to_owned(), Value::Object(properties?));
                }
                "anyOf" | "oneOf" => {
                    let ways: Option<Vec<Value>> =
                        value.as_array()?.iter().map(|way| self.close(way)).collect();
                    made.insert("anyOf".to_owned(), Value::Array(ways?));
                }
                "allOf" => return None,
                "additionalProperties" if *value != Value::Bool(false) => return None,
                "required" | "additionalProperties" | "$defs" | "definitions" => {}
                silent if SILENT.contains(&silent) => {}
                _ => said.push(format!("{keyword}: {value}")),
            }
        }
        if is_object {
            self.close_object(fields, &mut made)?;
        }
        // Something of no kind in particular, or a list of that.
        let says = |keyword: &&str| made.contains_key(*keyword);
        let is_list = made.get("type").is_some_and(|kind| mentions(kind, "array"));
        if !["type", "enum", "anyOf"].iter().any(says) || is_list && !made.contains_key("items") {
            return None;
        }
        if !made.contains_key("type")
            && let Some(Value::Array(values)) = made.get("enum")
        {
            let kinds = kinds(values);
            made.insert("type".to_owned(), kinds);
        }
        if !said.is_empty() {
            let described = made.get("description").and_then(Value::as_str).unwrap_or("");
            let words = format!("{described} ({})", said.join(", "));
            made.insert("description".to_owned(), words.trim_start().into());
        }
        Some(Value::Object(made))
    }

    fn close_object(
        &self,
        fields: &Map<String, Value>,
        made: &mut Map<String, Value>,
    ) -> Option<()> {
        let properties = made.get("properties")?.as_object()?;
        if properties.is_empty() {
            return None;
        }
        let required = match self.0 {
            Closing::OpenAi => Some(properties.keys().cloned().collect()),
            Closing::Anthropic => fields.get("required").cloned(),
        };
        if let Some(required) = required {
            made.insert("required".to_owned(), required);
        }
        made.insert("additionalProperties".to_owned(), Value::Bool(false));
        Some(())
    }
}

fn reference(fields: &Map<String, Value>) -> Option<&str> {
    fields.get("$ref").and_then(Value::as_str)
}

/// Whether a `type`, which is a name or a list of names, is that one.
fn mentions(kind: &Value, name: &str) -> bool {
    kind == name || kind.as_array().is_some_and(|names| names.iter().any(|one| one == name))
}

/// The `type` of these values.
fn kinds(values: &[Value]) -> Value {
    let mut kinds: Vec<&str> = Vec::new();
    for value in values {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    match kinds[..] {
        [kind] => kind.into(),
        _ => kinds.into(),
    }
}

/// Whether following references leads back to where one was.
fn holds_itself(schema: &Value) -> bool {
    References { root: schema, way: Vec::new(), end_well: HashSet::new() }.lead_back_from(schema)
}

/// More references one behind the other than a schema has.
const LONGEST_WAY: usize = 100;

struct References<'a> {
    root: &'a Value,
    /// The references that led to where one is.
    way: Vec<&'a str>,
    /// References that are known to lead nowhere twice: each is followed once, however often it stands there.
    end_well: HashSet<&'a str>,
}

impl<'a> References<'a> {
    fn lead_back_from(&mut self, at: &'a Value) -> bool {
        match at {
            Value::Object(fields) => match reference(fields) {
                Some(place) => self.leads_back(place),
                None => fields
                    .iter()
                    .filter(|(name, _)| !matches!(&***name, "$defs" | "definitions"))
                    .any(|(_, part)| self.lead_back_from(part)),
            },
            Value::Array(parts) => parts.iter().any(|part| self.lead_back_from(part)),
            _ => false,
        }
    }

    fn leads_back(&mut self, place: &'a str) -> bool {
        if self.end_well.contains(place) {
            return false;
        }
        if self.way.contains(&place) || self.way.len() > LONGEST_WAY {
            return true;
        }
        let there = place.strip_prefix('#').and_then(|place| self.root.pointer(place));
        self.way.push(place);
        let back = there.is_some_and(|there| self.lead_back_from(there));
        self.way.pop();
        if !back {
            self.end_well.insert(place);
        }
        back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Levels that each point at the next one, ten times.
    fn branching(levels: usize, last: &str) -> Value {
        let mut parts = Map::new();
        for level in 0..levels {
            let next =
                if level + 1 < levels { format!("#/$defs/{}", level + 1) } else { last.to_owned() };
            let fields: Map<String, Value> =
                (0..10).map(|field| (format!("f{field}"), json!({"$ref": next}))).collect();
            parts.insert(level.to_string(), json!({"type": "object", "properties": fields}));
        }
        parts.insert("end".to_owned(), json!({"type": "string"}));
        json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/0"}}, "$defs": parts})
    }

    #[test]
    fn a_reference_is_followed_once_however_often_it_stands_there() {
        // Followed each time, these would be ten to the power of sixty.
        assert!(!holds_itself(&branching(60, "#/$defs/end")));
        assert!(holds_itself(&branching(60, "#/$defs/7")));
        assert!(closed(&branching(60, "#/$defs/end"), Closing::Anthropic).is_some());
    }
}
