//! Streams of the simulator: the providers' shapes, and breaks on request.

use std::time::Duration;

use bytes::Bytes;
use quotaflow::kernel::{Amounts, Failure, FailureClass, Moment};
use quotaflow::providers::{Completion, Dialect, Headers, Provider, StreamPiece, WireResponse};
use quotaflow::simulator::{Fault, Running};

use super::sockets::{client, running, until_in_flight};
use super::*;

const KEYS: &str = "keys: [{key: o, provider: openai}, {key: a, provider: anthropic}, {key: g, provider: gemini}, \
                    {key: r, provider: openrouter}, {key: q, provider: groq}, {key: l, provider: ollama}]";

/// Provider, key.
const ALL: [(&str, &str); 9] = [
    ("openai", "o"),
    ("anthropic", "a"),
    ("gemini", "g"),
    ("openrouter", "r"),
    ("groq", "q"),
    ("ollama", "l"),
    (RESPONSES, "o"),
    (ROUTED_RESPONSES, "r"),
    (NATIVE, "l"),
];

/// OpenAI and OpenRouter, asked in the Responses dialect.
const RESPONSES: &str = "openai responses";
const ROUTED_RESPONSES: &str = "openrouter responses";

/// Ollama, asked in its own dialect.
const NATIVE: &str = "ollama native";

/// Whom a request goes to, in the dialect it is written in.
fn provider(name: &str) -> Provider {
    match name.split_once(' ') {
        None => Provider::find(name).unwrap(),
        Some((name, "native")) => Provider::find(name).unwrap().speaking(Dialect::Ollama).unwrap(),
        Some((name, _)) => Provider::find(name).unwrap().speaking(Dialect::Responses).unwrap(),
    }
}

/// Path, header of the key, value, body.
fn request(provider: &str, key: &str) -> (String, [(&'static str, String); 2], Value) {
    let version = ("anthropic-version", "2023-06-01".to_owned());
    let bearer = ("authorization", format!("Bearer {key}"));
    let mut body = chat("hello");
    body["stream"] = true.into();
    let chat = "/chat/completions";
    match provider {
        "anthropic" => {
            let mut body = message("hello");
            body["stream"] = true.into();
            ("/v1/messages".into(), [("x-api-key", key.to_owned()), version], body)
        }
        "gemini" => {
            let path = "/v1beta/models/gemini-test:streamGenerateContent?alt=sse";
            (path.into(), [("x-goog-api-key", key.to_owned()), version], contents("hello"))
        }
        RESPONSES | ROUTED_RESPONSES => {
            let base = if provider == RESPONSES { "v1" } else { "api/v1" };
            let body = json!({"model": "gpt-test", "input": "hello", "stream": true});
            (
                format!("/{base}/responses"),
                [bearer, ("accept", "text/event-stream".to_owned())],
                body,
            )
        }
        // A stream is what comes unasked.
        NATIVE => ("/api/chat".into(), [bearer, version], self::chat("hello")),
        "openrouter" => (format!("/api/v1{chat}"), [bearer, version], body),
        "groq" => (format!("/openai/v1{chat}"), [bearer, version], body),
        _ => (format!("/v1{chat}"), [bearer, version], body),
    }
}

fn ask(simulator: &mut Simulator, provider: &str, key: &str) -> Answer {
    let (path, headers, body) = request(provider, key);
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    post(simulator, &path, &headers, &body, 0)
}

/// Reads a stream with the crate's own reader, the one from a provider's documentation against the other.
fn read(provider: &str, body: &[u8]) -> (Vec<StreamPiece>, Result<Completion, Failure>) {
    let (headers, nothing) = (Headers::default(), Bytes::new());
    let (now, estimate) = (Moment::EPOCH, Amounts::default());
    let context = WireResponse {
        status: 200,
        headers: &headers,
        body: &nothing,
        now,
        estimate,
        model: "gpt-test",
    };
    let (mut reader, mut pieces) = (self::provider(provider).read_stream(), Vec::new());
    // A failure stays with the reader.
    let _ = reader.feed(body, &context, &mut pieces);
    (pieces, reader.finish(&context))
}

#[test]
fn every_dialect_is_streamed_in_as_many_pieces_as_are_asked_for() {
    for wanted in [1, 3, 16, 40] {
        let mut simulator = simulator(&format!("{{stream: {{pieces: {wanted}}}, {KEYS}}}"));
        for (provider, key) in ALL {
            let answer = ask(&mut simulator, provider, key);
            assert_eq!(answer.status, 200, "{provider}");
            let kind = answer.header("content-type").unwrap();
            let lines = provider == NATIVE;
            let wanted_kind = if lines { "application/x-ndjson" } else { "text/event-stream" };
            assert!(kind.starts_with(wanted_kind), "{provider}: {kind}");
            let (pieces, end) = read(provider, &answer.body);
            assert_eq!(pieces.len(), wanted, "{provider}");
            let end = end.unwrap();
            assert!(end.text.starts_with("answer to: hello"), "{provider}: {}", end.text);
            assert_eq!(end.text.chars().count(), wanted.max(16), "{provider}");
            assert_eq!(end.finish_reason.as_deref(), Some("stop"), "{provider}");
        }
    }
}

#[test]
fn usage_is_told_as_each_provider_tells_it() {
    let mut simulator = simulator(&format!("{{{KEYS}}}"));
    for (provider, key) in ALL {
        let (path, headers, mut body) = request(provider, key);
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let unasked = post(&mut simulator, &path, &headers, &body, 0);
        let usage = read(provider, &unasked.body).1.unwrap().usage;
        assert_eq!(usage.is_none(), matches!(provider, "openai" | "ollama"), "{provider}");
        body["stream_options"] = json!({"include_usage": true});
        let asked = post(&mut simulator, &path, &headers, &body, 0);
        let usage = read(provider, &asked.body).1.unwrap().usage.unwrap();
        assert_eq!((usage.input_tokens, usage.output_tokens), (9, 16), "{provider}");
    }
}

#[test]
fn an_answer_that_is_cut_says_so_and_gemini_sends_a_list_without_its_parameter() {
    let mut simulator = simulator(&format!("{{{KEYS}}}"));
    let (path, headers, mut body) = request("gemini", "g");
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    body["generationConfig"] = json!({"maxOutputTokens": 2});
    let path = path.trim_end_matches("?alt=sse");
    let answer = post(&mut simulator, path, &headers, &body, 0);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(body_of(&answer).as_array().unwrap().len(), 4);
    let (pieces, end) = read("gemini", &answer.body);
    let end = end.unwrap();
    assert_eq!((end.text.as_str(), end.finish_reason.as_deref()), ("answer t", Some("length")));
    assert_eq!(pieces.len(), 4);
}

#[test]
fn a_response_is_answered_in_one_piece_as_well() {
    let mut simulator = simulator(&format!("{{{KEYS}}}"));
    let bearer = [("authorization", "Bearer o")];
    let input = json!([{"type": "message", "role": "user", "content":
        [{"type": "input_text", "text": "hello"}]}]);
    let mut body = json!({"model": "gpt-test", "instructions": "be brief", "input": input});
    body["max_output_tokens"] = 2.into();
    let answer = post(&mut simulator, "/v1/responses", &bearer, &body, 0);
    let said = body_of(&answer);
    assert_eq!((answer.status, &said["status"]), (200, &json!("incomplete")));
    assert_eq!(said["output"][0]["content"][0]["text"], "answer t");
    assert_eq!(said["usage"]["output_tokens"], 2);
    body.as_object_mut().unwrap().remove("input");
    let wrong = post(&mut simulator, "/v1/responses", &bearer, &body, 0);
    assert_eq!(wrong.status, 400);
    // Groq's key does not fit this path.
    let groq = [("authorization", "Bearer q")];
    assert_eq!(post(&mut simulator, "/openai/v1/responses", &groq, &body, 0).status, 401);
}

#[test]
fn ollama_answers_in_its_own_dialect_in_one_piece_as_well() {
    let settings = format!("{{{KEYS}, faults: [{{when: {{nth: [4]}}, do: {{status: 503}}}}]}}");
    let mut simulator = simulator(&settings);
    let bearer = [("authorization", "Bearer l")];
    let mut body = chat("hello");
    body["stream"] = false.into();
    body["options"] = json!({"num_predict": 2});
    let answer = post(&mut simulator, "/api/chat", &bearer, &body, 0);
    let said = body_of(&answer);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!((&said["done"], &said["done_reason"]), (&json!(true), &json!("length")));
    assert_eq!(said["message"], json!({"role": "assistant", "content": "answer t"}));
    assert_eq!((&said["prompt_eval_count"], &said["eval_count"]), (&json!(9), &json!(2)));
    // No cap.
    body["options"] = json!({"num_predict": -1});
    let answer = post(&mut simulator, "/api/chat", &bearer, &body, 0);
    assert_eq!(body_of(&answer)["eval_count"], 16);
    // What it cannot do is words and nothing else.
    let stranger = [("authorization", "Bearer o")];
    let refused = post(&mut simulator, "/api/chat", &stranger, &body, 0);
    assert_eq!((refused.status, body_of(&refused)), (401, json!({"error": "unauthorized"})));
    body.as_object_mut().unwrap().remove("messages");
    let wrong = post(&mut simulator, "/api/chat", &bearer, &body, 0);
    assert_eq!((wrong.status, body_of(&wrong)), (400, json!({"error": "messages is required"})));
    let mut answers = (0..2).map(|_| post(&mut simulator, "/api/chat", &bearer, &chat("hi"), 0));
    assert_eq!(
        answers.find(|answer| answer.status == 503).map(|answer| body_of(&answer)),
        Some(json!({"error": "server busy, please try again.  maximum pending requests exceeded"}))
    );
}

#[test]
fn ollama_refuses_for_limits_in_its_own_dialect() {
    let keys =
        "keys: [{key: '', label: home, provider: ollama, limits: {rpm: 1}, models: [gpt-test]}]";
    let mut simulator = simulator(&format!("{{{keys}}}"));
    let post = |simulator: &mut Simulator, body: &Value| post(simulator, "/api/chat", &[], body, 0);
    let first = post(&mut simulator, &chat("hi"));
    assert_eq!(first.status, 200);
    simulator.finished(first.ticket.unwrap(), 0);
    let refused = post(&mut simulator, &chat("hi"));
    let said = body_of(&refused);
    assert_eq!((refused.status, refused.stream.is_some()), (429, false));
    assert!(said["error"].as_str().unwrap().contains("requests per min"), "{said}");
    let unknown = post(&mut simulator, &json!({"model": "m", "messages": []}));
    assert_eq!((unknown.status, body_of(&unknown)), (404, json!({"error": "model 'm' not found"})));
}

#[test]
fn a_stream_counts_as_any_answer_does() {
    let mut simulator = simulator("keys: [{key: o, provider: openai, limits: {rpm: 2, tpm: 60}}]");
    let first = ask(&mut simulator, "openai", "o");
    assert_eq!(first.header("x-ratelimit-remaining-requests"), Some("1"));
    simulator.finished(first.ticket.unwrap(), 0);
    assert_eq!(ask(&mut simulator, "openai", "o").status, 200);
    let refused = ask(&mut simulator, "openai", "o");
    assert_eq!((refused.status, refused.stream.is_some()), (429, false));
    assert_eq!(simulator.stats().accepted, 2);
}

#[test]
fn streams_break_as_the_rule_says_in_every_dialect() {
    let with = |effect: &str, (provider, key): (&str, &str)| {
        let rule = format!("faults: [{{do: {effect}}}]");
        let mut simulator = simulator(&format!("{{{KEYS}, {rule}}}"));
        let answer = ask(&mut simulator, provider, key);
        (read(provider, &answer.body), answer, simulator.stats())
    };
    for who in ALL {
        let about = who.0;
        for (effect, fault) in [("reset", Some(Fault::ResetAfterBody)), ("end", None)] {
            let effect = format!("{{after: 2, then: {effect}}}");
            let ((pieces, end), answer, stats) = with(&effect, who);
            assert_eq!((answer.status, answer.fault), (200, fault), "{about}");
            assert_eq!(pieces.len(), 2, "{about}");
            assert_eq!(end.unwrap_err().class, FailureClass::Network, "{about}");
            assert_eq!(stats.refused["injected"], 1, "{about}");
        }
        for (effect, class, status) in [
            match about {
                "anthropic" => ("error", FailureClass::Overloaded, 529),
                // Its words for an overload name no status within a stream.
                "ollama" => ("error", FailureClass::ServerError, 500),
                NATIVE => ("error", FailureClass::Overloaded, 200),
                _ => ("error", FailureClass::Overloaded, 503),
            },
            // A line of Ollama's has no status.
            ("{error: 500}", FailureClass::ServerError, if about == NATIVE { 200 } else { 500 }),
        ] {
            let ((pieces, end), ..) = with(&format!("{{after: 1, then: {effect}}}"), who);
            let failure = end.unwrap_err();
            assert_eq!(pieces.len(), 1, "{about}");
            assert_eq!((failure.class, failure.status), (class, Some(status)), "{about}");
        }
        let ((pieces, end), ..) = with("{then: {error: 429}}", who);
        let failure = end.unwrap_err();
        assert_eq!(pieces.len(), 0, "{about}");
        match about {
            NATIVE => assert_eq!(failure.class, FailureClass::DailyQuota),
            _ => assert_eq!(failure.status, Some(429), "{about}"),
        }
        let ((pieces, end), answer, stats) = with("{after: 2, then: {stall: 30}}", who);
        assert_eq!((pieces.len(), end.is_ok(), stats.accepted), (4, true, 1), "{about}");
        let [(place, silence)] = answer.stream.unwrap().pauses[..] else { panic!("{about}") };
        assert_eq!(silence, Duration::from_secs(30), "{about}");
        assert_eq!(read(about, &answer.body[..place]).0.len(), 2, "{about}");
    }
}

#[test]
fn rules_tell_streams_from_other_requests() {
    let rules =
        "faults: [{when: {nth: [1]}, do: {then: end}}, {when: {stream: true}, do: {status: 503}}]";
    let mut simulator = simulator(&format!("{{{KEYS}, {rules}}}"));
    // No stream: not counted by either rule.
    assert_eq!(status_of(&mut simulator, "o", 0), 200);
    assert_eq!(ask(&mut simulator, "openai", "o").status, 200);
    let second = ask(&mut simulator, "openai", "o");
    assert_eq!((second.status, second.stream.is_some()), (503, false));
    assert_eq!(status_of(&mut simulator, "o", 0), 200);
}

#[test]
fn settings_of_streams_that_make_no_sense_are_refused() {
    for (yaml, word) in [
        ("{stream: {pieces: 0}}", "stream.pieces"),
        ("{stream: {pause: -1}}", "stream.pause"),
        ("{stream: {pauses: 1}}", "pauses"),
        ("{faults: [{do: {after: 1}}]}", "without then"),
        ("{faults: [{do: {then: explode}}]}", "what breaks a stream"),
        ("{faults: [{do: {then: {error: 200}}}]}", "then.error"),
        ("{faults: [{do: {then: {stall: -1}}}]}", "then.stall"),
        ("{faults: [{do: {then: end, status: 503}}]}", "no status"),
        ("{faults: [{do: {then: end, reset: true}}]}", "no other fault"),
    ] {
        let error = SimulatorSettings::from_yaml(yaml).unwrap_err().to_string();
        assert!(error.contains(word), "{yaml} gives {error:?}");
    }
}

/// Asks over a socket.
async fn over_http(running: &Running, provider: &str, key: &str) -> reqwest::Response {
    let (path, headers, body) = request(provider, key);
    let mut post = client().post(format!("http://{}{path}", running.addr)).body(body.to_string());
    for (name, value) in headers {
        post = post.header(name, value);
    }
    post.send().await.unwrap()
}

/// What comes before the body ends or breaks.
async fn chunks(mut answer: reqwest::Response) -> (Vec<Bytes>, bool) {
    let mut chunks = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => chunks.push(chunk),
            Ok(None) => return (chunks, true),
            Err(_) => return (chunks, false),
        }
    }
}

#[tokio::test]
async fn events_reach_a_client_in_chunks_and_the_connection_stays() {
    let running = running(&format!("{{stream: {{pieces: 1000}}, {KEYS}}}")).await;
    for (provider, key) in ALL {
        let answer = over_http(&running, provider, key).await;
        assert_eq!(answer.headers()["transfer-encoding"], "chunked", "{provider}");
        let (chunks, ended) = chunks(answer).await;
        assert!(ended, "{provider}");
        let (pieces, end) = read(provider, &chunks.concat());
        assert_eq!((pieces.len(), end.is_ok()), (1000, true), "{provider}");
    }
    // Two on one connection.
    let client = client();
    for _ in 0..2 {
        let (path, [(name, value), _], body) = request("openai", "o");
        let url = format!("http://{}{path}", running.addr);
        let answer = client.post(url).header(name, value).body(body.to_string()).send().await;
        assert!(chunks(answer.unwrap()).await.1);
    }
    assert_eq!(running.stats().in_flight, 0);
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_told_from_one_that_ends() {
    for (effect, ended, told) in
        [("reset", false, 2), ("end", true, 2), ("error", true, 2), ("{stall: 0.001}", true, 4)]
    {
        let rule = format!("faults: [{{do: {{after: 2, then: {effect}}}}}]");
        let running = running(&format!("{{{KEYS}, {rule}}}")).await;
        for (provider, key) in ALL {
            let (chunks, well) = chunks(over_http(&running, provider, key).await).await;
            let about = format!("{effect} at {provider}");
            assert_eq!(well, ended, "{about}");
            assert_eq!(read(provider, &chunks.concat()).0.len(), told, "{about}");
        }
    }
}

#[tokio::test]
async fn half_of_a_stream_is_no_body() {
    let running = running(&format!("{{{KEYS}, faults: [{{do: half_body}}]}}")).await;
    let (chunks, well) = chunks(over_http(&running, "openai", "o").await).await;
    assert!(!well && !chunks.is_empty());
}

/// A stream holds its slot while it lasts, and lets it go when the client leaves, even in the middle of a silence.
#[tokio::test]
async fn a_client_that_leaves_ends_its_stream() {
    let rule = "faults: [{do: {after: 1, then: {stall: 3600}}}]";
    let running = running(&format!("{{{KEYS}, {rule}}}")).await;
    let mut answer = over_http(&running, "openai", "o").await;
    assert!(answer.chunk().await.unwrap().is_some());
    assert_eq!(running.stats().in_flight, 1);
    drop(answer);
    until_in_flight(&running, 0).await;
}

#[tokio::test(start_paused = true)]
async fn pieces_come_with_their_pauses() {
    let running = running(&format!("{{stream: {{pieces: 5, pause: 60}}, {KEYS}}}")).await;
    let start = tokio::time::Instant::now();
    let (path, [(name, value), _], body) = request("openai", "o");
    let body = body.to_string();
    let text = format!(
        "POST {path} HTTP/1.1\r\nConnection: close\r\n{name}: {value}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = super::sockets::exchange(&running, &text).await.unwrap();
    assert!(answer.ends_with(b"data: [DONE]\n\n\r\n0\r\n\r\n"));
    assert!((300..301).contains(&start.elapsed().as_secs()));
}
