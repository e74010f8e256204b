//! Tests of routes in a config.

use serde_json::json;

use super::*;

#[test]
fn default_fallback_and_tasks_become_routes_with_their_keys() {
    let config = json!({
        "providers": {"groq": {"default_model": "llama-3.1-8b-instant"}},
        "models": {
            "default": {
                "provider": "openai", "model": "gpt-4o-mini", "key": "FIRST",
                "backup_keys": ["SECOND", "$THIRD"], "temperature": 0.2, "max_tokens": 100,
            },
            "fallback": {"provider": "google", "model": "gemini-2.0-flash"},
            "cover_letter": {"model": "claude-sonnet-4", "fallback": [{"provider": "groq"}]},
            "summary": {"provider": "openai", "model": "gpt-4o", "key": "FIRST", "fallback": []},
            "local": {"provider": "box", "model": "llama3", "base_url": "http://127.0.0.1:8000/v1"},
            "unused": null,
        },
    });
    let variables = [
        ("FIRST", "sk-test-1"),
        ("SECOND", "sk-test-2"),
        ("THIRD", "sk-test-3"),
        ("OPENAI_API_KEY", "x"),
    ];
    let settings = with_config(config, &variables).expect("settings");
    let routes = &settings.routes;

    let default = routes.default.as_ref().expect("a default");
    assert_eq!((default.provider.as_str(), default.model.as_str()), ("openai", "gpt-4o-mini"));
    assert_eq!(json!(default.params), json!({"temperature": 0.2, "max_tokens": 100}));
    assert_eq!(routes.fallback[0].provider, "gemini");

    let letter = &routes.tasks["cover_letter"];
    assert_eq!(letter.target.provider, "anthropic");
    let own = letter.fallback.as_ref().expect("fallbacks of its own");
    assert_eq!(own[0].model, "llama-3.1-8b-instant");
    assert_eq!(routes.tasks["summary"].fallback, Some(vec![]));
    assert_eq!(routes.tasks["local"].fallback, None);
    assert_eq!(routes.tasks.len(), 3);

    assert_eq!(
        shown(&settings.providers["openai"].keys),
        [("FIRST", "sk-test-1"), ("SECOND", "sk-test-2"), ("THIRD", "sk-test-3")]
    );
    assert_eq!(settings.providers["box"].provider.base_url, "http://127.0.0.1:8000/v1");
    assert_eq!(settings.warnings, Vec::<String>::new());
}

#[test]
fn an_address_belongs_to_the_provider_that_the_model_tells() {
    let config = json!({"models": {"default": {"model": "gpt-4o", "base_url": "http://h/v1"}}});
    let settings = with_config(config, &[]).expect("settings");
    assert_eq!(settings.providers["openai"].provider.base_url, "http://h/v1");
}

#[test]
fn a_parameter_that_is_almost_a_field_is_still_a_parameter() {
    let target = json!({"provider": "openrouter", "model": "a/b", "models": ["a/b", "c/d"]});
    let settings = with_config(json!({"models": {"default": target}}), &[]).expect("settings");
    let default = settings.routes.default.expect("a default");
    assert_eq!(json!(default.params), json!({"models": ["a/b", "c/d"]}));
}

type KeysAndWarnings = (Vec<(String, String)>, Vec<String>);

/// The keys that one entry of `models` leads to, as label and secret.
fn keys_of(target: serde_json::Value) -> Result<KeysAndWarnings, ConfigError> {
    let variables = [("MINE", "sk-test-1"), ("OTHER", "sk-test-2"), ("small_name", "sk-test-3")];
    let settings = with_config(json!({"models": {"default": target}}), &variables)?;
    let provider = settings.routes.default.as_ref().expect("a default").provider.clone();
    let keys = shown(&settings.providers[&provider].keys);
    let keys = keys.into_iter().map(|(label, key)| (label.to_owned(), key.to_owned())).collect();
    Ok((keys, settings.warnings))
}

#[test]
fn keys_of_a_model_come_in_every_shape_people_write() {
    let written = |key, backups| json!({"model": "gpt-4o", "key": key, "backup_keys": backups});
    let (one, two, three) =
        (("MINE", "sk-test-1"), ("OTHER", "sk-test-2"), ("small_name", "sk-test-3"));
    for (key, backups, expected) in [
        (json!("MINE"), json!(["OTHER"]), vec![one, two]),
        (json!("${MINE}"), json!("$OTHER"), vec![one, two]),
        (json!(" MINE "), json!("OTHER, ${small_name}"), vec![one, two, three]),
        (json!("MINE"), json!(null), vec![one]),
        (json!("MINE"), json!([]), vec![one]),
        (json!("MINE"), json!([null, "OTHER"]), vec![one, two]),
        (json!(null), json!("OTHER"), vec![two]),
        (json!("small_name"), json!(null), vec![three]),
        (json!("sk-test-9"), json!(["OTHER"]), vec![("openai key 1", "sk-test-9"), two]),
        (
            json!("MINE"),
            json!(["a1b2c3d4e5f6a7b8c9d0"]),
            vec![one, ("openai key 2", "a1b2c3d4e5f6a7b8c9d0")],
        ),
        (json!("sk-test-9"), json!(["sk-test-9"]), vec![("openai key 1", "sk-test-9")]),
    ] {
        let (keys, warnings) = keys_of(written(key.clone(), backups.clone())).expect("settings");
        let keys: Vec<_> = keys.iter().map(|(label, key)| (label.as_str(), key.as_str())).collect();
        assert_eq!((keys, warnings), (expected, vec![]), "{key} {backups}");
    }
}

#[test]
fn what_is_empty_or_not_set_is_a_warning_and_what_is_neither_name_nor_key_an_error() {
    let (keys, warnings) = keys_of(json!({"model": "gpt-4o", "key": ""})).expect("settings");
    assert_eq!(
        (keys, warnings.as_slice()),
        (vec![], &["models.default.key is empty: it is ignored".to_owned()][..])
    );
    let (keys, warnings) =
        keys_of(json!({"model": "gpt-4o", "key": "${NOT_SET}"})).expect("settings");
    assert!(
        keys.is_empty() && warnings[0].contains("NOT_SET is named as a key of openai"),
        "{warnings:?}"
    );
    let error = keys_of(json!({"model": "gpt-4o", "key": "my_key"})).expect_err("no name, no key");
    assert_eq!(error.path, "models.default.key");
    assert!(error.message.contains("not the name of an environment variable that is set"));
    for wrong in [json!(7), json!({"env": "MINE"}), json!([["MINE"]])] {
        let error = keys_of(json!({"model": "gpt-4o", "backup_keys": wrong})).expect_err("no text");
        assert!(error.path.starts_with("models.default.backup_keys"), "{error}");
    }
}

#[test]
fn a_word_in_place_of_a_key_is_enough_for_a_server_that_wants_none() {
    for word in ["ollama", "none", "not-needed", "EMPTY"] {
        let target = json!({"provider": "ollama", "model": "llama3", "key": word});
        assert_eq!(
            keys_of(target).expect("settings").0,
            [("ollama key 1".to_owned(), word.to_owned())]
        );
    }
}

#[test]
fn a_file_of_an_app_may_hold_sections_of_its_own() {
    let config = json!({
        "app": {"name": "jobs"},
        "logging": {"level": "INFO"},
        "models": {
            "default": {"provider": "openai", "model": "gpt-4o-mini", "key": "MINE", "temperature": 0.2, "top_p": null},
            "fallback": {"provider": "google", "model": "gemini-2.0-flash", "base_url": null},
        },
        "strategy": {"use_local_first": true},
    });
    let settings = with_config(config, &[("MINE", "sk-test-1")]).expect("settings");
    assert_eq!(settings.routes.fallback.len(), 1);
    assert_eq!(json!(settings.routes.default.expect("one").params), json!({"temperature": 0.2}));
    assert_eq!(
        settings.warnings,
        ["the config has sections that are not ours and are ignored: app, logging"]
    );
    let config = json!({"models": {}, "provders": {}});
    let error = with_config(config, &[]).expect_err("misspelt");
    assert_eq!(
        (error.path.as_str(), error.hint.as_deref()),
        ("provders", Some("did you mean `providers`?"))
    );
}
