//! Tests of structured output per provider.

use super::*;
use serde_json::Map;

fn city() -> Value {
    json!({
        "title": "City", "type": "object", "required": ["name"],
        "properties": {
            "name": {"type": "string", "title": "Name"},
            "people": {"type": "integer", "minimum": 1, "default": 3},
        },
    })
}

fn ours(schema: &Value) -> Value {
    json!({"type": "answer_schema", "name": "City", "schema": schema})
}

/// The body and the last text that a provider is sent.
fn sent(provider: &str, model: &str, format: Value, others: Value) -> (Value, String) {
    let provider = match Provider::find(provider) {
        Some(provider) => provider,
        None => Provider::compatible(provider, "http://127.0.0.1:9/v1"),
    };
    let provider = match provider.name.as_str() {
        "azure" => provider.with_base_url("https://r.openai.azure.com").unwrap(),
        _ => provider,
    };
    let mut params: Map<String, Value> = others.as_object().unwrap().clone();
    params.insert("response_format".to_owned(), format);
    let question = json!({"role": "user", "content": "Which city?"});
    let messages = vec![serde_json::from_value(question).unwrap()];
    let wire = provider.encode(&ChatRequest { messages, params }, model).unwrap();
    let body: Value = serde_json::from_slice(&wire.body).unwrap();
    let text = body.pointer("/messages/0/content").or(body.pointer("/contents/0/parts/0/text"));
    let text = text.and_then(Value::as_str).unwrap().to_owned();
    (body, text)
}

fn alone(provider: &str, model: &str, format: Value) -> (Value, String) {
    sent(provider, model, format, json!({}))
}

#[test]
fn openai_and_its_like_are_held_to_a_closed_schema() {
    for (provider, model) in [
        ("openai", "gpt-4o-mini"),
        ("azure", "mine"),
        ("xai", "grok-4"),
        ("cerebras", "qwen-3"),
        ("groq", "openai/gpt-oss-20b"),
        ("openrouter", "openai/gpt-4o"),
    ] {
        let (body, text) = alone(provider, model, ours(&city()));
        assert_eq!(
            body["response_format"],
            json!({"type": "json_schema", "json_schema": {"name": "City", "strict": true, "schema": {
                "type": "object", "required": ["name", "people"], "additionalProperties": false,
                "properties": {
                    "name": {"type": "string"},
                    "people": {"type": "integer", "description": "(minimum: 1, default: 3)"},
                },
            }}}),
            "{provider}"
        );
        assert_eq!(text, "Which city?", "{provider}");
    }
}

#[test]
fn anthropic_and_gemini_have_their_own_places() {
    let (body, text) = alone("anthropic", "claude-sonnet-4-5", ours(&city()));
    let format = &body["output_config"]["format"];
    assert_eq!(format["type"], "json_schema");
    assert_eq!(format["schema"]["required"], json!(["name"]));
    assert_eq!(format["schema"]["additionalProperties"], json!(false));
    assert_eq!(text, "Which city?");
    let (body, text) = alone("gemini", "gemini-2.5-flash", ours(&city()));
    assert_eq!(body["generationConfig"]["responseMimeType"], "application/json");
    assert_eq!(body["generationConfig"]["responseJsonSchema"], city());
    assert_eq!(text, "Which city?");
}

#[test]
fn who_knows_less_is_told_in_the_prompt() {
    let told = format!("Which city?\n\n{SAY_SCHEMA}{}", city());
    for (provider, model, format) in [
        ("deepseek", "deepseek-chat", json!({"type": "json_object"})),
        ("groq", "llama-3.3-70b-versatile", json!({"type": "json_object"})),
        ("openai", "gpt-4-turbo", json!({"type": "json_object"})),
        ("openai", "gpt-4", json!({"type": "json_object"})),
        ("openrouter", "meta-llama/llama-3", Value::Null),
        ("some-server", "m", Value::Null),
    ] {
        let (body, text) = alone(provider, model, ours(&city()));
        assert_eq!(body["response_format"], format, "{provider} {model}");
        assert_eq!(text, told, "{provider} {model}");
    }
    for (provider, model) in [("anthropic", "claude-3-haiku"), ("gemini", "gemma-3")] {
        let (body, text) = alone(provider, model, ours(&city()));
        assert!(body.get("output_config").or(body.get("generationConfig")).is_none(), "{body}");
        assert_eq!(text, told);
    }
    // A grammar binds the model, and the prompt tells it what it is bound to.
    for provider in ["ollama", "llamacpp", "vllm"] {
        let (body, text) = alone(provider, "m", ours(&city()));
        assert_eq!(body["response_format"]["json_schema"]["schema"], city());
        assert_eq!(text, told);
    }
}

#[test]
fn a_schema_that_cannot_be_closed_is_not() {
    let free = json!({"type": "object", "properties": {"by_name": {
        "type": "object", "additionalProperties": {"type": "integer"},
    }}});
    let (body, text) = alone("openai", "gpt-4o", ours(&free));
    assert_eq!(body["response_format"]["json_schema"]["strict"], json!(false));
    assert_eq!(body["response_format"]["json_schema"]["schema"], free);
    assert!(text.contains("JSON schema below"));
    let (body, text) = alone("anthropic", "claude-sonnet-4-5", ours(&free));
    assert!(body.get("output_config").is_none() && text.contains("JSON schema below"));
    // A list is no object.
    let list = json!({"type": "array", "items": {"type": "string"}});
    for provider in ["openai", "deepseek", "anthropic"] {
        let (body, text) = alone(provider, "claude-x", ours(&list));
        assert!(body.get("response_format").is_none() && body.get("output_config").is_none());
        assert!(text.contains("JSON schema below"));
    }
    let (body, _) = alone("gemini", "gemini-2.5-flash", ours(&list));
    assert_eq!(body["generationConfig"]["responseJsonSchema"], list);
}

#[test]
fn a_schema_that_holds_itself_goes_to_openai_only() {
    let tree = json!({
        "$ref": "#/$defs/Tree",
        "$defs": {"Tree": {"type": "object", "properties": {
            "children": {"type": "array", "items": {"$ref": "#/$defs/Tree", "description": "x"}},
            "kind": {"enum": ["a", 1]},
            "way": {"oneOf": [{"type": "string"}, {"const": null}]},
        }}},
    });
    let (body, _) = alone("openai", "gpt-4o", ours(&tree));
    let closed = json!({
        "type": "object", "required": ["children", "kind", "way"], "additionalProperties": false,
        "properties": {
            "children": {"type": "array", "items": {"$ref": "#/$defs/Tree"}},
            "kind": {"enum": ["a", 1], "type": ["string", "integer"]},
            "way": {"anyOf": [{"type": "string"}, {"enum": [null], "type": "null"}]},
        },
    });
    let mut whole = closed.clone();
    whole["$defs"] = json!({"Tree": closed});
    assert_eq!(body["response_format"]["json_schema"]["schema"], whole);
    let (body, text) = alone("anthropic", "claude-opus-4-5", ours(&tree));
    assert!(body.get("output_config").is_none() && text.contains("JSON schema below"));
}

#[test]
fn fields_keep_their_order() {
    let schema = json!({"type": "object", "properties": {
        "thoughts": {"type": "string"}, "answer": {"type": "string"},
    }});
    let names = |body: &Value, place: &str| -> Vec<String> {
        body.pointer(place).unwrap().as_object().unwrap().keys().cloned().collect()
    };
    let (body, _) = alone("openai", "gpt-4o", ours(&schema));
    let place = "/response_format/json_schema/schema/properties";
    assert_eq!(names(&body, place), ["thoughts", "answer"]);
    assert!(say(&schema).find("thoughts") < say(&schema).find("answer"));
}

#[test]
fn what_the_caller_wrote_in_openais_words_goes_where_it_is_understood() {
    let schema = json!({"type": "json_schema", "json_schema": {"name": "c", "schema": city()}});
    let object = json!({"type": "json_object"});
    for (provider, model) in [
        ("openai", "gpt-4o"),
        ("openrouter", "x/y"),
        ("some-server", "m"),
        ("mistral", "m"),
        ("ollama", "m"),
    ] {
        for format in [&schema, &object, &json!({"type": "text"}), &json!({"type": "new"})] {
            let (body, text) = alone(provider, model, format.clone());
            assert_eq!((&body["response_format"], &*text), (format, "Which city?"), "{provider}");
        }
    }
    let (body, text) = alone("deepseek", "deepseek-chat", schema);
    assert_eq!(body["response_format"], object);
    assert!(text.contains("JSON schema below"));
    let (body, text) = alone("anthropic", "claude-sonnet-4-5", object);
    assert!(body.get("output_config").is_none());
    assert!(text.ends_with(SAY_OBJECT));
}

#[test]
fn beside_tools_the_prompt_says_it_where_both_are_refused() {
    let tools = json!({"tools": [{"type": "function", "function": {"name": "f"}}]});
    for (provider, native) in
        [("gemini", false), ("groq", false), ("openai", true), ("mistral", true)]
    {
        let (body, text) = sent(provider, "m", ours(&city()), tools.clone());
        let asked = body.get("response_format").or(body.get("generationConfig")).is_some();
        assert_eq!((asked, !text.contains("JSON schema below")), (native, native), "{provider}");
    }
}

#[test]
fn parts_and_tool_answers_are_left_in_place() {
    let mut messages: Vec<Message> = serde_json::from_value(json!([
        {"role": "user", "content": [{"type": "text", "text": "look"}]},
        {"role": "assistant", "content": "I did"},
    ]))
    .unwrap();
    add_to_question(&mut messages, "so");
    assert_eq!(messages.len(), 2);
    let parts = json!([{"type": "text", "text": "look"}, {"type": "text", "text": "so"}]);
    assert_eq!(serde_json::to_value(&messages[0].content).unwrap(), parts);
    let mut messages = vec![];
    add_to_question(&mut messages, "so");
    assert_eq!(messages[0].content, Content::Text("so".to_owned()));
}

#[test]
fn responses_are_held_to_a_shape_as_the_chat_dialect_is() {
    let body = |provider: &str| {
        let provider = Provider::find(provider).unwrap().speaking(Dialect::Responses).unwrap();
        let question = json!({"role": "user", "content": "Which city?"});
        let messages = vec![serde_json::from_value(question).unwrap()];
        let mut params = Map::new();
        params.insert("response_format".to_owned(), ours(&city()));
        let wire = provider.encode(&ChatRequest { messages, params }, "m").unwrap();
        serde_json::from_slice::<Value>(&wire.body).unwrap()
    };
    let openai = body("openai");
    let format = &openai["text"]["format"];
    assert_eq!((&format["type"], &format["name"]), (&json!("json_schema"), &json!("City")));
    assert_eq!(
        (&format["strict"], &format["schema"]["additionalProperties"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(openai["input"][0]["content"], "Which city?");
    let deepseek = body("deepseek");
    assert_eq!(deepseek["text"]["format"], json!({"type": "json_object"}));
    assert!(deepseek["input"][0]["content"].as_str().unwrap().contains("JSON schema below"));
}

/// Its grammar binds the model, and the prompt tells it what it is bound to, beside tools as well.
#[test]
fn ollamas_own_dialect_has_the_schema_as_its_format() {
    let provider = Provider::find("ollama").unwrap().speaking(Dialect::Ollama).unwrap();
    let body = |params: Value| {
        let question = json!({"role": "user", "content": "Which city?"});
        let messages = vec![serde_json::from_value(question).unwrap()];
        let params = params.as_object().unwrap().clone();
        let wire = provider.encode(&ChatRequest { messages, params }, "m").unwrap();
        serde_json::from_slice::<Value>(&wire.body).unwrap()
    };
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    for params in [
        json!({"response_format": ours(&city())}),
        json!({"response_format": ours(&city()), "tools": tools}),
    ] {
        let body = body(params);
        assert_eq!(body["format"], city());
        assert_eq!(body.get("response_format"), None);
        let told = format!("Which city?\n\n{SAY_SCHEMA}{}", city());
        assert_eq!(body["messages"][0]["content"], told);
    }
    // The caller's own words are enough.
    let theirs = json!({"type": "json_schema", "json_schema": {"name": "c", "schema": city()}});
    let body = body(json!({"response_format": theirs}));
    assert_eq!(
        (&body["format"], &body["messages"][0]["content"]),
        (&city(), &json!("Which city?"))
    );
}
