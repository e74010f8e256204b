//! Validation of answers against a JSON schema.

use std::fmt;

use jsonschema::Validator;
use serde_json::Value;

/// The most faults that are listed.
const MOST_FAULTS: usize = 20;

/// A JSON schema, ready to hold answers to it. It looks nothing up: a reference leads to a place of the schema itself.
pub struct AnswerSchema(Validator);

impl AnswerSchema {
    /// The schema, drafts 4 to 2020-12; formats are checked.
    ///
    /// ```
    /// use quotaflow::providers::AnswerSchema;
    /// use serde_json::json;
    /// let schema = AnswerSchema::new(&json!({"type": "object", "required": ["city"]})).unwrap();
    /// assert!(schema.faults("{\"city\": \"Paris\"}").is_empty());
    /// assert_eq!(schema.faults("{}"), ["\"city\" is a required property"]);
    /// assert!(AnswerSchema::new(&json!({"type": "objekt"})).is_err());
    /// ```
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(schema: &Value) -> Result<AnswerSchema, String> {
        let options = jsonschema::options().offline().should_validate_formats(true);
        options.build(schema).map(AnswerSchema).map_err(|error| fault(&error))
    }

    /// What is wrong with a text that is JSON, at most twenty things; empty when it fits.
    pub fn faults(&self, text: &str) -> Vec<String> {
        match serde_json::from_str(text) {
            Ok(value) => self.0.iter_errors(&value).take(MOST_FAULTS).map(|e| fault(&e)).collect(),
            Err(error) => vec![error.to_string()],
        }
    }
}

impl fmt::Debug for AnswerSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerSchema")
    }
}

/// The place, without what stands before the first name, and the words.
fn fault(error: &jsonschema::ValidationError<'_>) -> String {
    let place = error.instance_path().to_string();
    let place = place.trim_start_matches('/').replace('/', ".");
    let words: String = error.to_string().chars().take(300).collect();
    if place.is_empty() { words } else { format!("{place}: {words}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn faults_name_their_place() {
        let schema = AnswerSchema::new(&json!({
            "type": "object",
            "properties": {"days": {"type": "array", "items": {"$ref": "#/$defs/day"}}},
            "$defs": {"day": {"type": "string", "format": "date"}},
        }));
        let schema = schema.unwrap();
        assert_eq!(schema.faults("{\"days\": [\"2026-01-02\"]}"), Vec::<String>::new());
        let faults = schema.faults("{\"days\": [\"2026-01-02\", 7, \"soon\"]}");
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].starts_with("days.1: "), "{faults:?}");
        assert_eq!(schema.faults("{\"days\": ").len(), 1);
    }

    #[test]
    fn what_is_no_schema_or_leads_elsewhere_is_refused() {
        for schema in [
            json!({"type": 3}),
            json!({"$ref": "#/$defs/none"}),
            json!({"$ref": "https://example.com/schema.json"}),
            json!({"$ref": "file:///etc/passwd"}),
            json!({"pattern": "("}),
        ] {
            assert!(AnswerSchema::new(&schema).is_err(), "{schema}");
        }
    }
}
