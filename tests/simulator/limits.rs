//! Limits of the simulator, counted by the definition of their refill.

use super::*;

/// How many of the requests at these instants pass.
fn passed(simulator: &mut Simulator, instants: impl IntoIterator<Item = i64>) -> Vec<i64> {
    instants.into_iter().filter(|now| status_of(simulator, "sk-test-1", *now) == 200).collect()
}

#[test]
fn a_bucket_lets_its_burst_through_and_then_one_for_each_interval() {
    let mut simulator =
        simulator("keys: [{key: sk-test-1, provider: openai, limits: {rpm: 600, burst: 20}}]");
    // 600 a minute is one every 100 ms; asked every 10 ms for 10 s.
    let passed = passed(&mut simulator, (0..1_000).map(|step| step * SECOND / 100));
    assert_eq!(passed.len(), 20 + 99);
    let steady = &passed[30..];
    assert!(steady.windows(2).all(|pair| pair[1] - pair[0] == SECOND / 10));
}

#[test]
fn a_bucket_is_exact_to_the_nanosecond_even_when_the_rate_does_not_divide_the_minute() {
    let mut simulator =
        simulator("keys: [{key: sk-test-1, provider: openai, limits: {rpm: 7, burst: 1}}]");
    let interval = (60 * SECOND + 6) / 7;
    assert_eq!(status_of(&mut simulator, "sk-test-1", 0), 200);
    assert_eq!(status_of(&mut simulator, "sk-test-1", interval - 1), 429);
    assert_eq!(status_of(&mut simulator, "sk-test-1", interval), 200);
}

#[test]
fn a_daily_limit_of_openai_refills_all_day() {
    let mut simulator = simulator("keys: [{key: sk-test-1, provider: openai, limits: {rpd: 200}}]");
    assert_eq!(passed(&mut simulator, std::iter::repeat_n(0, 250)).len(), 200);
    assert_eq!(status_of(&mut simulator, "sk-test-1", 432 * SECOND - 1), 429);
    assert_eq!(status_of(&mut simulator, "sk-test-1", 432 * SECOND), 200);
}

#[test]
fn no_minute_of_a_rolling_limit_holds_more_than_the_limit() {
    let mut simulator =
        simulator("keys: [{key: sk-test-1, provider: openrouter, limits: {rpm: 5}}]");
    let passed = passed(&mut simulator, (0..400).map(|step| step * 700_000_003));
    for start in &passed {
        let inside = passed.iter().filter(|at| (*start..start + 60 * SECOND).contains(at)).count();
        assert!(inside <= 5, "{inside} requests in the minute from {start}");
    }
    // Asked at least every 0.7 s for 280 s: four full windows and the beginning of a fifth.
    assert_eq!(passed.len(), 25);
}

#[test]
fn a_fixed_window_empties_at_its_boundary() {
    let mut simulator = simulator(
        "keys: [{key: sk-test-1, provider: openai, limits: {rpm: {amount: 2, refill: fixed}}}]",
    );
    let instants = [58, 59, 59, 60, 61, 62].map(|second| second * SECOND);
    assert_eq!(passed(&mut simulator, instants), [58, 59, 60, 61].map(|second| second * SECOND));
}

#[test]
fn a_day_of_gemini_ends_at_midnight_in_los_angeles_also_when_the_clocks_change() {
    let settings = "keys: [{key: g, provider: gemini, limits: {rpd: 1}}]";
    let ask = |simulator: &mut Simulator, now| {
        ask_gemini(simulator, "g", "gemini-test", &contents("hi"), now).status
    };
    // The day that has 23 hours and the one that has 25.
    for (day, next, hours) in [("2026-03-08", "2026-03-09", 23), ("2026-11-01", "2026-11-02", 25)] {
        let mut simulator = simulator(settings);
        let midnight = at(&format!("{day}T00:00:00[America/Los_Angeles]"));
        let next_midnight = at(&format!("{next}T00:00:00[America/Los_Angeles]"));
        assert_eq!(next_midnight - midnight, hours * 3_600 * SECOND);
        assert_eq!(ask(&mut simulator, midnight - 1), 200);
        assert_eq!(ask(&mut simulator, midnight), 200);
        assert_eq!(ask(&mut simulator, midnight + 1), 429);
        assert_eq!(ask(&mut simulator, next_midnight - 1), 429);
        assert_eq!(ask(&mut simulator, next_midnight), 200);
    }
}

#[test]
fn keys_of_one_organisation_share_and_others_do_not() {
    let mut simulator = simulator(
        "
keys:
  - {key: sk-test-1, label: one, provider: openai, organization: org-a, limits: {rpm: 3}}
  - {key: sk-test-2, label: two, provider: openai, organization: org-a}
  - {key: sk-test-3, label: three, provider: openai, organization: org-b, limits: {rpm: 3}}
",
    );
    let keys = ["sk-test-1", "sk-test-2", "sk-test-1", "sk-test-2", "sk-test-1", "sk-test-3"];
    let statuses = keys.map(|key| status_of(&mut simulator, key, 0));
    assert_eq!(statuses, [200, 200, 200, 429, 429, 200]);
    let stats = simulator.stats();
    assert_eq!((stats.requests, stats.accepted, stats.refused["rpm"]), (6, 4, 2));
    assert_eq!(stats.keys["two"].refused["rpm"], 1);
    assert_eq!(stats.keys["three"].accepted, 1);
}

#[test]
fn each_model_has_limits_of_its_own_unless_a_pool_joins_them() {
    let mut simulator = simulator(
        "
keys:
  - key: sk-test-1
    provider: openai
    limits: {rpm: 1}
    pools: [{models: [gpt-pool, 'gpt-pool-*'], limits: {rpm: 1}}]
",
    );
    let mut ask = |model: &str| {
        let mut body = chat("hello");
        body["model"] = model.into();
        ask_openai(&mut simulator, "sk-test-1", &body, 0).status
    };
    assert_eq!([ask("gpt-a"), ask("gpt-b"), ask("gpt-a")], [200, 200, 429]);
    assert_eq!([ask("gpt-pool"), ask("gpt-pool-mini")], [200, 429]);
}

#[test]
fn free_models_of_openrouter_share_one_day() {
    let mut simulator =
        simulator("keys: [{key: sk-test-1, provider: openrouter, limits: {rpd: 2}}]");
    let mut ask = |model: &str| {
        let mut body = chat("hello");
        body["model"] = model.into();
        ask_openai(&mut simulator, "sk-test-1", &body, 0).status
    };
    assert_eq!([ask("a:free"), ask("b:free"), ask("c:free")], [200, 200, 429]);
}

#[test]
fn refused_requests_take_nothing() {
    let mut simulator =
        simulator("keys: [{key: sk-test-1, provider: openai, limits: {rpm: 60, burst: 1}}]");
    assert_eq!(status_of(&mut simulator, "sk-test-1", 0), 200);
    let refused = passed(&mut simulator, (1..1_000).map(|step| step * SECOND / 1_000));
    assert_eq!(refused, Vec::<i64>::new());
    assert_eq!(status_of(&mut simulator, "sk-test-1", SECOND), 200);
}

#[test]
fn openai_holds_max_tokens_until_the_answer_is_there() {
    // "hello" is 2 tokens and 7 of overhead; the answer has 16.
    let settings = "keys: [{key: sk-test-1, provider: openai, limits: {tpm: 1000}}]";
    let mut simulator = simulator(settings);
    let mut body = chat("hello");
    body["max_tokens"] = 900.into();
    let first = ask_openai(&mut simulator, "sk-test-1", &body, 0);
    assert_eq!(first.status, 200);
    assert_eq!(first.header("x-ratelimit-remaining-tokens"), Some("91"));
    assert_eq!(ask_openai(&mut simulator, "sk-test-1", &body, 0).status, 429);
    simulator.finished(first.ticket.unwrap(), 0);
    let second = ask_openai(&mut simulator, "sk-test-1", &body, 0);
    assert_eq!(second.status, 200);
    assert_eq!(second.header("x-ratelimit-remaining-tokens"), Some("66"), "1000 - 25 - 909");
}

#[test]
fn anthropic_counts_output_when_it_is_there() {
    let settings = "
tokens: {output: 100}
keys: [{key: a, provider: anthropic, limits: {input_tpm: 100000, output_tpm: 150}}]
";
    let mut simulator = simulator(settings);
    let mut body = message("hello");
    body["max_tokens"] = 1_000_000.into();
    for expected in [200, 200] {
        let answer = ask_anthropic(&mut simulator, "a", &body, 0);
        assert_eq!(answer.status, expected);
        simulator.finished(answer.ticket.unwrap(), 0);
    }
    // 200 of 150 are used; 51 of them are back after 20.4 s.
    assert_eq!(ask_anthropic(&mut simulator, "a", &body, 20_400_000_000 - 1).status, 429);
    assert_eq!(ask_anthropic(&mut simulator, "a", &body, 20_400_000_000).status, 200);
}

#[test]
fn tokens_of_gemini_are_those_of_the_prompt() {
    // "hello" is 2 tokens and 7 of overhead: two prompts fit, whatever their answers have or may have.
    let mut simulator = simulator(
        "{tokens: {output: 5000}, keys: [{key: g, provider: gemini, limits: {tpm: 18}}]}",
    );
    let mut body = contents("hello");
    body["generationConfig"]["maxOutputTokens"] = 8_000.into();
    let statuses = [0, 1, 2, 60 * SECOND].map(|now| {
        let answer = ask_gemini(&mut simulator, "g", "gemini-test", &body, now);
        if let Some(ticket) = answer.ticket {
            simulator.finished(ticket, now);
        }
        answer.status
    });
    assert_eq!(statuses, [200, 200, 429, 200]);
}

#[test]
fn slots_are_counted_while_requests_are_in_flight() {
    let mut simulator = simulator("keys: [{key: '', provider: ollama, limits: {concurrency: 2}}]");
    let ask = |simulator: &mut Simulator| ask_openai(simulator, "", &chat("hello"), 0);
    let first = ask(&mut simulator);
    assert_eq!((first.status, ask(&mut simulator).status), (200, 200));
    let busy = ask(&mut simulator);
    assert_eq!((busy.status, busy.ticket), (503, None));
    simulator.finished(first.ticket.unwrap(), 1);
    assert_eq!(ask(&mut simulator).status, 200);
    let stats = simulator.stats();
    assert_eq!((stats.in_flight, stats.largest_in_flight, stats.refused["concurrency"]), (2, 2, 1));
}

#[test]
fn a_clock_that_steps_back_gives_nothing_away() {
    for kind in ["bucket", "rolling", "fixed"] {
        let mut simulator = simulator(&format!(
            "keys: [{{key: sk-test-1, provider: openai, limits: {{rpm: {{amount: 1, refill: {kind}}}}}}}]"
        ));
        let now = 600 * SECOND;
        assert_eq!(status_of(&mut simulator, "sk-test-1", now), 200);
        assert_eq!(status_of(&mut simulator, "sk-test-1", now - 300 * SECOND), 429, "{kind}");
        assert_eq!(status_of(&mut simulator, "sk-test-1", now + 59 * SECOND), 429, "{kind}");
        assert_eq!(status_of(&mut simulator, "sk-test-1", now + 60 * SECOND), 200, "{kind}");
    }
}
