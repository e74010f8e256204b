//! Tests of the requests that each dialect writes.

mod ollama;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::kernel::{Amounts, Moment};

use super::super::catalogue::Dialect;
use super::super::chat::{ChatRequest, Message};
use super::super::provider::Provider;
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

/// The same provider asked in the Responses dialect.
fn responses(name: &str) -> Provider {
    found(name).speaking(Dialect::Responses).unwrap()
}

/// Ollama asked in its own dialect.
fn ollama() -> Provider {
    found("ollama").speaking(Dialect::Ollama).unwrap()
}

fn body(provider: &str, model: &str, messages: Value, params: Value) -> Value {
    written(&found(provider), model, messages, params)
}

fn written(provider: &Provider, model: &str, messages: Value, params: Value) -> Value {
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
    let unsaid = json!({"max_completion_tokens": null, "max_tokens": 5});
    assert_eq!(cap("openai", "o3", unsaid.clone()), new);
    assert_eq!(cap("anthropic", "claude-x", unsaid), old);
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
fn responses_get_items() {
    let params = json!({
        "temperature": 0.5, "max_tokens": 64, "tools": tools(), "tool_choice":
            {"type": "function", "function": {"name": "look"}},
        "parallel_tool_calls": false, "reasoning_effort": "low", "verbosity": "high",
        "response_format": {"type": "json_schema",
            "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": true}},
        "logprobs": true, "n": 1, "user": null,
    });
    assert_eq!(
        written(&responses("openai"), "gpt-x", talk(), params),
        json!({
            "model": "gpt-x", "instructions": "be brief",
            "input": [
                {"type": "message", "role": "user", "content": [
                    {"type": "input_text", "text": "what is this?"},
                    {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
                ]},
                {"type": "function_call", "call_id": "a", "name": "look", "arguments": "{\"x\":1}"},
                {"type": "function_call", "call_id": "b", "name": "see", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "a", "output": "{\"is\":\"a cat\"}"},
                {"type": "function_call_output", "call_id": "b", "output": "a dog"},
            ],
            "max_output_tokens": 64,
            "tools": [{"type": "function", "name": "look", "description": "looks",
                "parameters": {"type": "object"}, "strict": false}],
            "tool_choice": {"type": "function", "name": "look"},
            "temperature": 0.5, "parallel_tool_calls": false, "store": false,
            "reasoning": {"effort": "low"},
            "text": {"format": {"type": "json_schema", "name": "n",
                "schema": {"type": "object"}, "strict": true}, "verbosity": "high"},
            "include": ["message.output_text.logprobs"],
        })
    );
}

#[test]
fn responses_get_parts_and_choices_in_their_own_words() {
    let messages = json!([
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "https://h/a.png", "detail": "low"}},
            {"type": "file", "file": {"file_id": "f1"}},
            {"type": "input_text", "text": "own words"},
        ]},
        {"role": "assistant", "content": [{"type": "text", "text": "a cat"}], "tool_calls": [
            {"id": "a", "function": {"name": "see", "arguments": {"x": 1}}}]},
        {"role": "tool", "tool_call_id": "a", "content": [
            {"type": "text", "text": "one "}, {"type": "text", "text": "two"}]},
        {"role": "tool", "tool_call_id": "b", "content": [
            {"type": "image_url", "image_url": "https://h/b.png"}]},
        {"role": "assistant", "content": "so it is"},
    ]);
    let params = json!({
        "tools": [{"type": "web_search"},
            {"type": "function", "function": {"name": "see", "strict": true}}],
        "tool_choice": "required", "store": true, "response_format": {"type": "json_object"},
        "reasoning": {"summary": "auto"}, "reasoning_effort": "high", "include": ["x"],
        "extra_body": {"background": true, "reasoning": {"effort": "low"}},
    });
    let body = written(&responses("openai"), "gpt-x", messages, params);
    assert_eq!(
        body["input"],
        json!([
            {"type": "message", "role": "user", "content": [
                {"type": "input_image", "image_url": "https://h/a.png", "detail": "low"},
                {"file_id": "f1", "type": "input_file"},
                {"type": "input_text", "text": "own words"},
            ]},
            {"type": "message", "role": "assistant", "content":
                [{"type": "output_text", "text": "a cat"}]},
            {"type": "function_call", "call_id": "a", "name": "see", "arguments": "{\"x\":1}"},
            {"type": "function_call_output", "call_id": "a", "output": "one two"},
            {"type": "function_call_output", "call_id": "b", "output":
                [{"type": "input_image", "image_url": "https://h/b.png"}]},
            {"type": "message", "role": "assistant", "content": "so it is"},
        ])
    );
    let see = json!({"type": "function", "name": "see",
        "parameters": {"type": "object", "properties": {}}, "strict": true});
    assert_eq!(body["tools"], json!([{"type": "web_search"}, see]));
    assert_eq!(body["tool_choice"], "required");
    assert_eq!((&body["store"], &body["background"]), (&json!(true), &json!(true)));
    assert_eq!(body["text"], json!({"format": {"type": "json_object"}}));
    assert_eq!(body["reasoning"], json!({"summary": "auto", "effort": "low"}));
    assert_eq!(body["include"], json!(["x"]));
    let own = json!({"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}});
    let body = written(&responses("openai"), "gpt-x", hello(), own);
    assert_eq!(body["tool_choice"], json!({"type": "web_search"}));
    // Instructions alone are no input.
    let only = json!([{"role": "system", "content": "say hello"}]);
    let body = written(&responses("openai"), "gpt-x", only, json!({}));
    let input = json!([{"type": "message", "role": "system", "content": "say hello"}]);
    assert_eq!((&body["input"], body.get("instructions")), (&input, None));
}

#[test]
fn responses_have_an_address_of_their_own() {
    for (name, url) in [
        ("openai", "https://api.openai.com/v1/responses"),
        ("xai", "https://api.x.ai/v1/responses"),
        ("openrouter", "https://openrouter.ai/api/v1/responses"),
        ("deepseek", "https://api.deepseek.com/v1/responses"),
        ("azure", "https://r.openai.azure.com/openai/v1/responses"),
    ] {
        let wire = wire(&responses(name), hello(), json!({})).unwrap();
        assert_eq!(wire.path_url, url);
        assert_eq!(wire.key_header, Some(found(name).entry.key_header));
    }
    let own = Provider::compatible("mine", "http://h:1").speaking(Dialect::Responses).unwrap();
    assert_eq!(wire(&own, hello(), json!({})).unwrap().path_url, "http://h:1/v1/responses");
    for name in ["anthropic", "gemini", "groq", "mistral"] {
        assert!(found(name).speaking(Dialect::Responses).is_none(), "{name}");
    }
}

#[test]
fn responses_refuse_what_they_have_no_word_for() {
    for (name, value) in [
        ("stop", json!("END")),
        ("seed", json!(1)),
        ("frequency_penalty", json!(0.5)),
        ("presence_penalty", json!(0.5)),
        ("logit_bias", json!({})),
        ("top_k", json!(4)),
        ("n", json!(2)),
        ("tool_choice", json!("sometimes")),
        ("response_format", json!({"type": "json_schema"})),
    ] {
        let params = json!({"tools": tools(), name: value});
        let refused = wire(&responses("openai"), hello(), params).unwrap_err();
        assert_eq!(refused.field.as_deref(), Some(name));
        assert!(refused.message.contains(name), "{refused}");
    }
    // What one provider takes beside the chat dialect is no parameter of its responses.
    let refused = wire(&responses("xai"), hello(), json!({"search_parameters": {}})).unwrap_err();
    assert!(refused.message.starts_with("the Responses API of xai does not take"), "{refused}");
    let chat = wire(&found("openai"), hello(), json!({"truncation": "auto"})).unwrap_err();
    assert_eq!(chat.field.as_deref(), Some("truncation"));
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
        let own = Provider::names().iter().map(|name| found(name));
        for provider in own.chain([responses("openai"), responses("xai"), ollama()]) {
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
