//! Tests that no key is shown, even from the wrong place.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::ConfigFile;

const PLANTED: &str = "sk-test-planted";

fn assert_hidden(text: &str, wherefrom: &str) {
    assert!(!text.contains("planted"), "{wherefrom}: {text}");
}

/// Resolves, and looks for the planted key in everything that can be printed.
fn look(arguments: Arguments, sources: Sources, wherefrom: &str) -> Result<(), ConfigError> {
    assert_hidden(&format!("{arguments:?} {arguments:#?} {sources:?}"), wherefrom);
    if let Some(config) = &arguments.config {
        assert_hidden(&format!("{config:?}"), wherefrom);
    }
    match Settings::resolve(arguments, sources) {
        Ok(settings) => {
            assert_hidden(&format!("{settings:?} {settings:#?}"), wherefrom);
            Ok(())
        }
        Err(error) => {
            assert_hidden(&format!("{error} {error:?} {error:#?}"), wherefrom);
            Err(error)
        }
    }
}

#[test]
fn a_key_in_its_right_place_is_not_shown() {
    let keys = Some(json!({"openai": [PLANTED, {"key": "sk-test-planted-2", "label": "work"}]}));
    look(Arguments { keys, ..Arguments::default() }, machine(&[]), "arguments").expect("settings");
    let variables = [("OPENAI_API_KEY", PLANTED), ("OPENAI_API_KEY_2", "sk-test-planted ")];
    look(Arguments::default(), machine(&variables), "environment").expect("settings");
    let text = format!("providers: {{openai: {{keys: [{PLANTED}]}}}}");
    let file = Some(ConfigFile { path: "q.yaml".into(), text: text.into() });
    look(Arguments::default(), Sources { file, ..machine(&[]) }, "file").expect("settings");
    let default = json!({"model": "gpt-4o", "key": PLANTED, "backup_keys": ["sk-test-planted-2"]});
    let config = Some(ConfigArgument::Value(json!({"models": {"default": default}})));
    look(Arguments { config, ..Arguments::default() }, machine(&[]), "models").expect("settings");
    let state = Some("redis://:planted@host/0".to_owned());
    look(Arguments { state, ..Arguments::default() }, machine(&[]), "redis").expect("settings");
}

#[test]
fn a_key_in_the_wrong_place_is_refused_and_not_shown() {
    let places: Vec<Value> = vec![
        json!({"keys": PLANTED}),
        json!({"keys": {PLANTED: "openai"}}),
        json!({"keys": {"openai": {"ky": PLANTED}}}),
        json!({"keys": {"openai": {PLANTED: 1}}}),
        json!({"keys": {"openai": {"key": {"value": PLANTED}}}}),
        json!({"keys": {"openai": {"env": PLANTED}}}),
        json!({"keys": {"openai": "$sk-test-planted"}}),
        json!({"keys": {"openai": {"key": PLANTED, "label": PLANTED}}}),
        json!({"keys": {"openai": {"key": "planted-key", "label": "planted-key"}}}),
        json!({"keys": {"openai": {"key": PLANTED, "group": PLANTED}}}),
        json!({"keys": {"openai": "sk-test planted"}}),
        json!({"keys": {"openai": [[PLANTED]]}}),
        json!({"keys": {"openai": {"key": PLANTED, "limits": {PLANTED: 1}}}}),
        json!({"limits": {"openai": {"rpm": PLANTED}}}),
        json!({"limits": {"openai": {PLANTED: 1}}}),
        json!({"limits": {"openai": {"models": {PLANTED: {"rpm": 1}}}}}),
        json!({"limits": {"openai": {"rpm": {"amount": 1, "refill": PLANTED}}}}),
        json!({"limits": {"gemini": {"rpd": {"amount": 1, "zone": PLANTED}}}}),
        json!({"base_urls": {"openai": PLANTED}}),
        json!({"base_urls": {"openai": "https://planted@host/v1"}}),
        json!({"base_urls": {PLANTED: "https://host/v1"}}),
        json!({"state": PLANTED}),
        json!({"config": {PLANTED: 1}}),
        json!({"config": {"providers": {PLANTED: {}}}}),
        json!({"config": {"providers": {"openai": {"api_key": PLANTED}}}}),
        json!({"config": {"providers": {"openai": {"keys": [{"ky": PLANTED}]}}}}),
        json!({"config": {"providers": {"openai": {"default_model": PLANTED}}}}),
        json!({"config": {"providers": {"openai": {"dialect": PLANTED}}}}),
        json!({"config": {"models": {"default": {"model": "gpt-4o", "key": "sk-test planted"}}}}),
        json!({"config": {"models": {"default": {"model": "gpt-4o", "backup_keys": ["planted_"]}}}}),
        json!({"config": {"models": {"default": {"model": "gpt-4o"}}, PLANTED: {}}}),
        json!({"config": {"models": {"default": {"model": "gpt-4o", "secret": PLANTED}}}}),
        json!({"config": {"models": {"default": {"model": "gpt-4o", "x": PLANTED}}}}),
        json!({"config": {"models": {"default": {"model": "gpt-4o", "tools": {"x": [PLANTED]}}}}}),
        json!({"config": {"models": {"default": {"model": "gpt-4o", PLANTED: 1}}}}),
        json!({"config": {"models": {"default": {"provider": PLANTED, "model": "m"}}}}),
        json!({"config": {"models": {"default": {"provider": "openai", "model": PLANTED}}}}),
        json!({"config": {"models": {PLANTED: {"model": "gpt-4o"}}}}),
        json!({"config": {"state": PLANTED}}),
    ];
    for given in places {
        let argument = |name: &str| given.get(name).cloned();
        let arguments = Arguments {
            config: argument("config").map(ConfigArgument::Value),
            keys: argument("keys"),
            limits: argument("limits"),
            base_urls: argument("base_urls"),
            state: argument("state").and_then(|state| state.as_str().map(str::to_owned)),
            others: false,
        };
        let wherefrom = given.to_string();
        look(arguments, machine(&[]), &wherefrom).expect_err(&wherefrom);
    }
}

#[test]
fn a_key_in_place_of_the_config_path_is_not_shown() {
    let argument = ConfigArgument::Path(PLANTED.into());
    assert_hidden(&format!("{argument:?}"), "the argument");
    let places = crate::config::Places {
        working_folder: "/nowhere".into(),
        config_folder: None,
        cache_folder: None,
        home: None,
        environment: machine(&[("OPENAI_API_KEY", PLANTED)]).environment,
    };
    assert_hidden(&format!("{places:?}"), "the places");
    let error = Sources::gather_at(places, Some(&argument)).expect_err("not a path");
    assert_hidden(&format!("{error} {error:?}"), "the error");
}

#[test]
fn parameters_of_a_target_are_shown_by_name_only() {
    let config = json!({"models": {"default": {"model": "gpt-4o", "user": "planted person"}}});
    let settings = with_config(config, &[]).expect("settings");
    let text = format!("{:?}", settings.routes);
    assert!(text.contains("user") && !text.contains("planted"), "{text}");
}

/// Names that mean something somewhere, so that random trees get deep into the reading.
const NAMES: [&str; 24] = [
    "providers",
    "models",
    "openai",
    "google",
    "keys",
    "key",
    "env",
    "label",
    "limits",
    "rpm",
    "rpd",
    "amount",
    "refill",
    "zone",
    "default",
    "fallback",
    "provider",
    "model",
    "base_url",
    "backup_keys",
    "state",
    "retry",
    "user",
    PLANTED,
];

fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(PLANTED)),
        Just(json!(null)),
        Just(json!("openai")),
        Just(json!("gpt-4o")),
        Just(json!("http://host/v1")),
        any::<i64>().prop_map(|number| json!(number)),
        any::<f64>().prop_map(|number| json!(number)),
    ];
    let name = prop::sample::select(NAMES.to_vec()).prop_map(str::to_owned);
    leaf.prop_recursive(5, 24, 4, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            4 => prop::collection::btree_map(name.clone(), inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn no_tree_at_all_breaks_the_reader_or_shows_the_key(config in tree(), more in tree()) {
        let wherefrom = format!("{config} {more}");
        let openai = |value: &Value| Some(json!({ "openai": value }));
        let as_config = |config| Arguments { config: Some(ConfigArgument::Value(config)), ..Arguments::default() };
        for arguments in [
            as_config(config.clone()),
            as_config(json!({"providers": {"openai": config}, "models": {"default": more}})),
            Arguments { keys: openai(&more), ..Arguments::default() },
            Arguments { limits: openai(&more), ..Arguments::default() },
            Arguments { base_urls: Some(more.clone()), ..Arguments::default() },
        ] {
            // Right or wrong is for the tables above; here only that nothing shows and nothing breaks.
            let _ = look(arguments, machine(&[]), &wherefrom);
        }
    }
}
