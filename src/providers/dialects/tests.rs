//! Is a request written as each dialect wants it?

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::kernel::{Amounts, Moment};

use super::super::catalogue::Provider;
use super::super::chat::{ChatRequest, Message};
use super::super::wire::{Headers, InvalidRequest, KeyHeader, WireRequest, WireResponse};

fn request(messages: Value, params: Value) -> ChatRequest {
    let messages: Vec<Message> = serde_json::from_value(messages).unwrap();
    let Value::Object(params) = params else { panic!("parameters are an object") };
    ChatRequest { messages, params }
}

fn wire(
    provider: &Provider,
    messages: Value,
    params: Value,
) -> Result<WireRequest, InvalidRequest> {
    provider.encode(&request(messages, params), "some-model")
}

/// The provider of that name, with an address if it has none of its own.
fn found(name: &str) -> Provider {
    let provider = Provider::find(name).unwrap();
    if provider.base_url.is_empty() {
        return provider.with_base_url("https://r.openai.azure.com").unwrap();
    }
    provider
}

fn body(provider: &str, model: &str, messages: Value, params: Value) -> Value {
    let provider = found(provider);
    let wire = provider.encode(&request(messages, params), model).unwrap();
    serde_json::from_slice(&wire.body).unwrap()
}

fn hello() -> Value {
    json!([{"role": "user", "content": "hi"}])
}

/// A conversation with everything in it that has to be translated.
fn talk() -> Value {
    json!([
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [
            {"type": "text", "text": "what is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ]},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{\"x\":1}"},
             "extra_content": {"google": {"thought_signature": "c2ln"}}},
            {"id": "b", "type": "function", "function": {"name": "see", "arguments": ""}},
        ]},
        {"role": "tool", "tool_call_id": "a", "content": "{\"is\":\"a cat\"}"},
        {"role": "tool", "tool_call_id": "b", "content": "a dog"},
    ])
}

fn tools() -> Value {
    json!([{"type": "function", "function": {
        "name": "look", "description": "looks", "parameters": {"type": "object"}}}])
}

#[test]
fn the_address_is_right_with_and_without_a_version() {
    for (name, base, expected) in [
        ("openai", "", "https://api.openai.com/v1/chat/completions"),
        ("openai", "http://127.0.0.1:1", "http://127.0.0.1:1/v1/chat/completions"),
        ("openai", "http://127.0.0.1:1/x/", "http://127.0.0.1:1/x/chat/completions"),
        ("groq", "http://h", "http://h/openai/v1/chat/completions"),
        ("openrouter", "", "https://openrouter.ai/api/v1/chat/completions"),
        ("ollama", "", "http://127.0.0.1:11434/v1/chat/completions"),
        ("mistral", "", "https://api.mistral.ai/v1/chat/completions"),
        ("deepseek", "https://api.deepseek.com", "https://api.deepseek.com/v1/chat/completions"),
        ("xai", "", "https://api.x.ai/v1/chat/completions"),
        ("together", "", "https://api.together.xyz/v1/chat/completions"),
        ("cerebras", "", "https://api.cerebras.ai/v1/chat/completions"),
        ("llamacpp", "", "http://127.0.0.1:8080/v1/chat/completions"),
        ("vllm", "http://gpu:8000", "http://gpu:8000/v1/chat/completions"),
        (
            "azure",
            "https://r.openai.azure.com/",
            "https://r.openai.azure.com/openai/deployments/some-model/chat/completions?api-version=2024-10-21",
        ),
        (
            "azure",
            "https://r.openai.azure.com/openai/v1/",
            "https://r.openai.azure.com/openai/v1/chat/completions",
        ),
        ("anthropic", "", "https://api.anthropic.com/v1/messages"),
        ("anthropic", "http://h/v1", "http://h/v1/messages"),
        (
            "gemini",
            "",
            "https://generativelanguage.googleapis.com/v1beta/models/some-model:generateContent",
        ),
        ("gemini", "http://h/v1beta", "http://h/v1beta/models/some-model:generateContent"),
    ] {
        let mut provider = Provider::find(name).unwrap();
        if !base.is_empty() {
            provider = provider.with_base_url(base).unwrap();
        }
        assert_eq!(wire(&provider, hello(), json!({})).unwrap().path_url, expected);
    }
}

#[test]
fn the_key_has_its_own_header_and_is_never_in_the_request() {
    for (name, header) in [
        ("openai", KeyHeader::BEARER),
        ("ollama", KeyHeader::BEARER),
        ("anthropic", KeyHeader::ANTHROPIC),
        ("gemini", KeyHeader::GEMINI),
        ("azure", KeyHeader::AZURE),
    ] {
        let provider = found(name);
        let wire = wire(&provider, hello(), json!({})).unwrap();
        assert_eq!(wire.key_header, Some(header));
        assert!(wire.headers.contains(&("content-type", "application/json".to_owned())));
        let version = wire.headers.iter().any(|(name, _)| *name == "anthropic-version");
        assert_eq!(version, name == "anthropic");
    }
}

#[test]
fn openai_takes_messages_and_parameters_as_they_are() {
    let params = json!({"temperature": 0, "tools": tools(), "n": 1, "stop": null});
    let written = body("openai", "gpt-4o", talk(), params);
    assert_eq!(
        written,
        json!({"model": "gpt-4o", "messages": talk(), "temperature": 0, "tools": tools()})
    );
}

#[test]
fn the_cap_on_output_has_the_name_that_the_server_knows() {
    let cap = |provider: &str, model: &str, params: Value| {
        let mut written = body(provider, model, hello(), params);
        let written = written.as_object_mut().unwrap();
        written.retain(|name, _| name.starts_with("max"));
        Value::Object(written.clone())
    };
    let old = json!({"max_tokens": 5});
    let new = json!({"max_completion_tokens": 5});
    assert_eq!(cap("openai", "gpt-4o-mini", old.clone()), old);
    assert_eq!(cap("openai", "o3-mini", old.clone()), new);
    assert_eq!(cap("openai", "gpt-5", old.clone()), new);
    assert_eq!(cap("ollama", "llama3", new.clone()), old);
    assert_eq!(cap("groq", "m", new.clone()), new);
    assert_eq!(cap("cerebras", "m", old.clone()), new);
    assert_eq!(cap("mistral", "m", new.clone()), old);
    let both = json!({"max_completion_tokens": 5, "max_tokens": 9});
    assert_eq!(cap("openai", "o3", both), new);
    assert_eq!(cap("anthropic", "claude-x", json!({})), json!({"max_tokens": 4096}));
    assert_eq!(cap("anthropic", "claude-x", new), old);
}

#[test]
fn a_parameter_has_the_name_that_the_server_knows() {
    let written = body("mistral", "m", hello(), json!({"seed": 7}));
    assert_eq!(written, json!({"model": "m", "messages": hello(), "random_seed": 7}));
    let written = body("xai", "m", hello(), json!({"seed": 7}));
    assert_eq!(written, json!({"model": "m", "messages": hello(), "seed": 7}));
}

#[test]
fn who_has_no_address_says_how_to_give_one() {
    let refused = wire(&Provider::find("azure").unwrap(), hello(), json!({})).unwrap_err();
    assert_eq!(refused.field.as_deref(), Some("base_url"));
    assert!(refused.message.contains("AZURE_OPENAI_ENDPOINT"), "{refused}");
}

#[test]
fn anthropic_gets_blocks() {
    let params = json!({
        "temperature": 0.5, "stop": "END", "tools": tools(), "tool_choice": "required",
        "parallel_tool_calls": false, "user": "u1", "response_format":
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    });
    assert_eq!(
        body("anthropic", "claude-x", talk(), params),
        json!({
            "model": "claude-x", "max_tokens": 4096, "system": "be brief",
            "messages": [
                {"role": "user", "content": [
                    {"type": "text", "text": "what is this?"},
                    {"type": "image", "source":
                        {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                ]},
                {"role": "assistant", "content": [
                    {"type": "tool_use", "id": "a", "name": "look", "input": {"x": 1}},
                    {"type": "tool_use", "id": "b", "name": "see", "input": {}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "a", "content": "{\"is\":\"a cat\"}"},
                    {"type": "tool_result", "tool_use_id": "b", "content": "a dog"},
                ]},
            ],
            "stop_sequences": ["END"],
            "tools": [{"name": "look", "description": "looks", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
            "temperature": 0.5, "metadata": {"user_id": "u1"},
            "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        })
    );
}

#[test]
fn gemini_gets_parts() {
    let params = json!({
        "temperature": 0, "max_tokens": 64, "top_p": 0.9, "stop": ["END"], "tools": tools(),
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "response_format": {"type": "json_object"},
    });
    assert_eq!(
        body("gemini", "models/gemini-x", talk(), params),
        json!({
            "systemInstruction": {"parts": [{"text": "be brief"}]},
            "contents": [
                {"role": "user", "parts": [
                    {"text": "what is this?"},
                    {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
                ]},
                {"role": "model", "parts": [
                    {"functionCall": {"name": "look", "args": {"x": 1}}, "thoughtSignature": "c2ln"},
                    {"functionCall": {"name": "see", "args": {}}},
                ]},
                {"role": "user", "parts": [
                    {"functionResponse": {"name": "look", "response": {"is": "a cat"}}},
                    {"functionResponse": {"name": "see", "response": {"result": "a dog"}}},
                ]},
            ],
            "generationConfig": {
                "temperature": 0, "maxOutputTokens": 64, "topP": 0.9, "stopSequences": ["END"],
                "responseMimeType": "application/json",
            },
            "tools": [{"functionDeclarations": [
                {"name": "look", "description": "looks", "parametersJsonSchema": {"type": "object"}},
            ]}],
            "toolConfig": {"functionCallingConfig":
                {"mode": "ANY", "allowedFunctionNames": ["look"]}},
        })
    );
}

#[test]
fn extra_body_is_merged_into_every_dialect() {
    for name in Provider::names() {
        let extra = json!({"brand_new": true, "generationConfig": {"brandNew": 1}});
        let params = json!({"temperature": 0.5, "extra_body": extra});
        let written = body(name, "some-model", hello(), params);
        assert_eq!(written["brand_new"], json!(true));
        assert_eq!(written["generationConfig"]["brandNew"], json!(1));
        assert_eq!(written.get("extra_body"), None);
        if *name == "gemini" {
            assert_eq!(written["generationConfig"]["temperature"], json!(0.5));
        }
    }
}

#[test]
fn what_cannot_be_said_is_refused_with_its_place() {
    let nothing = json!({});
    for (provider, messages, params, field) in [
        ("openai", json!([]), nothing.clone(), "messages"),
        (
            "openai",
            json!([{"role": "user", "content": null}]),
            nothing.clone(),
            "messages[0].content",
        ),
        (
            "openai",
            json!([{"role": "tool", "content": "x"}]),
            nothing.clone(),
            "messages[0].tool_call_id",
        ),
        ("anthropic", json!([{"role": "system", "content": "x"}]), nothing.clone(), "messages"),
        ("anthropic", hello(), json!({"tool_choice": "sometimes"}), "tool_choice"),
        ("gemini", hello(), json!({"tools": [{"type": "function"}]}), "tools[0].function.name"),
        (
            "gemini",
            json!([{"role": "tool", "tool_call_id": "zz", "content": "x"}]),
            nothing.clone(),
            "tool_call_id",
        ),
    ] {
        let provider = Provider::find(provider).unwrap();
        let refused = wire(&provider, messages, params).unwrap_err();
        assert_eq!(refused.field.as_deref(), Some(field), "{refused}");
    }
    let provider = Provider::find("gemini").unwrap();
    for model in ["", "a b", "x?key=1", "../x", "a\n"] {
        let refused = provider.encode(&request(hello(), json!({})), model).unwrap_err();
        assert_eq!(refused.field.as_deref(), Some("model"));
    }
}

proptest! {
    #[test]
    fn any_answer_of_any_status_is_read_without_panic(
        status in 0_u16..1000,
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            "[\\[{}\\]\":,a-z0-9 .\\\\]{0,120}".prop_map(String::into_bytes),
        ],
        header in "\\PC{0,40}",
    ) {
        let names = ["retry-after", "x-ratelimit-reset", "x-ratelimit-reset-requests"];
        let headers: Headers = names.into_iter().map(|name| (name, header.as_str())).collect();
        let body = Bytes::from(bytes);
        for name in Provider::names() {
            let provider = Provider::find(name).unwrap();
            let response = WireResponse {
                status, headers: &headers, body: &body, now: Moment::EPOCH,
                estimate: Amounts::default(), model: "m",
            };
            let _ = provider.hints(&headers, Moment::EPOCH);
            if let Err(failure) = provider.decode(&response) {
                prop_assert!(!failure.message.is_empty());
                prop_assert!(failure.message.chars().count() <= 500);
            }
        }
    }

    #[test]
    fn any_parameters_are_taken_or_refused_in_words(name in "[a-z_]{1,12}", number in any::<f64>()) {
        let mut params = Map::new();
        params.insert(name, json!(number));
        for provider in Provider::names() {
            let provider = Provider::find(provider).unwrap();
            if let Err(refused) = provider.check_params(&params) {
                prop_assert!(!refused.message.is_empty() && refused.field.is_some());
            }
        }
    }
}
