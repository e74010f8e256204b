//! Unknown sections of a config: another program's, or misspelt.

use serde_json::Value;

use super::redact::shown;
use super::schema::{TOP, Takes};

/// Takes out what a program keeps in the same file for itself (`app`, `logging`…), and says in a warning what that was.
///
/// Only a tree with `models` may hold such sections. What is spelt almost like a section of quotaflow and has its shape
/// stays, to be refused with the right name.
pub(super) fn take_out(tree: &mut Value) -> Option<String> {
    let top = tree.as_object_mut().filter(|top| top.get("models").is_some_and(Value::is_object))?;
    let mut out = Vec::new();
    top.retain(|name, value| {
        let ours = TOP.field(name).is_some()
            || shown(name, false) != name
            || TOP.near(name).is_some_and(|field| has_shape(value, field.takes));
        if !ours {
            let meant = TOP.synonym(name).filter(|field| has_shape(value, field.takes));
            let meant = meant.map(|field| format!(" (ours is called {})", field.name));
            out.push(format!("{name}{}", meant.unwrap_or_default()));
        }
        ours
    });
    (!out.is_empty()).then(|| {
        format!("the config has sections that are not ours and are ignored: {}", out.join(", "))
    })
}

fn has_shape(value: &Value, takes: Takes) -> bool {
    match takes {
        Takes::Table => value.is_object(),
        Takes::Text => value.is_string(),
        Takes::Seconds => value.is_number(),
        _ => !value.is_null(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn left(tree: Value) -> (Vec<String>, Option<String>) {
        let mut tree = tree;
        tree.sort_all_objects();
        let warning = take_out(&mut tree);
        (tree.as_object().expect("a table").keys().cloned().collect(), warning)
    }

    #[test]
    fn a_programs_own_sections_are_left_to_it_and_misspelt_ones_are_not() {
        let (left, warning) = left(json!({
            "models": {}, "app": {"name": "x"}, "logging": {"level": "INFO"}, "retry": {}, "provders": {},
            "stats": {"on": true}, "cache": "./cache", "database": {"host": "h"}, "version": 3, "queue": {},
            "sk-test-planted": 1,
        }));
        assert_eq!(left, ["models", "provders", "queue", "retry", "sk-test-planted"]);
        assert_eq!(
            warning.expect("a warning"),
            "the config has sections that are not ours and are ignored: \
             app, cache (ours is called state), database, logging, stats, version"
        );
    }

    #[test]
    fn a_config_without_models_is_ours_alone() {
        for tree in [json!({"app": {}, "retry": {}}), json!({"models": null, "app": 1})] {
            let fields = tree.as_object().map_or(0, serde_json::Map::len);
            assert_eq!((left(tree.clone()).0.len(), left(tree).1), (fields, None));
        }
    }
}
