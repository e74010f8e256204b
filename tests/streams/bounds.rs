//! Bounded memory for any stream, and what is known of a dropped one.

use quotaflow::kernel::{FailureClass, Usage};
use quotaflow::providers::{Provider, StreamPiece};

use super::{provider, speaking, with_context};

const MEBI: usize = 1 << 20;

/// Feeds blocks until one is refused; how many bytes were taken.
fn flood(provider: &Provider, start: &[u8], block: &[u8], most: usize) -> (usize, FailureClass) {
    with_context(|context| {
        let mut reader = provider.read_stream();
        let mut pieces = Vec::new();
        reader.feed(start, context, &mut pieces).unwrap();
        let mut fed = 0;
        while fed < most {
            pieces.clear();
            if let Err(failure) = reader.feed(block, context, &mut pieces) {
                assert_eq!(reader.finish(context).unwrap_err(), failure);
                return (fed, failure.class);
            }
            fed += block.len();
        }
        panic!("{most} bytes were taken");
    })
}

#[test]
fn one_event_is_at_most_eight_mebibytes() {
    for name in ["openai", "anthropic", "gemini"] {
        let (fed, class) = flood(&provider(name), b"data: {\"a\":\"", &[b'x'; 65536], 64 * MEBI);
        assert_eq!(class, FailureClass::ServerError, "{name}");
        assert!(fed <= 8 * MEBI, "{name}: {fed}");
        // The same in many lines.
        let mut lines = Vec::new();
        (0..1000).for_each(|_| lines.extend_from_slice(b"data: xxxxxxxxxx\n"));
        let (fed, class) = flood(&provider(name), b"", &lines, 64 * MEBI);
        assert_eq!(class, FailureClass::ServerError, "{name}");
        assert!(fed <= 16 * MEBI, "{name}: {fed}");
    }
}

#[test]
fn an_answer_is_at_most_thirty_two_mebibytes() {
    let long = "x".repeat(64 * 1024);
    for (name, event) in [
        ("openai", format!(r#"{{"choices":[{{"delta":{{"content":"{long}"}}}}]}}"#)),
        ("openai", format!(r#"{{"choices":[{{"delta":{{"reasoning":"{long}"}}}}]}}"#)),
        (
            "anthropic",
            format!(
                r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{long}"}}}}"#
            ),
        ),
        (
            "anthropic",
            format!(
                r#"{{"type":"content_block_start","index":0,"content_block":{{"type":"web_search_tool_result","content":"{long}"}}}}"#
            ),
        ),
        (
            "gemini",
            format!(r#"{{"candidates":[{{"content":{{"parts":[{{"text":"{long}"}}]}}}}]}}"#),
        ),
    ] {
        let block = format!("data: {event}\n\n");
        let (fed, class) = flood(&provider(name), b"", block.as_bytes(), 64 * MEBI);
        assert_eq!(class, FailureClass::ServerError, "{name}");
        assert!((31 * MEBI..34 * MEBI).contains(&fed), "{name}: {fed}");
    }
    let (fed, class) = flood(&provider("openai"), b"{\"a\":\"", &[b'x'; 65536], 64 * MEBI);
    assert_eq!(class, FailureClass::ServerError);
    assert!((31 * MEBI..34 * MEBI).contains(&fed), "{fed}");
}

#[test]
fn a_response_is_bounded_as_well() {
    let long = "x".repeat(64 * 1024);
    let provider = speaking(provider("openai"), "responses");
    for kind in ["output_text", "reasoning_text", "refusal", "function_call_arguments"] {
        let event = format!(r#"{{"type":"response.{kind}.delta","delta":"{long}"}}"#);
        let block = format!("data: {event}\n\n");
        let (fed, class) = flood(&provider, b"", block.as_bytes(), 64 * MEBI);
        assert_eq!(class, FailureClass::ServerError, "{kind}");
        assert!((31 * MEBI..34 * MEBI).contains(&fed), "{kind}: {fed}");
    }
    // An item that is done and was never begun, over and over in new places.
    let blocks: String = (0..5000)
        .map(|place| {
            format!(
                "data: {{\"type\":\"response.output_text.delta\",\"output_index\":{place},\"delta\":\"x\"}}\n\n"
            )
        })
        .collect();
    with_context(|context| {
        let mut reader = provider.read_stream();
        let failed = reader.feed(blocks.as_bytes(), context, &mut Vec::new()).unwrap_err();
        assert_eq!(failed.class, FailureClass::ServerError);
    });
}

/// Lines are bounded as events are, and so is what they come to.
#[test]
fn lines_are_bounded_as_well() {
    let provider = speaking(provider("ollama"), "ollama");
    let start = br#"{"message":{"content":""#;
    let (fed, class) = flood(&provider, start, &[b'x'; 65536], 64 * MEBI);
    assert_eq!(class, FailureClass::ServerError);
    assert!((7 * MEBI..=8 * MEBI).contains(&fed), "{fed}");
    let long = "x".repeat(64 * 1024);
    for (message, most) in [
        (format!(r#"{{"content":"{long}"}}"#), 34),
        (format!(r#"{{"thinking":"{long}"}}"#), 34),
        (format!(r#"{{"tool_calls":[{{"function":{{"arguments":{{"a":"{long}"}}}}}}]}}"#), 18),
        (format!(r#"{{"tool_calls":[{{"kept":"{long}"}}]}}"#), 34),
    ] {
        let block = format!("{{\"message\":{message}}}\n");
        let (fed, class) = flood(&provider, b"", block.as_bytes(), 64 * MEBI);
        assert_eq!(class, FailureClass::ServerError, "{most}");
        assert!(((most - 3) * MEBI..most * MEBI).contains(&fed), "{most}: {fed}");
    }
    let block = "{\"message\":{\"tool_calls\":[{\"function\":{\"name\":\"f\"}}]}}\n";
    let (fed, class) = flood(&provider, b"", block.as_bytes(), MEBI);
    assert_eq!((class, fed / block.len()), (FailureClass::ServerError, 1024));
    // What is no line at all is not kept.
    with_context(|context| {
        let mut reader = provider.read_stream();
        reader.feed(b"{}", context, &mut Vec::new()).unwrap();
        for _ in 0..1024 {
            reader.feed(&[b'x'; 65536], context, &mut Vec::new()).unwrap();
        }
        assert_eq!(reader.finish(context).unwrap_err().class, FailureClass::Network);
    });
}

#[test]
fn calls_without_end_are_no_answer() {
    let call =
        r#"{"choices":[{"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}]}"#;
    let block = format!("data: {call}\n\n");
    let (fed, class) = flood(&provider("openai"), b"", block.as_bytes(), MEBI);
    assert_eq!(class, FailureClass::ServerError);
    assert_eq!(fed / block.len(), 1024);
}

/// A model that says nothing for a day may do so: comments are not kept.
#[test]
fn comments_cost_nothing() {
    with_context(|context| {
        let mut reader = provider("deepseek").read_stream();
        let mut pieces = Vec::new();
        for _ in 0..200_000 {
            reader.feed(b": keep-alive\n\n", context, &mut pieces).unwrap();
        }
        assert!(pieces.is_empty());
    });
}

#[test]
fn a_stream_that_is_dropped_tells_what_it_used_so_far() {
    with_context(|context| {
        let mut reader = provider("anthropic").read_stream();
        let mut pieces = Vec::new();
        assert_eq!(reader.usage_so_far(), None);
        let body = include_str!("anthropic/text.sse");
        let (start, rest) = body.split_at(body.find("event: content_block_stop").unwrap());
        reader.feed(start.as_bytes(), context, &mut pieces).unwrap();
        // The input is known; of the output no less than what was read, at four bytes a token.
        let usage = Usage {
            input_tokens: 34,
            output_tokens: 4,
            cached_tokens: 20,
            cache_write_tokens: 5,
            reasoning_tokens: 0,
        };
        assert_eq!(reader.usage_so_far(), Some(usage));
        assert_eq!(reader.text_so_far(), "Grüß dich 🌍");
        assert_eq!(reader.output_bytes_so_far(), "Grüß dich 🌍".len());
        reader.feed(rest.as_bytes(), context, &mut pieces).unwrap();
        assert_eq!(reader.usage_so_far(), Some(Usage { output_tokens: 12, ..usage }));
    });
}

/// The last event of a body that ends without a blank line is told too.
#[test]
fn what_only_the_end_completes_is_told_at_the_end() {
    with_context(|context| {
        let mut reader = provider("gemini").read_stream();
        let mut pieces = Vec::new();
        let body = include_str!("gemini/text.sse").trim_end();
        reader.feed(body.as_bytes(), context, &mut pieces).unwrap();
        assert_eq!(pieces.len(), 2);
        assert_eq!(reader.finish(context).unwrap().text, "Grüß dich 🌍!");
        assert_eq!(reader.take_rest(), [StreamPiece::Text("!".to_owned())]);
        assert_eq!(reader.take_rest(), []);
    });
}

#[test]
fn what_comes_after_the_end_is_not_read() {
    with_context(|context| {
        let mut reader = provider("openai").read_stream();
        let mut pieces = Vec::new();
        let body = include_str!("openai/length.sse").to_owned() + "data: {\"error\":{}}\n\n";
        reader.feed(body.as_bytes(), context, &mut pieces).unwrap();
        reader.feed(b"data: {\"error\":{}}\n\n", context, &mut pieces).unwrap();
        assert!(reader.is_done());
        assert_eq!(reader.finish(context).unwrap().text, "One two");
    });
}
