//! Tests of routing strategies and local servers.

use serde_json::json;

use super::*;
use crate::config::{LocalTargets, ProviderSettings, Strategy};
use crate::providers::Provider;

#[test]
fn a_strategy_is_read_and_the_default_is_the_written_order() {
    let read =
        |strategy: Value| with_config(json!({"strategy": strategy}), &[]).expect("ok").strategy;
    assert_eq!(read(json!({})), Strategy::default());
    let usual =
        Strategy { local: LocalTargets::AsWritten, fallback_to_api: true, cost_optimized: false };
    assert_eq!(read(json!(null)), usual);
    assert_eq!(
        read(json!({"use_local_first": true})),
        Strategy { local: LocalTargets::First, ..usual }
    );
    assert_eq!(
        read(json!({"use_local_first": false, "local_last": true})).local,
        LocalTargets::Last
    );
    let frugal = json!({"fallback_to_api": false, "cost_optimized": true});
    assert_eq!(read(frugal), Strategy { fallback_to_api: false, cost_optimized: true, ..usual });
}

#[test]
fn a_wrong_strategy_names_its_place() {
    for (strategy, path, words) in [
        (json!({"use_local_frist": true}), "strategy.use_local_frist", "`use_local_first`"),
        (json!({"prefer_local": true}), "strategy.prefer_local", "`use_local_first`"),
        (
            json!({"use_local_first": "yes"}),
            "strategy.use_local_first",
            "true or false, found a text",
        ),
        (json!({"fallback_to_api": 1}), "strategy.fallback_to_api", "true or false"),
        (json!({"use_local_first": true, "local_last": true}), "strategy", "both first and last"),
        (json!("local"), "strategy", "a table"),
    ] {
        let error = with_config(json!({"strategy": strategy}), &[]).expect_err(path);
        assert_eq!(error.path, path);
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_server_is_local_when_its_host_is_of_this_machine_or_network() {
    for (url, local) in [
        ("http://127.0.0.1:11434/v1", true),
        ("http://127.9.9.9/v1", true),
        ("http://0.0.0.0:8000", true),
        ("http://LOCALHOST:8000", true),
        ("http://[::1]:8000/v1", true),
        ("http://[fd00::7]/v1", true),
        ("http://[fe80::1]/v1", true),
        ("http://10.1.2.3/v1", true),
        ("http://172.16.0.1/v1", true),
        ("http://172.31.255.255/v1", true),
        ("http://192.168.178.20/v1", true),
        ("http://169.254.1.1/v1", true),
        ("http://studio.local:1234/v1", true),
        ("http://studio.local.:1234/v1", true),
        ("http://host.docker.internal/v1", true),
        ("http://ollama:11434/v1", true),
        ("http://172.32.0.1/v1", false),
        ("http://11.0.0.1/v1", false),
        ("http://[2001:db8::1]/v1", false),
        ("https://api.openai.com/v1", false),
        ("https://local.example.com/v1", false),
        ("https://localhost.example.com", false),
        ("https://127.0.0.1.example.com/v1", false),
    ] {
        let settings = ProviderSettings::unconfigured(Provider::compatible("box", url));
        assert_eq!(settings.is_local(), local, "{url}");
    }
    let settings = with_config(json!({}), &[]).expect("settings");
    let local: Vec<_> = settings.providers.values().filter(|known| known.is_local()).collect();
    assert!(local.iter().all(|known| !known.provider.needs_key) && !local.is_empty());
}
