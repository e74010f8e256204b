//! Tests of API keys in a config.

use serde_json::json;

use super::*;

fn openai(variables: &[(&str, &str)]) -> (Vec<KeySettings>, Vec<String>) {
    let mut settings = with_config(json!({}), variables).expect("settings");
    (settings.providers.remove("openai").expect("openai").keys, settings.warnings)
}

#[test]
fn every_spelling_in_the_environment_is_found_in_order() {
    let (keys, warnings) = openai(&[
        ("OPENAI_API_KEYS", "sk-test-6, sk-test-7,"),
        ("OPENAI_API_KEY_BACKUP_1", "sk-test-4"),
        ("OPENAI_API_KEY_BACKUP_2", "sk-test-5"),
        ("OPENAI_API_KEY_10", "sk-test-3"),
        ("OPENAI_API_KEY_2", "sk-test-2"),
        ("OPENAI_API_KEY", "sk-test-1"),
        ("OPENAI_API_KEY_FILE", "/run/key"),
        ("MY_OPENAI_API_KEY", "sk-test-8"),
    ]);
    assert_eq!(
        shown(&keys),
        [
            ("OPENAI_API_KEY", "sk-test-1"),
            ("OPENAI_API_KEY_2", "sk-test-2"),
            ("OPENAI_API_KEY_10", "sk-test-3"),
            ("OPENAI_API_KEY_BACKUP_1", "sk-test-4"),
            ("OPENAI_API_KEY_BACKUP_2", "sk-test-5"),
            ("OPENAI_API_KEYS #1", "sk-test-6"),
            ("OPENAI_API_KEYS #2", "sk-test-7"),
        ]
    );
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn gemini_looks_under_both_its_names_and_a_server_of_ones_own_under_its_own() {
    let config = json!({"providers": {"my-box": {"base_url": "http://127.0.0.1:8000/v1/"}}});
    let variables = [("GOOGLE_API_KEY", "g-2"), ("GEMINI_API_KEY", "g-1"), ("MY_BOX_API_KEY", "b")];
    let settings = with_config(config, &variables).expect("settings");
    let labels = |name: &str| shown(&settings.providers[name].keys);
    assert_eq!(labels("gemini"), [("GEMINI_API_KEY", "g-1"), ("GOOGLE_API_KEY", "g-2")]);
    assert_eq!(labels("my-box"), [("MY_BOX_API_KEY", "b")]);
    assert_eq!(settings.providers["my-box"].provider.base_url, "http://127.0.0.1:8000/v1");
    assert_eq!(settings.key_names_looked_for("my-box")[0], "MY_BOX_API_KEY");
    assert_eq!(settings.key_names_looked_for("google").len(), 8);
    assert!(settings.key_names_looked_for("nobody").is_empty());
}

#[test]
fn equal_keys_are_one_empty_ones_none_and_space_is_cut_with_a_warning() {
    let (keys, warnings) = openai(&[
        ("OPENAI_API_KEY", " sk-test-1\n"),
        ("OPENAI_API_KEY_2", "sk-test-1"),
        ("OPENAI_API_KEY_3", "  "),
    ]);
    assert_eq!(shown(&keys), [("OPENAI_API_KEY", "sk-test-1")]);
    assert_eq!(
        warnings,
        [
            "OPENAI_API_KEY has space around the key: it is left out",
            "OPENAI_API_KEY_2 holds the same key as OPENAI_API_KEY: they count as one",
            "OPENAI_API_KEY_3 is set but empty: it is ignored",
        ]
    );
}

#[test]
fn a_key_that_no_header_can_hold_is_an_error_with_its_label() {
    for (key, what) in [
        ("sk-test\n-1", "a line break"),
        ("sk-test -1", "a space"),
        ("sk-test\u{7}-1", "a control character"),
        ("sk-test-\u{e9}", "a character that no key has"),
    ] {
        let error = with_config(json!({}), &[("OPENAI_API_KEY_2", key)]).expect_err(key);
        assert_eq!(error.path, "OPENAI_API_KEY_2");
        assert!(error.message.contains(what) && !error.to_string().contains("sk-test"), "{error}");
    }
}

#[test]
fn keys_given_directly_are_numbered_and_references_keep_their_names() {
    let keys = json!({"openai": [
        "sk-test-1",
        "$MINE",
        {"env": "OPENAI_API_KEY", "group": "org-a"},
        {"key": "sk-test-4", "label": "work", "limits": {"rpm": 5}},
        "${not_in_capitals}",
    ], "anthropic": "sk-ant-test"});
    let variables =
        [("MINE", "sk-test-2"), ("OPENAI_API_KEY", "sk-test-3"), ("not_in_capitals", "sk-test-5")];
    let arguments = Arguments { keys: Some(keys), ..Arguments::default() };
    let settings = Settings::resolve(arguments, machine(&variables)).expect("settings");
    let openai = &settings.providers["openai"].keys;
    assert_eq!(
        shown(openai),
        [
            ("openai key 1", "sk-test-1"),
            ("MINE", "sk-test-2"),
            ("OPENAI_API_KEY", "sk-test-3"),
            ("work", "sk-test-4"),
            ("not_in_capitals", "sk-test-5"),
        ]
    );
    assert_eq!(openai[2].group.as_deref(), Some("org-a"));
    assert_eq!(openai[3].limits.as_ref().map(Vec::len), Some(1));
    assert_eq!(shown(&settings.providers["anthropic"].keys), [("anthropic key 1", "sk-ant-test")]);
}

#[test]
fn a_reference_to_nothing_is_a_warning_and_is_remembered() {
    let keys = Some(json!({"openai": "$MY_KEY"}));
    let arguments = Arguments { keys, ..Arguments::default() };
    let settings = Settings::resolve(arguments, machine(&[("OPENAI_API_KEY", "x")])).expect("ok");
    assert!(settings.providers["openai"].keys.is_empty());
    assert_eq!(settings.key_names_looked_for("openai"), ["MY_KEY"]);
    assert!(settings.warnings[0].contains("MY_KEY is named as a key of openai at keys.openai"));
}

#[test]
fn a_name_without_its_dollar_sign_is_not_taken_for_a_key() {
    let error = with_config(json!({"providers": {"openai": {"keys": ["OPENAI_API_KEY"]}}}), &[]);
    let error = error.expect_err("a name");
    assert_eq!(error.path, "providers.openai.keys[0]");
    assert!(error.hint.expect("a hint").contains("$NAME"));
}

#[test]
fn two_different_keys_may_not_share_a_label() {
    let keys = json!([{"key": "a-1", "label": "work"}, {"key": "a-2", "label": "work"}]);
    let error = with_config(json!({"providers": {"openai": {"keys": keys}}}), &[]);
    let error = error.expect_err("one label twice");
    assert_eq!(error.path, "providers.openai.keys[1].key");
    assert!(error.message.contains("called work"), "{error}");
}
