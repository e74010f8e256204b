//! Do `models` become routes?

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
