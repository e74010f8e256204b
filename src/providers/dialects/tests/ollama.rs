//! Tests of requests in Ollama's native dialect.

use serde_json::{Value, json};

use super::super::super::catalogue::Dialect;
use super::super::super::provider::Provider;
use super::super::super::wire::KeyHeader;
use super::{found, hello, ollama, talk, tools, wire, written};

#[test]
fn ollama_gets_options_and_arguments_as_objects() {
    let schema = json!({"type": "object"});
    let params = json!({
        "temperature": 0.5, "max_tokens": 64, "num_ctx": 8192, "top_k": 4, "min_p": 0.1,
        "repetition_penalty": 1.1, "stop": "END", "seed": 7, "think": true, "keep_alive": "5m",
        "options": {"num_predict": 9, "num_ctx": 1, "num_gpu": 1}, "tools": tools(),
        "tool_choice": "auto", "n": 1, "stream": false, "top_p": null, "response_format":
            {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
        "extra_body": {"options": {"mirostat": 1}, "logprobs": true},
    });
    assert_eq!(
        written(&ollama(), "llama3.2", talk(), params),
        json!({
            "model": "llama3.2",
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": "what is this?", "images": ["AAAA"]},
                {"role": "assistant", "content": "", "tool_calls": [
                    {"id": "a", "function": {"name": "look", "arguments": {"x": 1}}},
                    {"id": "b", "function": {"name": "see", "arguments": {}}},
                ]},
                {"role": "tool", "content": "{\"is\":\"a cat\"}", "tool_name": "look",
                    "tool_call_id": "a"},
                {"role": "tool", "content": "a dog", "tool_name": "see", "tool_call_id": "b"},
            ],
            "stream": false,
            "options": {
                "num_predict": 64, "num_ctx": 8192, "num_gpu": 1, "temperature": 0.5, "top_k": 4,
                "min_p": 0.1, "seed": 7, "repeat_penalty": 1.1, "stop": ["END"], "mirostat": 1,
            },
            "format": {"type": "object"},
            "tools": tools(),
            "think": true, "keep_alive": "5m", "logprobs": true,
        })
    );
    let plain = json!({"model": "m", "messages": hello(), "stream": false});
    assert_eq!(written(&ollama(), "m", hello(), json!({})), plain);
}

#[test]
fn ollama_gets_texts_formats_and_choices_in_its_own_words() {
    let parts = json!([
        {"role": "user", "content": [
            {"type": "text", "text": "one"}, {"type": "text", "text": ""},
            {"type": "image_url", "image_url": "data:image/jpeg;base64,BBBB"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,CCCC"}},
            {"type": "text", "text": "two"},
        ]},
        {"role": "tool", "tool_call_id": "zz", "content": "of a call that is not here"},
    ]);
    let body = written(&ollama(), "m", parts, json!({}));
    assert_eq!(
        body["messages"],
        json!([
            {"role": "user", "content": "one\n\ntwo", "images": ["BBBB", "CCCC"]},
            {"role": "tool", "content": "of a call that is not here", "tool_call_id": "zz"},
        ])
    );
    let field = |params: Value, field: &str| {
        written(&ollama(), "m", hello(), params).get(field).cloned().unwrap_or_default()
    };
    let object = json!({"response_format": {"type": "json_object"}});
    assert_eq!(field(object, "format"), "json");
    assert_eq!(field(json!({"response_format": {"type": "text"}}), "format"), Value::Null);
    // No tool is to be used: then none is shown.
    let never = json!({"tools": tools(), "tool_choice": "none"});
    assert_eq!(field(never, "tools"), Value::Null);
    // One is meant: then no other is shown.
    let [one, other] =
        ["one", "other"].map(|name| json!({"type": "function", "function": {"name": name}}));
    let only = json!({"type": "function", "function": {"name": "other"}});
    let chosen = json!({"tools": [one, other], "tool_choice": only});
    assert_eq!(field(chosen, "tools"), json!([other]));
    for (params, think) in [
        (json!({"reasoning_effort": "none"}), json!(false)),
        (json!({"reasoning_effort": "max"}), json!("max")),
        (json!({"reasoning_effort": "low", "think": "high"}), json!("high")),
        (json!({"reasoning_effort": "low", "think": false}), json!(false)),
        (json!({"reasoning_effort": null}), Value::Null),
    ] {
        assert_eq!(field(params.clone(), "think"), think, "{params}");
    }
    for (params, cap) in [
        (json!({"max_completion_tokens": 5}), json!(5)),
        (json!({"options": {"num_predict": -1}}), json!(-1)),
        (json!({"options": {"num_predict": 9}, "max_tokens": 5}), json!(5)),
    ] {
        assert_eq!(field(params.clone(), "options")["num_predict"], cap, "{params}");
    }
}

#[test]
fn ollama_is_found_whichever_of_its_addresses_is_given() {
    for (base, url) in [
        ("", "http://127.0.0.1:11434/api/chat"),
        ("http://gpu:11434", "http://gpu:11434/api/chat"),
        ("http://gpu:11434/", "http://gpu:11434/api/chat"),
        ("http://gpu:11434/v1/", "http://gpu:11434/api/chat"),
        ("http://gpu:11434/api", "http://gpu:11434/api/chat"),
        ("http://gateway/models/v1", "http://gateway/models/api/chat"),
        ("https://ollama.com", "https://ollama.com/api/chat"),
    ] {
        let provider = match base {
            "" => ollama(),
            base => ollama().with_base_url(base).unwrap(),
        };
        let wire = wire(&provider, hello(), json!({})).unwrap();
        assert_eq!(wire.path_url, url);
        assert_eq!(wire.key_header, Some(KeyHeader::BEARER));
    }
    for name in Provider::names().iter().filter(|name| **name != "ollama") {
        assert!(found(name).speaking(Dialect::Ollama).is_none(), "{name}");
    }
}

#[test]
fn ollama_refuses_what_it_has_no_word_for() {
    for (name, value, words) in [
        ("logit_bias", json!({}), "the native API of ollama does not take logit_bias"),
        ("user", json!("u"), "the native API of ollama does not take user"),
        ("parallel_tool_calls", json!(false), "does not take parallel_tool_calls"),
        ("num_ctxt", json!(1), "did you mean num_ctx?"),
        ("num_ctx", json!(0), "num_ctx must be a whole number"),
        ("options", json!([]), "options must be an object"),
        ("think", json!(1), "think must be true, false or a text"),
        ("keep_alive", json!(true), "keep_alive must be a text or a number"),
        ("reasoning_effort", json!(1), "reasoning_effort must be a text"),
        ("tool_choice", json!("required"), "ollama cannot be made to call some tool"),
        ("tool_choice", json!({"function": {"name": "f"}}), "names a tool that is not there"),
        ("response_format", json!({"type": "json_schema"}), "response_format is"),
    ] {
        let refused = wire(&ollama(), hello(), json!({name: value})).unwrap_err();
        assert_eq!(refused.field.as_deref(), Some(name));
        assert!(refused.message.contains(words), "{refused}");
    }
    let native = json!({"tools": [{"type": "web_search"}]});
    let refused = wire(&ollama(), hello(), native).unwrap_err();
    assert_eq!(refused.field.as_deref(), Some("tools[0].type"));
    // What it takes beside the chat dialect is no parameter there.
    for name in ["num_ctx", "options", "think", "keep_alive"] {
        let refused = wire(&found("ollama"), hello(), json!({name: 1})).unwrap_err();
        assert!(refused.message.starts_with("ollama does not take"), "{refused}");
    }
    let link = json!({"type": "image_url", "image_url": {"url": "https://h/a.png"}});
    let sound = json!({"type": "input_audio", "input_audio": {"data": "AAAA"}});
    for (part, words) in [(link, "it fetches none"), (sound, "(input_audio)")] {
        let messages = json!([{"role": "user", "content": [part]}]);
        let refused = wire(&ollama(), messages, json!({})).unwrap_err();
        assert_eq!(refused.field.as_deref(), Some("messages[0].content"));
        assert!(refused.message.contains(words), "{refused}");
    }
    let list = json!([{"role": "assistant", "content": null, "tool_calls": [
        {"id": "a", "function": {"name": "look", "arguments": "[1]"}}]}]);
    let refused = wire(&ollama(), list, json!({})).unwrap_err();
    assert!(refused.message.contains("the arguments of look are not an object"), "{refused}");
}
