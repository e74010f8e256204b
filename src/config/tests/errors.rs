//! Tests of config errors: each names its path and a suggestion.

use serde_json::{Value, json};

use super::*;

/// Config, then the path, a part of the message and a part of the hint.
fn mistakes() -> Vec<(Value, &'static str, &'static str, &'static str)> {
    vec![
        (json!([]), "config", "expected a table, found a list", ""),
        (json!({"provders": {}}), "provders", "no such field", "did you mean `providers`?"),
        (json!({"colour": 1}), "colour", "no such field", "the fields here are providers, models"),
        (
            json!({"providers": {"opnai": {}}}),
            "providers.opnai",
            "no provider",
            "did you mean `openai`?",
        ),
        (
            json!({"providers": {"my-box": {}}}),
            "providers.my-box",
            "no provider",
            "needs a base_url",
        ),
        (
            json!({"providers": {"openai": {"limits": {"rpn": 3}}}}),
            "providers.openai.limits.rpn",
            "no such field",
            "did you mean `rpm`?",
        ),
        (
            json!({"providers": {"openai": {"limits": {"requests_per_minute": 3}}}}),
            "providers.openai.limits.requests_per_minute",
            "no such field",
            "did you mean `rpm`?",
        ),
        (
            json!({"providers": {"openai": {"limits": {"models": {"gpt-4.1": {"rpd": 0}}}}}}),
            "providers.openai.limits.models.\"gpt-4.1\".rpd",
            "from 1 to 1000000000000, found the number 0",
            "",
        ),
        (
            json!({"providers": {"openai": 3}}),
            "providers.openai",
            "a table, found the number 3",
            "",
        ),
        (
            json!({"providers": {"openai": {"api_key": "x"}}}),
            "providers.openai.api_key",
            "no such",
            "`keys`",
        ),
        (
            json!({"providers": {"openai": {"timeout": 0}}}),
            "providers.openai.timeout",
            "found the number 0",
            "",
        ),
        (
            json!({"providers": {"openai": {"dialect": "anthropic"}}}),
            "providers.openai.dialect",
            "its own dialect",
            "a name of its own",
        ),
        (
            json!({"providers": {"mine": {"base_url": "http://h/v1", "dialect": "antropic"}}}),
            "providers.mine.dialect",
            "no such dialect",
            "did you mean `anthropic`?",
        ),
        (
            json!({"providers": {"gemini": {}, "google": {}}}),
            "providers.google",
            "another name of gemini",
            "under one name",
        ),
        (
            json!({"retry": {"max_retrys": 2}}),
            "retry.max_retrys",
            "no such",
            "did you mean `max_retries`?",
        ),
        (json!({"retry": {"max_retries": -1}}), "retry.max_retries", "found the number -1", ""),
        (json!({"retry": {"max_retries": 1.5}}), "retry.max_retries", "found the number 1.5", ""),
        (json!({"retry": {"max_retries": 101}}), "retry.max_retries", "from 0 to 100", ""),
        (
            json!({"retry": {"retry_delay": "1s"}}),
            "retry.retry_delay",
            "a number of seconds, found a text",
            "",
        ),
        // A NaN has become nothing on its way into the tree.
        (json!({"retry": {"retry_delay": f64::NAN}}), "retry.retry_delay", "found nothing", ""),
        (json!({"retry": {"retry_delay": 9, "cap": 3}}), "retry", "`cap` is shorter", ""),
        (json!({"retry": {"budget": {"share": 1.1}}}), "retry.budget.share", "from 0 to 1", ""),
        (json!({"retry": {"budget": 3}}), "retry.budget", "a table with `share` and `reserve`", ""),
        (
            json!({"timeouts": {"connect": 1e300}}),
            "timeouts.connect",
            "found the number 1e+300",
            "",
        ),
        (json!({"queue": {"max_size": 0}}), "queue.max_size", "from 1 to", ""),
        (json!({"max_wait": -0.5}), "max_wait", "found the number -0.5", ""),
        (json!({"state": 3}), "state", "expected a text, found the number 3", ""),
        (json!({"state": "mysql://h/db"}), "state", "no state of this kind", "redis://"),
        (json!({"state": "redis:///0"}), "state", "no host", "redis://host"),
        (
            json!({"models": {"default": {"provider": "openai"}}}),
            "models.default",
            "`model` is missing",
            "default_model",
        ),
        (
            json!({"models": {"default": {"model": "llama3"}}}),
            "models.default",
            "`provider` is missing",
            "",
        ),
        (
            json!({"models": {"default": {"provider": "grok", "model": "m"}}}),
            "models.default.provider",
            "no provider",
            "did you mean `groq`?",
        ),
        (
            json!({"models": {"letter": {"provider": "openai", "modle": "m"}}}),
            "models.letter.modle",
            "no such field",
            "did you mean `model`?",
        ),
        (
            json!({"models": {"fallbck": {"model": "gpt-4o"}}}),
            "models.fallbck",
            "too close",
            "`fallback`",
        ),
        (
            json!({"models": {"fallback": [{"model": 3}]}}),
            "models.fallback[0].model",
            "a text, found the number 3",
            "",
        ),
        (
            json!({"models": {"default": {"model": "gpt-4o", "fallback": []}}}),
            "models.default.fallback",
            "only a task",
            "`models.fallback`",
        ),
        (
            json!({"models": {
                "default": {"provider": "openai", "model": "a", "base_url": "http://one/v1"},
                "letter": {"provider": "openai", "model": "a", "base_url": "http://two/v1"},
            }}),
            "models.letter.base_url",
            "another base_url",
            "a name of its own",
        ),
    ]
}

#[test]
fn a_mistake_in_the_config_names_its_path_and_the_right_name() {
    for (config, path, message, hint) in mistakes() {
        let error = with_config(config.clone(), &[]).expect_err(&config.to_string());
        assert_eq!(error.path, path, "{config}: {error}");
        assert!(error.message.contains(message), "{config}: {error}");
        assert!(error.hint.clone().unwrap_or_default().contains(hint), "{config}: {error}");
    }
}

#[test]
fn an_address_is_http_with_a_host_and_no_secret() {
    for (url, message) in [
        ("localhost:8000/v1", "not an address"),
        ("ftp://host/v1", "begins with http:// or https://"),
        ("http:///v1", "no host"),
        ("http://", "no host"),
        ("http://a b/v1", "a space"),
        ("http://host:99999/v1", "not an address"),
        ("http://user:planted@host/v1", "a user or a password"),
        ("http://host/v1?key=planted", "`?` or `#`"),
        ("", "expected a text, found an empty text"),
    ] {
        let base_urls = Some(json!({ "openai": url }));
        let arguments = Arguments { base_urls, ..Arguments::default() };
        let error = Settings::resolve(arguments, machine(&[])).expect_err(url);
        assert_eq!(error.path, "base_urls.openai");
        assert!(error.message.contains(message), "{url}: {error}");
        assert!(!error.to_string().contains("planted"), "{error}");
    }
}

#[test]
fn mistakes_in_arguments_name_the_argument() {
    let table = [
        (json!({"keys": {"opnai": "x"}}), "keys.opnai", Some("did you mean `openai`?")),
        (json!({"keys": {"openai": []}, "limits": {"x": {}}}), "limits.x", None),
        (json!({"limits": {"openai": {"rpm": true}}}), "limits.openai.rpm", None),
        (json!({"limits": {"google": {}, "gemini": {}}}), "limits.google", None),
        (json!({"keys": "x"}), "keys", None),
        (json!({"keys": {"openai": [3]}}), "keys.openai[0]", None),
        (json!({"keys": {"openai": {"label": "a"}}}), "keys.openai", None),
        (json!({"keys": {"openai": {"key": "x", "env": "Y"}}}), "keys.openai.env", None),
        (json!({"state": " "}), "state", None),
    ];
    for (given, path, hint) in table {
        let argument = |name: &str| given.get(name).cloned();
        let arguments = Arguments {
            keys: argument("keys"),
            limits: argument("limits"),
            state: argument("state").and_then(|state| state.as_str().map(str::to_owned)),
            ..Arguments::default()
        };
        let error = Settings::resolve(arguments, machine(&[])).expect_err(path);
        assert_eq!(error.path, path, "{error}");
        assert!(hint.is_none() || error.hint.as_deref() == hint, "{error}");
    }
}
