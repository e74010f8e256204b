//! Fault rules: they hit what they name, and the same calls for the same seed.

use quotaflow::simulator::Fault;

use super::*;

fn statuses(yaml: &str, count: usize) -> Vec<u16> {
    let mut simulator = simulator(yaml);
    (0..count).map(|index| status_of(&mut simulator, "sk-test-1", index as i64 * SECOND)).collect()
}

#[test]
fn rules_choose_by_number_by_time_and_by_key() {
    let with = |rule: &str| {
        statuses(
            &format!(
                "{{keys: [{{key: sk-test-1, label: one, provider: openai}}, \
            {{key: sk-test-2, label: two, provider: openai}}], faults: [{rule}]}}"
            ),
            6,
        )
    };
    assert_eq!(with("{when: {nth: [2, 5]}, do: {status: 503}}"), [200, 503, 200, 200, 503, 200]);
    assert_eq!(with("{when: {every: 3}, do: {status: 500}}"), [200, 200, 500, 200, 200, 500]);
    assert_eq!(with("{when: {first: 2}, do: {status: 429}}"), [429, 429, 200, 200, 200, 200]);
    assert_eq!(
        with("{when: {between: [1, 3]}, do: {status: 529}}"),
        [200, 529, 529, 200, 200, 200]
    );
    assert_eq!(with("{when: {key: two}, do: {status: 500}}"), [200; 6]);
    assert_eq!(with("{when: {provider: gemini}, do: {status: 500}}"), [200; 6]);
    assert_eq!(with("{when: {model: gpt-test}, do: {status: 500}}"), [500; 6]);
}

#[test]
fn a_rate_is_kept_and_one_seed_gives_one_run() {
    let run = |seed: u64| {
        statuses(
            &format!(
                "{{seed: {seed}, keys: [{{key: sk-test-1, provider: openai}}], \
                 faults: [{{when: {{rate: 0.2}}, do: {{status: 503}}}}]}}"
            ),
            2_000,
        )
    };
    let (first, again, other) = (run(7), run(7), run(8));
    assert_eq!(first, again);
    assert_ne!(first, other);
    let struck = first.iter().filter(|status| **status == 503).count();
    assert!((340..460).contains(&struck), "{struck} of 2000");
}

#[test]
fn one_seed_gives_the_same_answers_to_the_byte() {
    let run = || {
        let mut simulator = simulator(
            "
seed: 3
latency: {min: 0.01, max: 0.5}
tokens: {output: {min: 5, max: 50}}
keys: [{key: a, provider: anthropic, limits: {rpm: 50, output_tpm: 900}}]
",
        );
        (0..200)
            .map(|index| {
                let now = index * SECOND / 10;
                let answer = ask_anthropic(&mut simulator, "a", &message("hello"), now);
                if let Some(ticket) = answer.ticket {
                    simulator.finished(ticket, now + SECOND / 20);
                }
                answer
            })
            .collect::<Vec<_>>()
    };
    let answers = run();
    assert_eq!(answers, run());
    assert!(answers.iter().any(|answer| answer.status == 429));
    let delays: Vec<_> = answers.iter().map(|answer| answer.delay.as_secs_f64()).collect();
    assert!(delays.iter().all(|delay| (0.01..0.5).contains(delay)));
    assert!(delays.iter().any(|delay| *delay > 0.3) && delays.iter().any(|delay| *delay < 0.2));
}

#[test]
fn anthropic_sends_a_retry_after_on_some_successes() {
    let mut simulator = simulator("keys: [{key: a, provider: anthropic}]");
    let answers: Vec<_> =
        (0..300).map(|now| ask_anthropic(&mut simulator, "a", &message("hi"), now)).collect();
    let advised = answers.iter().filter(|answer| answer.header("retry-after").is_some()).count();
    assert!((10..80).contains(&advised), "{advised} of 300");
    assert!(answers.iter().all(|answer| answer.status == 200));
}

#[test]
fn faults_of_the_connection_and_of_the_body_are_as_the_rule_says() {
    let with = |effect: &str| {
        let mut simulator = simulator(&format!(
            "{{keys: [{{key: sk-test-1, provider: openai}}], faults: [{{do: {effect}}}]}}"
        ));
        ask_openai(&mut simulator, "sk-test-1", &chat("hello"), 0)
    };
    assert_eq!(with("timeout").fault, Some(Fault::Hang));
    assert_eq!(with("{timeout}").fault, Some(Fault::Hang));
    assert_eq!(with("{reset: true}").fault, Some(Fault::ResetBeforeAnswer));
    assert_eq!(with("half_body").fault, Some(Fault::HalfBody));
    assert_eq!(with("{huge: 1000}").fault, Some(Fault::Huge(1000)));
    let slow = with("{slow: 2.5}");
    assert_eq!((slow.status, slow.delay.as_secs_f64(), slow.fault), (200, 2.5, None));
    let html = with("{html: true, status: 502}");
    assert_eq!((html.status, html.header("content-type")), (502, Some("text/html; charset=UTF-8")));
    let empty = with("empty");
    assert_eq!((empty.status, empty.body.len()), (200, 0));
    let inside = with("error_in_200");
    assert_eq!((inside.status, body_of(&inside)["error"]["type"].is_string()), (200, true));
    let own = with("{status: 429, retry_after: 7, body: 'slow down'}");
    assert_eq!((own.header("retry-after"), own.body.as_slice()), (Some("7"), &b"slow down"[..]));
}

#[test]
fn a_server_error_counts_its_request_and_an_overload_does_not() {
    for (status, left) in [(500, "9"), (529, "10"), (429, "10")] {
        let mut simulator = simulator(&format!(
            "{{keys: [{{key: a, provider: anthropic, limits: {{rpm: 10}}}}], \
              faults: [{{when: {{nth: [1]}}, do: {{status: {status}}}}}]}}"
        ));
        let struck = ask_anthropic(&mut simulator, "a", &message("hi"), 0);
        assert_eq!(struck.status, status);
        assert_eq!(struck.ticket.is_some(), status == 500);
        let next = ask_anthropic(&mut simulator, "a", &message("hi"), 0);
        let expected = (left.parse::<u64>().unwrap() - 1).to_string();
        assert_eq!(next.header("anthropic-ratelimit-requests-remaining"), Some(expected.as_str()));
    }
}

#[test]
fn settings_that_make_no_sense_are_refused_with_their_place() {
    let table = [
        ("{keys: [{key: a, provider: nobody}]}", "nobody"),
        ("{keys: [{key: a, provider: openai, limits: {rpn: 3}}]}", "rpn"),
        ("{keys: [{key: a, provider: openai, limits: {rpm: -1}}]}", "negative"),
        ("{keys: [{key: a, provider: openai, limits: {burst: 3}}]}", "burst"),
        (
            "{keys: [{key: a, provider: openai, limits: {rpm: {amount: 1, refill: calendar}}}]}",
            "limits.rpm",
        ),
        (
            "{keys: [{key: a, provider: openai, limits: {rpd: {amount: 1, zone: Mars/Olympus}}}]}",
            "Mars/Olympus",
        ),
        ("{keys: [{key: a, provider: openai}, {key: a, provider: openai}]}", "listed twice"),
        (
            "{keys: [{key: a, provider: openai, organization: o, limits: {rpm: 1}}, \
              {key: b, provider: openai, organization: o, limits: {rpm: 2}}]}",
            "different limits",
        ),
        ("{faults: [{do: {status: 503}, when: {rate: 2}}]}", "when.rate"),
        ("{faults: [{do: {status: 503}, when: {key: nobody}}]}", "nobody"),
        ("{faults: [{do: explode}]}", "explode"),
        ("{faults: [{do: {reset: true, timeout: true}}]}", "one way at a time"),
        ("{latency: -1}", "latency"),
        ("{latency: .nan}", "latency"),
        ("{speed: 1}", "speed"),
    ];
    for (yaml, word) in table {
        let error = SimulatorSettings::from_yaml(yaml).unwrap_err().to_string();
        assert!(error.contains(word), "{yaml} gives {error:?}");
    }
}

#[test]
fn settings_say_the_same_in_json() {
    let json = json!({
        "latency": 0.5,
        "keys": [{"key": "a", "provider": "gemini", "limits": {"rpm": 3, "rpd": {"amount": 9}}}],
        "faults": [{"when": {"between": [1, 2.5]}, "do": {"timeout": null}}],
    });
    let yaml = "
latency: 0.5
keys: [{key: a, provider: gemini, limits: {rpm: 3, rpd: 9}}]
faults: [{when: {between: [1.0, 2.5]}, do: timeout}]
";
    let read = |text: &str| SimulatorSettings::from_yaml(text).unwrap();
    assert_eq!(read(&json.to_string()), read(yaml));
    assert_eq!(read(&serde_json::to_string_pretty(&json).unwrap()), read(yaml));
}

#[test]
fn keys_do_not_appear_in_debug_output() {
    let settings = "keys: [{key: sk-test-planted, label: one, provider: openai}]";
    let settings = SimulatorSettings::from_yaml(settings).unwrap();
    let simulator = Simulator::new(settings.clone()).unwrap();
    let text = format!("{settings:?} {simulator:?}");
    assert!(text.contains("one") && !text.contains("planted"), "{text}");
}
