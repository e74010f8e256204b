//! Every answer that a provider is known to give, read by the refusal tables.
//!
//! Each file under `tests/fixtures/<provider>/` is one answer: status, headers, body, and what has to come out.
//! Values are made up, shapes are those of the providers' documentation and of recorded answers.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a fixture that cannot be read fails the test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use quotaflow::kernel::{Amounts, Failure, Moment, Origin, RateHint, SameLane, Usage};
use quotaflow::providers::{Completion, Dialect, Headers, Provider, WireResponse};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixture {
    why: String,
    provider: String,
    /// The dialect that it is asked in, where that is not its own.
    dialect: Option<String>,
    status: u16,
    #[serde(default = "usual_now")]
    now: String,
    #[serde(default = "usual_model")]
    model: String,
    #[serde(default)]
    estimated_input: u64,
    /// The name of the event, when the body is that of one in a stream.
    event: Option<String>,
    headers: BTreeMap<String, String>,
    body: Value,
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    failure: Option<Refused>,
    answer: Option<Answered>,
    /// The event is an ordinary one.
    #[serde(default)]
    nothing: bool,
    hints: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    /// Left out for events whose data alone does not say that it is a refusal.
    row: Option<String>,
    class: String,
    scope: String,
    same_lane: String,
    status: Option<u16>,
    /// Seconds from now to the end of the block.
    after: Option<f64>,
    /// The end of the block.
    at: Option<String>,
    #[serde(default)]
    never_here: bool,
    #[serde(default)]
    needs_confirmation: bool,
    limit: Option<Value>,
    /// What the body says about limits.
    rates: Option<Value>,
    request_id: Option<String>,
    message_has: Option<String>,
    message_lacks: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answered {
    text: String,
    finish_reason: Option<String>,
    /// Input, output, cached, written to the cache, thinking.
    usage: Option<[u64; 5]>,
    #[serde(default)]
    tool_calls: Vec<Value>,
    request_id: Option<String>,
    model: Option<String>,
}

fn usual_now() -> String {
    "2026-10-21T07:27:00Z".to_owned()
}

fn usual_model() -> String {
    "some-model".to_owned()
}

fn moment(text: &str) -> Moment {
    let timestamp: jiff::Timestamp = text.parse().unwrap();
    Moment::from_nanos(timestamp.as_nanosecond() as i64)
}

fn provider(name: &str) -> Provider {
    match name {
        "compatible" => Provider::compatible("local", "http://127.0.0.1:8000/v1"),
        name => Provider::find(name).unwrap(),
    }
}

/// Whom a fixture's request was sent to, in the dialect it was written in.
fn asked(fixture: &Fixture) -> Provider {
    let provider = provider(&fixture.provider);
    match fixture.dialect.as_deref() {
        None => provider,
        Some("responses") => provider.speaking(Dialect::Responses).unwrap(),
        Some("ollama") => provider.speaking(Dialect::Ollama).unwrap(),
        Some(other) => panic!("there is no dialect {other}"),
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|end| end == "json") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn fixtures() -> Vec<(String, Fixture)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let read = |folder: &str| files(&root.join(folder));
    Provider::names()
        .iter()
        .copied()
        .chain(["compatible"])
        .flat_map(read)
        .map(|path| {
            let name = path.strip_prefix(&root).unwrap().display().to_string();
            let text = std::fs::read_to_string(&path).unwrap();
            let fixture = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
            (name, fixture)
        })
        .collect()
}

/// What is wrong with how a fixture was read; empty when nothing is.
fn complaints(fixture: &Fixture) -> Vec<String> {
    let provider = asked(fixture);
    let headers: Headers = fixture.headers.iter().collect();
    let body = match &fixture.body {
        Value::String(text) => Bytes::copy_from_slice(text.as_bytes()),
        json => Bytes::from(serde_json::to_vec(json).unwrap()),
    };
    let response = WireResponse {
        status: fixture.status,
        headers: &headers,
        body: &body,
        now: moment(&fixture.now),
        estimate: Amounts {
            requests: 1,
            input_tokens: fixture.estimated_input,
            output_tokens: 0,
            spend: 0,
        },
        model: &fixture.model,
    };
    let mut found = Vec::new();
    let told = provider.limits_told(&response);
    if let Some(event) = &fixture.event {
        match (provider.refusal_in_event(event, &response), &fixture.expect) {
            (Some(failure), Expect { failure: Some(expected), .. }) => {
                let row = expected.row.as_ref().map(|_| provider.refusal_row(&response));
                refused(&mut found, fixture, expected, &failure, row, &told);
            }
            (None, Expect { nothing: true, .. }) => {}
            (other, _) => found.push(format!("came out as {other:?}")),
        }
        return found;
    }
    match (provider.decode(&response), &fixture.expect) {
        (Err(failure), Expect { failure: Some(expected), .. }) => {
            let row = provider.refusal_row(&response);
            refused(&mut found, fixture, expected, &failure, Some(row), &told);
        }
        (Ok(answer), Expect { answer: Some(expected), .. }) => {
            answered(&mut found, expected, &answer, &body);
        }
        (other, _) => found.push(format!("came out as {other:?}")),
    }
    if let Some(expected) = &fixture.expect.hints {
        let hints = provider.hints(&headers, response.now);
        let organization = json!(hints.organization);
        differ(&mut found, "organization", &organization, &expected["organization"]);
        rates(&mut found, "rates in headers", &hints.rates, &expected["rates"]);
    }
    found
}

fn rates(found: &mut Vec<String>, what: &str, are: &[RateHint], should: &Value) {
    let written = are.iter().map(|rate| {
        let mut written = serde_json::to_value(rate).unwrap();
        let seconds = rate.reset_after.map(|reset| reset.as_secs_f64());
        written["reset_after"] = json!(seconds);
        written
    });
    let mut wanted = should.clone();
    for rate in wanted.as_array_mut().unwrap() {
        rate["reset_after"] = json!(rate["reset_after"].as_f64());
    }
    differ(found, what, &written.collect(), &wanted);
}

fn differ<T: PartialEq + std::fmt::Debug>(found: &mut Vec<String>, what: &str, is: &T, should: &T) {
    if is != should {
        found.push(format!("{what} is {is:?}, should be {should:?}"));
    }
}

fn refused(
    found: &mut Vec<String>,
    fixture: &Fixture,
    expected: &Refused,
    failure: &Failure,
    row: Option<&str>,
    told: &[RateHint],
) {
    let now = moment(&fixture.now);
    let after = expected.after.map(|seconds| {
        let nanos = (seconds * 1e9).round() as u64;
        now + Duration::from_nanos(nanos)
    });
    let until = after.or(expected.at.as_deref().map(moment));
    let lane = match failure.remedy().same_lane {
        SameLane::Never => "never",
        SameLane::AfterBlock => "after_block",
        SameLane::AfterBackoff => "after_backoff",
    };
    differ(found, "row", &row, &expected.row.as_deref());
    differ(found, "class", &failure.class.name(), &expected.class.as_str());
    differ(found, "scope", &json!(failure.scope), &json!(expected.scope));
    differ(found, "same_lane", &lane, &expected.same_lane.as_str());
    differ(found, "status", &failure.status, &expected.status.or(Some(fixture.status)));
    differ(found, "until", &failure.until.map(|until| until.at), &until);
    if let Some(until) = failure.until {
        differ(found, "origin", &until.origin, &Origin::Provider);
    }
    differ(found, "never_here", &failure.never_here, &expected.never_here);
    differ(found, "needs_confirmation", &failure.needs_confirmation, &expected.needs_confirmation);
    let limit = failure.limit.map(|limit| serde_json::to_value(limit).unwrap());
    differ(found, "limit", &limit, &expected.limit);
    if let Some(expected) = &expected.rates {
        rates(found, "rates in the body", told, expected);
    }
    differ(found, "request_id", &failure.request_id, &expected.request_id);
    differ(found, "never_sent", &failure.never_sent, &false);
    let message = &failure.message;
    if message.is_empty() || message.chars().count() > 500 {
        found.push(format!("message is {message:?}"));
    }
    if expected.message_has.as_ref().is_some_and(|words| !message.contains(words)) {
        found.push(format!("message lacks words: {message:?}"));
    }
    if expected.message_lacks.as_ref().is_some_and(|words| message.contains(words)) {
        found.push(format!("message shows too much: {message:?}"));
    }
}

fn answered(found: &mut Vec<String>, expected: &Answered, answer: &Completion, body: &Bytes) {
    let usage = expected.usage.map(|[input, output, cached, written, reasoning]| Usage {
        input_tokens: input,
        output_tokens: output,
        cached_tokens: cached,
        cache_write_tokens: written,
        reasoning_tokens: reasoning,
    });
    differ(found, "text", &answer.text, &expected.text);
    differ(found, "finish_reason", &answer.finish_reason, &expected.finish_reason);
    differ(found, "usage", &answer.usage, &usage);
    differ(found, "tool_calls", &answer.tool_calls, &expected.tool_calls);
    differ(found, "raw", &answer.raw, body);
    if expected.request_id.is_some() {
        differ(found, "request_id", &answer.request_id, &expected.request_id);
    }
    if expected.model.is_some() {
        differ(found, "model", &answer.model, &expected.model);
    }
}

#[test]
fn every_fixture_is_read_as_it_should_be() {
    let mut report = String::new();
    for (name, fixture) in fixtures() {
        for complaint in complaints(&fixture) {
            report += &format!("{name} ({}): {complaint}\n", fixture.why);
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn every_row_of_every_table_is_hit_by_a_fixture() {
    let hit: BTreeSet<String> = fixtures()
        .into_iter()
        .filter(|(_, fixture)| fixture.event.is_none())
        .filter_map(|(_, fixture)| fixture.expect.failure?.row)
        .collect();
    let mut rows: BTreeSet<String> = BTreeSet::new();
    for name in Provider::names().iter().copied().chain(["compatible"]) {
        let own = provider(name).refusal_rows();
        let unique: BTreeSet<&str> = own.iter().copied().collect();
        assert_eq!(unique.len(), own.len(), "two rows of {name} have one name");
        rows.extend(own.into_iter().map(str::to_owned));
    }
    let missed: Vec<&String> = rows.difference(&hit).collect();
    assert!(missed.is_empty(), "no fixture for {missed:?}");
}

#[test]
fn cut_and_spoilt_bodies_never_panic_and_never_pass_as_answers() {
    for (name, fixture) in fixtures() {
        let Value::Object(_) = &fixture.body else { continue };
        let provider = asked(&fixture);
        let event = fixture.event.as_deref();
        let whole = serde_json::to_vec(&fixture.body).unwrap();
        let headers: Headers = fixture.headers.iter().collect();
        for end in (0..whole.len()).step_by(7) {
            let body = Bytes::copy_from_slice(&whole[..end]);
            let response = WireResponse {
                status: fixture.status,
                headers: &headers,
                body: &body,
                now: moment(&fixture.now),
                estimate: Amounts::default(),
                model: &fixture.model,
            };
            let _ = provider.refusal_in_event(event.unwrap_or(""), &response);
            assert!(provider.decode(&response).is_err(), "{name} cut at {end}");
        }
    }
}
