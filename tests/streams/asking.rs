//! Requests for a stream, in each provider's shape.

use quotaflow::providers::{ChatRequest, Message, Provider};
use serde_json::{Value, json};

use super::{provider, speaking};

fn asked(name: &str, params: Value) -> (String, Value) {
    written(&provider(name), params)
}

fn written(provider: &Provider, params: Value) -> (String, Value) {
    let messages: Vec<Message> =
        serde_json::from_value(json!([{"role": "user", "content": "hi"}])).unwrap();
    let Value::Object(params) = params else { panic!("parameters are an object") };
    let wire = provider.encode_stream(&ChatRequest { messages, params }, "some-model").unwrap();
    (wire.path_url, serde_json::from_slice(&wire.body).unwrap())
}

#[test]
fn usage_is_asked_for_where_it_must_be() {
    for name in Provider::names().iter().chain(&["compatible"]) {
        let (url, body) = asked(name, json!({"temperature": 0.5}));
        match *name {
            "gemini" => {
                assert!(url.ends_with("/models/some-model:streamGenerateContent?alt=sse"), "{url}");
                assert_eq!(body.get("stream"), None);
            }
            "anthropic" | "mistral" | "openrouter" => {
                assert_eq!(body["stream"], true, "{name}");
                assert_eq!(body.get("stream_options"), None, "{name}");
            }
            name => {
                assert_eq!(body["stream"], true, "{name}");
                assert_eq!(body["stream_options"], json!({"include_usage": true}), "{name}");
            }
        }
    }
}

#[test]
fn what_the_caller_says_of_streams_breaks_nothing() {
    for params in [
        json!({"stream": false}),
        json!({"stream": true}),
        json!({"stream": null}),
        json!({"stream_options": null}),
        json!({"extra_body": {"stream": false, "new": 1}}),
    ] {
        let (_, body) = asked("openai", params.clone());
        assert_eq!(body["stream"], true, "{params}");
        assert_eq!(body["stream_options"], json!({"include_usage": true}), "{params}");
        let (_, body) = asked("anthropic", params.clone());
        assert_eq!(body["stream"], true, "{params}");
        let (url, body) = asked("gemini", params.clone());
        assert!(url.contains(":streamGenerateContent"), "{params}");
        assert_eq!(body.get("stream"), None, "{params}");
    }
    let options = json!({"stream_options": {"include_usage": false, "include_obfuscation": false}});
    let (_, body) = asked("openai", options.clone());
    let both = json!({"include_usage": true, "include_obfuscation": false});
    assert_eq!(body["stream_options"], both);
    let (_, body) = asked("anthropic", options);
    assert_eq!(body.get("stream_options"), None);
}

/// What is not said is a stream there, and its usage comes unasked.
#[test]
fn ollama_is_told_in_any_case_whether_lines_are_wanted() {
    let provider = speaking(provider("ollama"), "ollama");
    for params in [
        json!({}),
        json!({"stream": false, "stream_options": {"include_usage": true}}),
        json!({"extra_body": {"stream": false}}),
    ] {
        let (url, body) = written(&provider, params);
        assert_eq!(url, "http://127.0.0.1:11434/api/chat");
        assert_eq!((&body["stream"], body.get("stream_options")), (&json!(true), None));
    }
}

/// Responses tell their usage unasked, and refuse to be asked for it.
#[test]
fn a_response_is_asked_for_as_a_stream_and_not_for_its_usage() {
    for name in ["openai", "xai", "openrouter", "azure", "deepseek"] {
        let provider = speaking(provider(name), "responses");
        let (url, body) = written(&provider, json!({"stream_options": {"include_usage": true}}));
        assert!(url.ends_with("/v1/responses"), "{url}");
        assert_eq!((&body["stream"], body.get("stream_options")), (&json!(true), None), "{name}");
        let options = json!({"stream_options": {"include_obfuscation": false}});
        let (_, body) = written(&provider, options.clone());
        assert_eq!(body["stream_options"], options["stream_options"], "{name}");
    }
}
