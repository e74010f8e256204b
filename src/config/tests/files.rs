//! Tests of config files: search order and three formats.

use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::config::{ConfigFile, Places};

const YAML: &str = r#"
# one shape, three formats
providers:
  openai:
    keys: ["$MINE", {env: OTHER, group: org-a}]
    base_url: http://127.0.0.1:8000/v1
    limits: {rpm: 60, tpm: 1e5, rpd: {amount: 200, refill: calendar, zone: UTC}}
models:
  default: {provider: openai, model: gpt-4o, temperature: 0.5, stop: ["a", "b"]}
  fallback: [{provider: gemini, model: gemini-2.0-flash}]
state: memory
retry: {max_retries: 2, retry_delay: 0.25}
"#;

const TOML: &str = r#"
state = "memory"
[providers.openai]
keys = ["$MINE", {env = "OTHER", group = "org-a"}]
base_url = "http://127.0.0.1:8000/v1"
limits = {rpm = 60, tpm = 100_000, rpd = {amount = 200, refill = "calendar", zone = "UTC"}}
[models]
default = {provider = "openai", model = "gpt-4o", temperature = 0.5, stop = ["a", "b"]}
fallback = [{provider = "gemini", model = "gemini-2.0-flash"}]
[retry]
max_retries = 2
retry_delay = 0.25
"#;

const JSON: &str = r#"{
  "providers": {"openai": {
    "keys": ["$MINE", {"env": "OTHER", "group": "org-a"}],
    "base_url": "http://127.0.0.1:8000/v1",
    "limits": {"rpm": 60, "tpm": 100000, "rpd": {"amount": 200, "refill": "calendar", "zone": "UTC"}}
  }},
  "models": {
    "default": {"provider": "openai", "model": "gpt-4o", "temperature": 0.5, "stop": ["a", "b"]},
    "fallback": [{"provider": "gemini", "model": "gemini-2.0-flash"}]
  },
  "state": "memory",
  "retry": {"max_retries": 2, "retry_delay": 0.25}
}"#;

fn from_text(name: &str, text: &str) -> Result<Settings, ConfigError> {
    let file = Some(ConfigFile { path: name.into(), text: text.into() });
    let variables = [("MINE", "sk-test-1"), ("OTHER", "sk-test-2")];
    Settings::resolve(Arguments::default(), Sources { file, ..machine(&variables) })
}

#[test]
fn three_formats_say_the_same() {
    let [yaml, toml, json] = [("q.yaml", YAML), ("q.toml", TOML), ("q.json", JSON)]
        .map(|(name, text)| from_text(name, text).expect(name));
    for other in [toml, json] {
        assert_eq!(format!("{yaml:?}"), format!("{other:?}"));
        assert_eq!(yaml.routes, other.routes);
        assert_eq!(yaml.providers["openai"].keys, other.providers["openai"].keys);
    }
    assert_eq!(
        shown(&yaml.providers["openai"].keys),
        [("MINE", "sk-test-1"), ("OTHER", "sk-test-2")]
    );
    assert_eq!(yaml.providers["openai"].limits.len(), 3);
    assert_eq!(json!(yaml.routes.default.expect("one").params["temperature"]), json!(0.5));
}

#[test]
fn an_empty_file_is_an_empty_config_and_a_broken_one_says_where() {
    for (name, text) in
        [("a.yaml", "# nothing\n"), ("a.toml", ""), ("a.json", " \n"), ("a.yml", "\u{feff}")]
    {
        assert!(from_text(name, text).is_ok(), "{name}");
    }
    for (name, text, message) in [
        ("a.yaml", "state: memory\nproviders: [sk-planted", "not YAML: line 2"),
        ("a.yaml", "state: memory\nstate: sk-planted\n", "not YAML: line 2"),
        ("a.toml", "a = 1\nb = \"sk-planted\n", "not TOML: line 2"),
        ("a.json", "{\n\"a\": sk-planted}", "not JSON: line 2"),
        ("a.ini", "a = sk-planted", "which format"),
    ] {
        let error = from_text(name, text).expect_err(text);
        assert!(error.message.contains(message), "{error}");
        assert_eq!(error.file.as_deref(), Some(Path::new(name)));
        assert!(!format!("{error:?} {error}").contains("planted"), "{error}");
    }
}

#[test]
fn nan_in_a_file_is_refused() {
    for (name, text) in [
        ("a.yaml", "providers: {openai: {limits: {rpm: .nan}}}"),
        ("a.yaml", "providers: {openai: {limits: {rpm: .inf}}}"),
        ("a.toml", "[providers.openai.limits]\nrpm = nan"),
    ] {
        let error = from_text(name, text).expect_err(text);
        assert_eq!(error.path, "providers.openai.limits.rpm");
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("{name}: providers.openai.limits.rpm: expected a ")),
            "{text}"
        );
    }
}

fn places(folder: &TempDir, variables: &[(&str, &str)]) -> Places {
    let at = |name: &str| folder.path().join(name);
    for name in ["work", "config/quotaflow"] {
        fs::create_dir_all(at(name)).expect("a folder");
    }
    Places {
        working_folder: at("work"),
        config_folder: Some(at("config")),
        cache_folder: Some(at("cache")),
        home: Some(folder.path().to_owned()),
        environment: machine(variables).environment,
    }
}

#[test]
fn the_config_is_searched_in_its_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let found = |variables: &[(&str, &str)], argument: Option<&str>| {
        let argument = argument.map(|path| ConfigArgument::Path(path.into()));
        let sources = Sources::gather_at(places(&folder, variables), argument.as_ref());
        let sources = sources.expect("sources");
        let name = sources.file.map(|file| file.path);
        (name.and_then(|path| Some(path.file_name()?.to_str()?.to_owned())), sources.warnings)
    };
    let nothing: Vec<String> = Vec::new();
    let write = |name: &str| fs::write(folder.path().join(name), "{}").expect("a file");
    let name = |name: &str| Some(name.to_owned());

    assert_eq!(found(&[], None), (None, nothing.clone()));
    write("config/quotaflow/config.toml");
    assert_eq!(found(&[], None), (name("config.toml"), nothing.clone()));
    write("work/quotaflow.json");
    assert_eq!(found(&[], None), (name("quotaflow.json"), nothing.clone()));
    write("work/quotaflow.yaml");
    let (first, warnings) = found(&[], None);
    assert_eq!(first, name("quotaflow.yaml"));
    assert!(warnings[0].contains("quotaflow.json is not read"), "{warnings:?}");
    write("named.yaml");
    assert_eq!(
        found(&[("QUOTAFLOW_CONFIG", "~/named.yaml")], None),
        (name("named.yaml"), nothing.clone())
    );
    write("work/argument.yaml");
    let both = found(&[("QUOTAFLOW_CONFIG", "~/named.yaml")], Some("argument.yaml"));
    assert_eq!(both, (name("argument.yaml"), nothing));
}

#[test]
fn a_named_config_that_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let argument = ConfigArgument::Path("none.yaml".into());
    let error = Sources::gather_at(places(&folder, &[]), Some(&argument)).expect_err("no file");
    assert!(error.message.contains("no such file"), "{error}");
    assert!(error.file.expect("its name").ends_with("work/none.yaml"));
    let places = places(&folder, &[("QUOTAFLOW_CONFIG", "none.yaml")]);
    let error = Sources::gather_at(places, None).expect_err("no file");
    assert!(error.hint.expect("a hint").contains("QUOTAFLOW_CONFIG"));
}

#[test]
fn a_dotenv_fills_in_what_the_environment_does_not_have() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "\u{feff}# keys\nOPENAI_API_KEY=from-file\nexport GROQ_API_KEY='g-1' # mine\nsk-planted line\n\
                OPENAI_API_KEY_2=\"second\"\nANTHROPIC_API_KEY=a-1\n";
    let places = places(&folder, &[("OPENAI_API_KEY", "from-process"), ("ANTHROPIC_API_KEY", "")]);
    fs::write(places.working_folder.join(".env"), text).expect("a file");
    let sources = Sources::gather_at(places, None).expect("sources");
    let settings = Settings::resolve(Arguments::default(), sources).expect("settings");
    assert_eq!(
        shown(&settings.providers["openai"].keys),
        [("OPENAI_API_KEY", "from-process"), ("OPENAI_API_KEY_2", "second")]
    );
    assert_eq!(shown(&settings.providers["groq"].keys), [("GROQ_API_KEY", "g-1")]);
    // Set and empty is a word of the user's, too.
    assert!(settings.providers["anthropic"].keys.is_empty());
    assert!(settings.warnings.iter().any(|warning| warning.contains("not NAME=value")));
    assert!(!format!("{:?}", settings.warnings).contains("planted"));
}

#[test]
fn a_reference_looks_into_the_environment_before_the_dotenv() {
    let mut sources = machine(&[("MINE", "from-process")]);
    for (name, value) in [("MINE", "from-file"), ("OTHER", "from-file-2")] {
        sources.dotenv.insert(name.into(), value.into());
    }
    let keys = Some(json!({"openai": ["$MINE", "$OTHER"]}));
    let settings = Settings::resolve(Arguments { keys, ..Arguments::default() }, sources);
    let settings = settings.expect("settings");
    assert_eq!(
        shown(&settings.providers["openai"].keys),
        [("MINE", "from-process"), ("OTHER", "from-file-2")]
    );
}
