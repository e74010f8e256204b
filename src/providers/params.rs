//! Validation of call parameters against a provider.

use serde_json::{Map, Value};

use super::catalogue::Dialect;
use super::provider::Provider;
use super::redact;
use super::wire::InvalidRequest;

/// What a parameter has to be.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A number between the two.
    Number(f64, f64),
    /// A whole number between the two.
    Whole(i64, i64),
    Bool,
    Text,
    Object,
    /// A text or a list of texts, at most that many.
    Texts(usize),
    Objects,
    TextOrObject,
    BoolOrText,
    TextOrNumber,
    /// Anything JSON can say.
    Anything,
    /// Only this value: saying more is not offered here.
    Only(&'static str),
}

const OPENAI: u8 = 1;
const ANTHROPIC: u8 = 2;
const GEMINI: u8 = 4;
const RESPONSES: u8 = 8;
const OLLAMA: u8 = 16;
const ALL: u8 = OPENAI | ANTHROPIC | GEMINI | RESPONSES | OLLAMA;

/// More tokens than any model writes.
const MOST_TOKENS: i64 = 10_000_000;

/// Name, who takes it, what it has to be. The first row that fits the provider holds.
const PARAMETERS: [(&str, u8, Kind); 56] = [
    ("temperature", ANTHROPIC, Kind::Number(0.0, 1.0)),
    ("temperature", ALL, Kind::Number(0.0, 2.0)),
    ("top_p", ALL, Kind::Number(0.0, 1.0)),
    ("top_k", OPENAI | ANTHROPIC | GEMINI | OLLAMA, Kind::Whole(0, 1_000_000)),
    ("max_tokens", ALL, Kind::Whole(1, MOST_TOKENS)),
    ("max_completion_tokens", ALL, Kind::Whole(1, MOST_TOKENS)),
    ("stop", OPENAI | ANTHROPIC | GEMINI | OLLAMA, Kind::Texts(64)),
    ("seed", OPENAI | GEMINI | OLLAMA, Kind::Whole(i64::MIN, i64::MAX)),
    ("presence_penalty", OPENAI | GEMINI | OLLAMA, Kind::Number(-2.0, 2.0)),
    ("frequency_penalty", OPENAI | GEMINI | OLLAMA, Kind::Number(-2.0, 2.0)),
    ("repetition_penalty", OPENAI | OLLAMA, Kind::Number(0.0, 2.0)),
    ("min_p", OPENAI | OLLAMA, Kind::Number(0.0, 1.0)),
    ("top_a", OPENAI, Kind::Number(0.0, 1.0)),
    ("n", ALL, Kind::Only("1")),
    ("stream", ALL, Kind::Only("false")),
    ("tools", ALL, Kind::Objects),
    ("tool_choice", ALL, Kind::TextOrObject),
    ("parallel_tool_calls", OPENAI | ANTHROPIC | RESPONSES, Kind::Bool),
    ("response_format", ALL, Kind::Object),
    ("logit_bias", OPENAI, Kind::Object),
    ("logprobs", OPENAI | GEMINI | RESPONSES, Kind::Bool),
    ("top_logprobs", OPENAI | GEMINI | RESPONSES, Kind::Whole(0, 20)),
    ("user", OPENAI | ANTHROPIC | RESPONSES, Kind::Text),
    ("metadata", OPENAI | ANTHROPIC | RESPONSES, Kind::Object),
    ("service_tier", OPENAI | ANTHROPIC | RESPONSES, Kind::Text),
    ("reasoning_effort", OPENAI | RESPONSES | OLLAMA, Kind::Text),
    ("reasoning_format", OPENAI, Kind::Text),
    ("reasoning", OPENAI | RESPONSES, Kind::Object),
    ("include_reasoning", OPENAI, Kind::Bool),
    ("verbosity", OPENAI | RESPONSES, Kind::Text),
    ("store", OPENAI | RESPONSES, Kind::Bool),
    ("prompt_cache_key", OPENAI | RESPONSES, Kind::Text),
    ("prompt_cache_retention", OPENAI | RESPONSES, Kind::Text),
    ("prompt_cache_options", OPENAI | RESPONSES, Kind::Object),
    ("safety_identifier", OPENAI | RESPONSES, Kind::Text),
    ("prediction", OPENAI, Kind::Object),
    ("web_search_options", OPENAI, Kind::Object),
    ("modalities", OPENAI, Kind::Anything),
    ("models", OPENAI | RESPONSES, Kind::Texts(16)),
    ("provider", OPENAI | RESPONSES, Kind::Object),
    ("plugins", OPENAI | RESPONSES, Kind::Objects),
    ("transforms", OPENAI, Kind::Texts(16)),
    ("usage", OPENAI, Kind::Object),
    ("thinking", ANTHROPIC, Kind::Object),
    ("thinking_config", GEMINI, Kind::Object),
    ("safety_settings", GEMINI, Kind::Objects),
    ("cached_content", GEMINI, Kind::Text),
    ("include", RESPONSES, Kind::Texts(16)),
    ("truncation", RESPONSES, Kind::Text),
    ("max_tool_calls", RESPONSES, Kind::Whole(1, 1_000_000)),
    ("previous_response_id", RESPONSES, Kind::Text),
    ("options", OLLAMA, Kind::Object),
    ("num_ctx", OLLAMA, Kind::Whole(1, MOST_TOKENS)),
    ("think", OLLAMA, Kind::BoolOrText),
    ("keep_alive", OLLAMA, Kind::TextOrNumber),
    ("extra_body", ALL, Kind::Object),
];

/// What only one provider of a dialect takes: name, provider, what it has to be.
const OF_ONE: [(&str, &str, Kind); 6] = [
    ("random_seed", "mistral", Kind::Whole(0, i64::MAX)),
    ("safe_prompt", "mistral", Kind::Bool),
    ("prompt_mode", "mistral", Kind::Text),
    ("thinking", "deepseek", Kind::Object),
    ("search_parameters", "xai", Kind::Object),
    ("data_sources", "azure", Kind::Objects),
];

/// Fields of a body that are said elsewhere than among the parameters.
const ELSEWHERE: [&str; 7] =
    ["model", "messages", "system", "contents", "input", "instructions", "stream_options"];

/// How alike a name has to be to be the one that was meant.
const ALIKE: f64 = 0.7;

pub(super) fn check(
    provider: &Provider,
    params: &Map<String, Value>,
) -> Result<(), InvalidRequest> {
    params.iter().try_for_each(|(name, value)| check_one(provider, name, value))
}

fn check_one(provider: &Provider, name: &str, value: &Value) -> Result<(), InvalidRequest> {
    let dialect = match provider.dialect {
        Dialect::OpenAi => OPENAI,
        Dialect::Anthropic => ANTHROPIC,
        Dialect::Gemini => GEMINI,
        Dialect::Responses => RESPONSES,
        Dialect::Ollama => OLLAMA,
    };
    let taken = |(known, by, _): &&(&str, u8, Kind)| *known == name && by & dialect != 0;
    let own = |(known, by, _): &&(&str, &str, Kind)| *known == name && *by == provider.entry.name;
    // They are of the dialect that it speaks unasked.
    let own = OF_ONE.iter().filter(|_| !provider.speaks_otherwise()).find(own);
    let own = own.map(|(.., kind)| kind);
    let common = || PARAMETERS.iter().find(taken).map(|(.., kind)| kind);
    let Some(kind) = own.or_else(common) else {
        return Err(unknown(provider, dialect, name));
    };
    // None in Python is "not said".
    if value.is_null() {
        return Ok(());
    }
    match wrong(*kind, value) {
        None => Ok(()),
        Some(words) => {
            let shown: String = redact::redacted(&value.to_string()).chars().take(60).collect();
            Err(InvalidRequest::about(name, format!("{name} {words}, not {shown}")))
        }
    }
}

fn unknown(provider: &Provider, dialect: u8, name: &str) -> InvalidRequest {
    let shown: String = name.chars().take(60).collect();
    let who = match provider.dialect {
        Dialect::Responses => format!("the Responses API of {}", provider.name),
        Dialect::Ollama => format!("the native API of {}", provider.name),
        _ => provider.name.clone(),
    };
    let way_out = "what is newer than this list goes into extra_body={...}";
    let message = if ELSEWHERE.contains(&name) {
        format!("{shown} is not a parameter; it is an argument of the call itself")
    } else if PARAMETERS.iter().any(|(known, ..)| *known == name)
        || OF_ONE.iter().any(|(known, ..)| *known == name)
    {
        format!("{who} does not take {shown}; leave it out, or {way_out}")
    } else {
        let known = PARAMETERS.iter().filter(|(_, by, _)| by & dialect != 0);
        let nearest = known
            .map(|(known, ..)| (strsim::jaro_winkler(known, &shown), *known))
            .filter(|(alike, _)| *alike >= ALIKE)
            .max_by(|one, other| one.0.total_cmp(&other.0));
        match nearest {
            Some((_, known)) => {
                format!("{who} has no parameter {shown}; did you mean {known}? ({way_out})")
            }
            None => format!("{who} has no parameter {shown}; {way_out}"),
        }
    };
    InvalidRequest::about(shown, message)
}

/// What a value should have been, when it is not.
fn wrong(kind: Kind, value: &Value) -> Option<String> {
    let all = |test: fn(&Value) -> bool| value.as_array().is_some_and(|list| list.iter().all(test));
    let (fits, should) = match kind {
        Kind::Number(least, most) => (
            value.as_f64().is_some_and(|number| (least..=most).contains(&number)),
            format!("must be a number from {least} to {most}"),
        ),
        Kind::Whole(least, most) => (
            value.as_i64().is_some_and(|number| (least..=most).contains(&number)),
            if least == i64::MIN {
                "must be a whole number".to_owned()
            } else {
                format!("must be a whole number from {least} to {most}")
            },
        ),
        Kind::Bool => (value.is_boolean(), "must be true or false".to_owned()),
        Kind::Text => (value.is_string(), "must be a text".to_owned()),
        Kind::Object => (value.is_object(), "must be an object".to_owned()),
        Kind::Texts(most) => (
            value.is_string()
                || (all(Value::is_string) && value.as_array().is_some_and(|l| l.len() <= most)),
            format!("must be a text or a list of at most {most} texts"),
        ),
        Kind::Objects => (all(Value::is_object), "must be a list of objects".to_owned()),
        Kind::TextOrObject => {
            (value.is_string() || value.is_object(), "must be a text or an object".to_owned())
        }
        Kind::BoolOrText => {
            (value.is_boolean() || value.is_string(), "must be true, false or a text".to_owned())
        }
        Kind::TextOrNumber => {
            (value.is_string() || value.is_number(), "must be a text or a number".to_owned())
        }
        Kind::Anything => (true, String::new()),
        Kind::Only(only) => (
            serde_json::from_str::<Value>(only).is_ok_and(|only| only == *value),
            format!("can only be {only} here"),
        ),
    };
    (!fits).then_some(should)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn complaint(provider: &str, params: Value) -> Option<String> {
        let provider = Provider::find(provider).unwrap();
        check(&provider, params.as_object().unwrap()).err().map(|wrong| wrong.message)
    }

    #[test]
    fn ordinary_parameters_pass_everywhere() {
        let params = json!({
            "temperature": 0.5, "max_tokens": 20, "top_p": 1, "stop": ["a"], "tools": [],
            "n": 1, "stream": false, "response_format": null, "extra_body": {"new": 1},
        });
        for name in Provider::names() {
            assert_eq!(complaint(name, params.clone()), None, "{name}");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest_one() {
        let message = complaint("openai", json!({"temprature": 1})).unwrap();
        assert!(message.contains("did you mean temperature?"), "{message}");
        let message = complaint("anthropic", json!({"seed": 1})).unwrap();
        assert!(message.starts_with("anthropic does not take seed"), "{message}");
        let message = complaint("groq", json!({"random_seed": 1})).unwrap();
        assert!(message.starts_with("groq does not take random_seed"), "{message}");
        assert_eq!(complaint("mistral", json!({"random_seed": 1, "safe_prompt": true})), None);
        let message = complaint("openai", json!({"zzz": 1})).unwrap();
        assert!(message.contains("extra_body"), "{message}");
        let message = complaint("openai", json!({"messages": []})).unwrap();
        assert!(message.contains("argument of the call"), "{message}");
    }

    #[test]
    fn wrong_types_and_absurd_numbers_are_refused() {
        for params in [
            json!({"temperature": "hot"}),
            json!({"temperature": -0.1}),
            json!({"temperature": 2.1}),
            json!({"temperature": 1e300}),
            json!({"max_tokens": 0}),
            json!({"max_tokens": -5}),
            json!({"max_tokens": 1.5}),
            json!({"max_tokens": 1_000_000_000_000_u64}),
            json!({"max_tokens": u64::MAX}),
            json!({"top_p": 1.01}),
            json!({"n": 2}),
            json!({"stream": true}),
            json!({"tools": {"type": "function"}}),
            json!({"stop": [1]}),
            json!({"extra_body": "x"}),
            json!({"response_format": "json"}),
        ] {
            let message = complaint("openai", params.clone()).unwrap();
            let name = params.as_object().unwrap().keys().next().unwrap().clone();
            assert!(message.starts_with(&name), "{message}");
        }
        assert!(complaint("anthropic", json!({"temperature": 1.5})).is_some());
        // A key in the wrong place is not shown.
        let message = complaint("openai", json!({"temperature": "sk-test-1"})).unwrap();
        assert!(!message.contains("sk-test"), "{message}");
    }
}
