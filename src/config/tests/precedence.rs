//! Tests of precedence between arguments, config and environment.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::config::{ConfigFile, RetryBudget, RetrySettings, StateSetting, Timeouts};
use crate::kernel::Limit;
use crate::providers::Dialect;

fn written(arguments: Arguments) -> Settings {
    let config = json!({"providers": {
        "openai": {"keys": "sk-config", "base_url": "http://config/v1", "limits": {"rpm": 10, "rpd": 100}},
        "anthropic": {"limits": {"rpm": 7}},
    }});
    let config = Some(ConfigArgument::Value(config));
    let variables = [("OPENAI_API_KEY", "sk-env"), ("ANTHROPIC_API_KEY", "sk-env-2")];
    Settings::resolve(Arguments { config, ..arguments }, machine(&variables)).expect("settings")
}

fn first_key<'s>(settings: &'s Settings, provider: &str) -> &'s str {
    assert_eq!(settings.providers[provider].keys.len(), 1);
    settings.providers[provider].keys[0].secret.expose()
}

#[test]
fn the_config_beats_the_environment_for_the_providers_it_speaks_of() {
    let settings = written(Arguments::default());
    assert_eq!(first_key(&settings, "openai"), "sk-config");
    assert_eq!(first_key(&settings, "anthropic"), "sk-env-2");
    assert_eq!(settings.providers["openai"].provider.base_url, "http://config/v1");
    assert_eq!(settings.providers["groq"].provider.base_url, "https://api.groq.com/openai/v1");
}

#[test]
fn arguments_beat_the_config() {
    let settings = written(Arguments {
        keys: Some(json!({"openai": "sk-argument"})),
        limits: Some(json!({"openai": {"rpm": 20, "tpm": 500}, "groq": {"rpm": 1}})),
        base_urls: Some(json!({"openai": "http://argument/v1", "mine": "http://127.0.0.1:1"})),
        state: Some("memory".into()),
        ..Arguments::default()
    });
    assert_eq!(first_key(&settings, "openai"), "sk-argument");
    assert_eq!(first_key(&settings, "anthropic"), "sk-env-2");
    assert_eq!(settings.providers["openai"].provider.base_url, "http://argument/v1");
    assert_eq!(settings.providers["mine"].provider.dialect, Dialect::OpenAi);
    assert_eq!(settings.state, StateSetting::Memory);
    // A limit that the arguments do not speak of stays: losing one would be the dangerous mistake.
    let texts = |name: &str| -> Vec<_> {
        settings.providers[name].limits.iter().map(Limit::to_string).collect()
    };
    let openai = ["20 requests per minute", "100 requests per day", "500 tokens per minute"];
    assert_eq!(texts("openai"), openai);
    assert_eq!(texts("anthropic"), ["7 requests per minute"]);
    assert_eq!(texts("groq"), ["1 request per minute"]);
}

#[test]
fn an_empty_list_of_keys_means_none() {
    let settings = written(Arguments { keys: Some(json!({"openai": []})), ..Arguments::default() });
    assert!(settings.providers["openai"].keys.is_empty());
}

#[test]
fn without_a_word_the_documented_defaults_hold() {
    let settings = with_config(json!({"retry": null}), &[]).expect("settings");
    assert_eq!(settings.retry, RetrySettings::default());
    assert_eq!(settings.retry.max_retries, 3);
    assert_eq!(settings.retry.retry_delay, Duration::from_secs(1));
    assert_eq!(settings.retry.cap, Duration::from_secs(300));
    assert_eq!(settings.timeouts, Timeouts::default());
    assert_eq!(settings.timeouts.connect, Duration::from_secs(10));
    assert_eq!(settings.timeouts.read, Duration::from_secs(600));
    assert_eq!(settings.timeouts.call, None);
    assert_eq!(settings.queue_max_size, 100_000);
    assert_eq!(settings.max_wait, Duration::from_secs(300));
    let file = PathBuf::from("/home/ada/.cache/quotaflow/state.sqlite");
    assert_eq!(settings.state, StateSetting::UserCache(file));
    assert_eq!(settings.providers.len(), crate::providers::Provider::names().len());
}

#[test]
fn behaviour_is_read_from_the_config() {
    let settings = with_config(
        json!({
            "retry": {"max_retries": 0, "retry_delay": 0.5, "retry_multiplier": 3, "cap": 9, "budget": {"share": 0.5, "reserve": 0}},
            "timeouts": {"connect": 1, "read": 2.5, "call": 60},
            "queue": {"max_size": 10},
            "max_wait": 0,
            "providers": {"openai": {"timeout": 5, "default_model": "gpt-4o"}},
        }),
        &[],
    )
    .expect("settings");
    assert_eq!(
        settings.retry,
        RetrySettings {
            max_retries: 0,
            retry_delay: Duration::from_millis(500),
            retry_multiplier: 3.0,
            cap: Duration::from_secs(9),
            budget: RetryBudget { share: 0.5, reserve: 0 },
        }
    );
    assert_eq!(settings.timeouts.read, Duration::from_millis(2_500));
    assert_eq!(settings.timeouts.call, Some(Duration::from_secs(60)));
    assert_eq!((settings.queue_max_size, settings.max_wait), (10, Duration::ZERO));
    assert_eq!(settings.providers["openai"].timeout, Some(Duration::from_secs(5)));
    assert_eq!(settings.providers["openai"].default_model.as_deref(), Some("gpt-4o"));
}

#[test]
fn a_state_is_memory_a_file_or_a_redis() {
    let file = |path: &str| StateSetting::Sqlite(Path::new(path).to_owned());
    for (text, state) in [
        ("memory", StateSetting::Memory),
        ("/var/q.sqlite", file("/var/q.sqlite")),
        ("q.sqlite", file("q.sqlite")),
        ("~/q.sqlite", file("/home/ada/q.sqlite")),
        ("redis://:word@host:6379/0", StateSetting::Redis("redis://:word@host:6379/0".into())),
    ] {
        let arguments = Arguments { state: Some(text.into()), ..Arguments::default() };
        let settings = Settings::resolve(arguments, machine(&[])).expect(text);
        assert_eq!(settings.state, state, "{text}");
    }
    // In a file, a path starts where the file is, wherever the process runs.
    let file_text = ConfigFile { path: "/etc/q/quotaflow.yaml".into(), text: "state: q.db".into() };
    let sources = Sources { file: Some(file_text), ..machine(&[]) };
    let settings = Settings::resolve(Arguments::default(), sources).expect("settings");
    assert_eq!(settings.state, file("/etc/q/q.db"));
}

#[test]
fn without_a_cache_folder_the_state_must_be_said() {
    let sources = || Sources { cache_folder: None, ..machine(&[]) };
    let error = Settings::resolve(Arguments::default(), sources()).expect_err("no place");
    assert_eq!(error.path, "state");
    let arguments = Arguments { state: Some("memory".into()), ..Arguments::default() };
    assert!(Settings::resolve(arguments, sources()).is_ok());
}

#[test]
fn a_server_of_ones_own_may_speak_another_dialect() {
    let config = json!({"providers": {
        "mine": {"base_url": "http://127.0.0.1:1", "dialect": "anthropic"},
        "opnai": {"base_url": "http://127.0.0.1:1"},
    }});
    let settings = with_config(config, &[("ANTHROPIC_API_KEY", "sk-test")]).expect("settings");
    let mine = &settings.providers["mine"];
    assert_eq!((mine.provider.dialect, mine.provider.needs_key), (Dialect::Anthropic, false));
    // Another server never gets the vendor's key.
    assert!(mine.keys.is_empty());
    assert!(settings.warnings[0].contains("if you meant openai"), "{:?}", settings.warnings);
}

#[test]
fn a_provider_is_asked_in_another_dialect_it_speaks() {
    let config = json!({"providers": {
        "openai": {"dialect": "responses"},
        "xai": {"dialect": "Responses", "base_url": "http://127.0.0.1:2/v1"},
        "deepseek": {"dialect": "openai"},
        "mine": {"base_url": "http://127.0.0.1:1", "dialect": "responses"},
    }});
    let settings = with_config(config, &[("OPENAI_API_KEY", "sk-test")]).expect("settings");
    let dialect = |name: &str| settings.providers[name].provider.dialect;
    assert_eq!((dialect("openai"), dialect("xai")), (Dialect::Responses, Dialect::Responses));
    assert_eq!((dialect("azure"), dialect("deepseek")), (Dialect::OpenAi, Dialect::OpenAi));
    assert_eq!(settings.providers["openai"].keys.len(), 1);
    assert_eq!(settings.providers["xai"].provider.base_url, "http://127.0.0.1:2/v1");
    let mine = &settings.providers["mine"].provider;
    assert_eq!((mine.dialect, mine.needs_key), (Dialect::Responses, false));

    let refused = |name: &str, dialect: &str| {
        with_config(json!({"providers": {name: {"dialect": dialect}}}), &[]).unwrap_err()
    };
    let wrong = refused("anthropic", "responses").to_string();
    assert!(wrong.contains("anthropic") && wrong.contains("speaks its own dialect"), "{wrong}");
    let wrong = refused("openai", "response").to_string();
    assert!(wrong.contains("did you mean `responses`?"), "{wrong}");
}

#[test]
fn ollama_is_asked_in_its_own_dialect_at_home_and_elsewhere() {
    let config = json!({"providers": {
        "ollama": {"dialect": "ollama", "base_url": "http://gpu:11434"},
        "mine": {"base_url": "http://10.0.0.1:11434/api", "dialect": "Ollama"},
    }});
    let settings = with_config(config, &[("OLLAMA_API_KEY", "some-key-1")]).expect("settings");
    let known = &settings.providers["ollama"];
    assert_eq!((known.provider.dialect, known.keys.len()), (Dialect::Ollama, 1));
    assert_eq!(known.provider.base_url, "http://gpu:11434");
    let mine = &settings.providers["mine"];
    assert_eq!((mine.provider.dialect, mine.provider.needs_key), (Dialect::Ollama, false));
    assert_eq!(
        (mine.provider.base_url.as_str(), mine.keys.len()),
        ("http://10.0.0.1:11434/api", 0)
    );
    // It refuses as Ollama does, and costs as much.
    assert!(mine.provider.refusal_rows().contains(&"ollama-busy") && mine.provider.is_local());
    // Unasked it speaks OpenAI's.
    let usual = with_config(json!({}), &[]).expect("settings");
    assert_eq!(usual.providers["ollama"].provider.dialect, Dialect::OpenAi);
    let wrong =
        with_config(json!({"providers": {"vllm": {"dialect": "ollama"}}}), &[]).unwrap_err();
    assert!(wrong.to_string().contains("speaks its own dialect"), "{wrong}");
}

#[test]
fn azures_address_and_version_come_from_the_environment_unless_they_are_stated() {
    const ENDPOINT: (&str, &str) = ("AZURE_OPENAI_ENDPOINT", "https://r.openai.azure.com/");
    let azure = |config: Value, variables: &[(&str, &str)]| {
        let mut settings = with_config(config, variables).unwrap();
        (settings.providers.remove("azure").unwrap().provider, settings.warnings)
    };
    let (found, _) = azure(json!({}), &[ENDPOINT, ("OPENAI_API_VERSION", "2025-01-01-preview")]);
    assert_eq!(found.base_url, "https://r.openai.azure.com");
    assert_eq!(found.api_version.as_deref(), Some("2025-01-01-preview"));

    let stated =
        json!({"providers": {"azure": {"base_url": "https://other.example.com/openai/v1"}}});
    let (found, _) = azure(stated, &[ENDPOINT]);
    assert_eq!(found.base_url, "https://other.example.com/openai/v1");
    assert_eq!(found.api_version.as_deref(), Some("2024-10-21"));

    let wrong = [("AZURE_OPENAI_ENDPOINT", "r.openai.azure.com"), ("OPENAI_API_VERSION", "a&b=c")];
    let (found, warnings) = azure(json!({}), &wrong);
    assert_eq!((found.base_url.as_str(), found.api_version.as_deref()), ("", Some("2024-10-21")));
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("AZURE_OPENAI_ENDPOINT is ignored"), "{warnings:?}");
}
