//! Streams split and cut at every byte.

use proptest::prelude::*;
use quotaflow::kernel::FailureClass;
use quotaflow::providers::StreamPiece;

use super::{Fixture, Outcome, fixtures, read};

/// The body with other ends of lines.
fn with_line_ends(body: &[u8], end: &[u8]) -> Vec<u8> {
    let lines: Vec<&[u8]> = body.split(|byte| *byte == b'\n').collect();
    lines.join(end)
}

/// What is read of a whole body, and the body with each of the three ends of lines.
fn ways(fixture: &Fixture) -> (Outcome, [Vec<u8>; 3]) {
    let bodies = [b"\n" as &[u8], b"\r\n", b"\r"].map(|end| with_line_ends(&fixture.body, end));
    (read(&fixture.provider, [&fixture.body[..]]), bodies)
}

/// Words of an error show the beginning of what was read, ends of lines and all.
fn assert_same(one: &Outcome, other: &Outcome, about: &str) {
    assert_eq!(one.pieces, other.pieces, "{about}");
    assert_eq!((one.refused, one.done), (other.refused, other.done), "{about}");
    match (&one.end, &other.end) {
        (Ok(one), Ok(other)) => {
            assert_eq!((&one.text, &one.usage), (&other.text, &other.usage), "{about}");
            assert_eq!(one.tool_calls, other.tool_calls, "{about}");
            assert_eq!(one.finish_reason, other.finish_reason, "{about}");
        }
        (Err(one), Err(other)) => {
            assert_eq!((one.class, one.status), (other.class, other.status), "{about}");
        }
        (one, other) => panic!("{about}: {one:?} and {other:?}"),
    }
}

#[test]
fn a_split_at_any_byte_changes_nothing() {
    for fixture in fixtures() {
        let (whole, bodies) = ways(&fixture);
        for body in &bodies {
            assert_same(&whole, &read(&fixture.provider, [&body[..]]), &fixture.name);
        }
        // A bare carriage return is split byte by byte and at random below.
        for body in &bodies[..2] {
            for at in 0..=body.len() {
                let (one, other) = body.split_at(at);
                let split = read(&fixture.provider, [one, other]);
                assert_same(&whole, &split, &format!("{} at {at}", fixture.name));
            }
        }
    }
}

#[test]
fn byte_by_byte_changes_nothing() {
    for fixture in fixtures() {
        let (whole, bodies) = ways(&fixture);
        for body in &bodies {
            assert_same(&whole, &read(&fixture.provider, body.chunks(1)), &fixture.name);
        }
    }
}

/// What ends too early is never an answer, and what was said before is told.
#[test]
fn a_body_cut_off_anywhere_is_no_answer() {
    for fixture in fixtures() {
        let (whole, bodies) = ways(&fixture);
        for body in &bodies[..1] {
            for at in 0..body.len() {
                let (start, rest) = body.split_at(at);
                let cut = read(&fixture.provider, [start]);
                let about = format!("{} cut at {at}", fixture.name);
                assert!(whole.pieces.starts_with(&cut.pieces), "{about}");
                let after = fixture.expected.after_the_end.as_bytes();
                let rest = rest.trim_ascii();
                let is_over = rest.is_empty() || rest == after || cut.done;
                match (&cut.end, &whole.end) {
                    (Ok(_), _) => assert!(is_over && whole.end.is_ok(), "{about}"),
                    // The refusal is there already, but for the end of its line.
                    (Err(failure), Err(whole)) if failure.class == whole.class => {}
                    (Err(failure), _) => {
                        assert!(!is_over || whole.end.is_err(), "{about}: {failure:?}");
                        assert_eq!(failure.class, FailureClass::Network, "{about}: {failure:?}");
                    }
                }
            }
        }
    }
}

/// All pieces of one kind together are what the answer has.
#[test]
fn the_pieces_are_the_answer() {
    for fixture in fixtures() {
        let outcome = read(&fixture.provider, fixture.body.chunks(7));
        let Ok(answer) = &outcome.end else { continue };
        let (mut text, mut calls) = (String::new(), Vec::new());
        for piece in &outcome.pieces {
            match piece {
                StreamPiece::Text(part) => text.push_str(part),
                StreamPiece::Reasoning(part) => assert!(!part.is_empty()),
                StreamPiece::ToolCall { index, id, name, arguments } => {
                    if *index == calls.len() {
                        calls.push((id.clone(), name.clone(), String::new()));
                    } else {
                        assert!(id.is_none() && name.is_none(), "{}: told twice", fixture.name);
                    }
                    calls[*index].2.push_str(arguments);
                }
            }
        }
        assert_eq!(text, answer.text, "{}", fixture.name);
        let told = answer.tool_calls.iter().map(|call| {
            let text = |path| call.pointer(path).and_then(|text| text.as_str()).map(str::to_owned);
            (text("/id"), text("/function/name"), text("/function/arguments").unwrap())
        });
        assert_eq!(calls, told.collect::<Vec<_>>(), "{}", fixture.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_splits_change_nothing(cuts in prop::collection::vec(0.0..1.0_f64, 0..12)) {
        for fixture in fixtures() {
            let (whole, bodies) = ways(&fixture);
            for body in &bodies {
                let mut places: Vec<usize> =
                    cuts.iter().map(|cut| (cut * body.len() as f64) as usize).collect();
                places.extend([0, body.len()]);
                places.sort_unstable();
                let parts = places.windows(2).map(|pair| &body[pair[0]..pair[1]]);
                assert_same(&whole, &read(&fixture.provider, parts), &fixture.name);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
    ) {
        for name in ["openai", "anthropic", "gemini"] {
            read(&super::provider(name), parts.iter().map(Vec::as_slice));
        }
        let responses = super::speaking(super::provider("openai"), "responses");
        read(&responses, parts.iter().map(Vec::as_slice));
        let lines = super::speaking(super::provider("ollama"), "ollama");
        read(&lines, parts.iter().map(Vec::as_slice));
    }

    /// Pieces of real streams in any order.
    #[test]
    fn any_mixture_of_events_is_read_without_panic(
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..12),
    ) {
        let fixtures = fixtures();
        let mut body = Vec::new();
        for (which, place) in picks {
            let events = which.get(&fixtures).body.split_inclusive(|byte| *byte == b'\n');
            let events: Vec<&[u8]> = events.collect();
            body.extend_from_slice(place.get::<&[u8]>(&events));
            body.push(b'\n');
        }
        let own = ["openai", "anthropic", "gemini", "openrouter"].map(super::provider);
        let responses = super::speaking(super::provider("openai"), "responses");
        let lines = super::speaking(super::provider("ollama"), "ollama");
        for provider in own.iter().chain([&responses, &lines]) {
            let whole = read(provider, [&body[..]]);
            assert_same(&whole, &read(provider, body.chunks(3)), &provider.name);
        }
    }
}

/// Fields in a list, where an object with names belongs.
#[test]
fn a_list_in_the_place_of_an_object_is_read_without_panic() {
    let lines = super::speaking(super::provider("ollama"), "ollama");
    let responses = super::speaking(super::provider("openai"), "responses");
    let own = ["openai", "anthropic", "gemini"].map(super::provider);
    for provider in own.iter().chain([&lines, &responses]) {
        for list in [
            r#"["m","t",["One"],true,"stop",1,1]"#,
            r#"["m","t",{"content":"One"},true,"stop",1,1]"#,
            r#"[[{}],null,"m","r",null]"#,
            r#"[[[[[{"text":"One"}]],"STOP"]],null,"m","r",null]"#,
        ] {
            read(provider, [format!("data: {list}\n\n").as_bytes()]);
            read(provider, [format!("[{list}]").as_bytes()]);
        }
    }
}
