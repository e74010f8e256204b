//! Answers and refusals in the shapes that the providers document.

use super::*;

const NOON: i64 = 1_775_044_800 * SECOND;

#[test]
fn openai_answers_with_usage_and_the_headers_of_its_bucket() {
    let mut simulator = simulator(
        "keys: [{key: sk-test-1, provider: openai, organization: org-a, limits: {rpm: 10000, tpm: 60000}}]",
    );
    let answer = ask_openai(&mut simulator, "sk-test-1", &chat("What is a quota?"), NOON);
    let body = body_of(&answer);
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["choices"][0]["message"]["content"], "answer to: What is a quota?");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    // 16 characters are 4 tokens, and there are 7 of overhead.
    assert_eq!(body["usage"]["prompt_tokens"], 11);
    assert_eq!(body["usage"]["completion_tokens"], 16);
    assert_eq!(body["usage"]["total_tokens"], 27);
    let expected = [
        ("openai-organization", "org-a"),
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-reset-requests", "6ms"),
        ("x-ratelimit-limit-tokens", "60000"),
        ("x-ratelimit-remaining-tokens", "59989"),
        ("x-ratelimit-reset-tokens", "11ms"),
    ];
    for (name, value) in expected {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    assert_eq!(answer.header("retry-after"), None);
}

#[test]
fn openai_shows_the_day_under_the_same_names_when_there_is_no_minute() {
    let mut simulator =
        simulator("keys: [{key: sk-test-1, provider: openai, limits: {rpd: 10000}}]");
    let answer = ask_openai(&mut simulator, "sk-test-1", &chat("hi"), NOON);
    assert_eq!(answer.header("x-ratelimit-reset-requests"), Some("8.64s"));
}

#[test]
fn max_tokens_cuts_an_answer_short_in_every_dialect() {
    let mut simulator = simulator(
        "keys: [{key: sk-test-1, provider: openai}, {key: a, provider: anthropic}, {key: g, provider: gemini}]",
    );
    let mut body = chat("A long question about many things");
    body["max_completion_tokens"] = 2.into();
    let openai = body_of(&ask_openai(&mut simulator, "sk-test-1", &body, NOON));
    assert_eq!(openai["choices"][0]["finish_reason"], "length");
    assert_eq!(openai["choices"][0]["message"]["content"], "answer t");
    assert_eq!(openai["usage"]["completion_tokens"], 2);
    let mut body = message("A long question about many things");
    body["max_tokens"] = 2.into();
    let anthropic = body_of(&ask_anthropic(&mut simulator, "a", &body, NOON));
    assert_eq!(anthropic["stop_reason"], "max_tokens");
    let mut body = contents("A long question about many things");
    body["generationConfig"]["maxOutputTokens"] = 2.into();
    let gemini = body_of(&ask_gemini(&mut simulator, "g", "gemini-test", &body, NOON));
    assert_eq!(gemini["candidates"][0]["finishReason"], "MAX_TOKENS");
}

#[test]
fn openai_and_groq_refuse_in_the_recorded_words() {
    let table = [
        (
            "openai",
            "rpm: 3",
            3,
            429,
            "requests",
            "for gpt-test in organization org-a on requests per min (RPM): \
            Limit 3, Used 3, Requested 1. Please try again in 20s.",
        ),
        (
            "openai",
            "rpd: 200",
            200,
            429,
            "requests",
            "for gpt-test in organization org-a on requests per day (RPD): \
            Limit 200, Used 200, Requested 1. Please try again in 7m12s.",
        ),
        (
            "openai",
            "tpm: 20",
            2,
            429,
            "tokens",
            "for gpt-test in organization org-a on tokens per min (TPM): \
            Limit 20, Used 18, Requested 9. Please try again in 21s.",
        ),
        (
            "openai",
            "tpm: 5",
            0,
            429,
            "tokens",
            "Request too large for gpt-test in organization org-a on tokens per \
            min (TPM): Limit 5, Requested 9.",
        ),
        (
            "groq",
            "tpd: 20",
            2,
            429,
            "tokens",
            "for model `gpt-test` in organization `org-a` service tier `on_demand` \
            on tokens per day (TPD): Limit 20, Used 18, Requested 9. Please try again in 8h24m0s.",
        ),
        (
            "groq",
            "tpm: 5",
            0,
            413,
            "tokens",
            "Request too large for model `gpt-test` in organization `org-a`",
        ),
    ];
    for (provider, limits, passes, status, kind, words) in table {
        // 9 tokens go in and none come out, so that what is held is what was used.
        let mut simulator = simulator(&format!(
            "{{tokens: {{output: 0}}, keys: [{{key: sk-test-1, provider: {provider}, organization: org-a, \
              limits: {{{limits}}}}}]}}"
        ));
        for _ in 0..passes {
            assert_eq!(status_of(&mut simulator, "sk-test-1", NOON), 200, "{provider} {limits}");
        }
        let refusal = ask_openai(&mut simulator, "sk-test-1", &chat("hello"), NOON);
        let error = &body_of(&refusal)["error"];
        assert_eq!(refusal.status, status);
        assert_eq!((&error["type"], &error["code"]), (&json!(kind), &json!("rate_limit_exceeded")));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(words), "{message:?} does not contain {words:?}");
        assert_eq!(message.contains("try again in"), passes > 0);
    }
}

#[test]
fn groq_shows_requests_per_day_and_tokens_per_minute_and_advises_in_whole_seconds() {
    let mut simulator = simulator(
        "keys: [{key: sk-test-1, provider: groq, limits: {rpm: 1, rpd: 14400, tpm: 30000}}]",
    );
    let headers = [("authorization", "bearer sk-test-1")];
    let path = "/openai/v1/chat/completions";
    let first = post(&mut simulator, path, &headers, &chat("hello"), NOON);
    assert_eq!(first.header("x-ratelimit-limit-requests"), Some("14400"));
    assert_eq!(first.header("x-ratelimit-reset-requests"), Some("6s"));
    assert_eq!(first.header("x-ratelimit-reset-tokens"), Some("18ms"));
    let refused = post(&mut simulator, path, &headers, &chat("hello"), NOON + SECOND / 2);
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("60")));
}

#[test]
fn anthropic_answers_and_refuses_with_its_families() {
    let mut simulator = simulator(
        "keys: [{key: a, provider: anthropic, organization: org-a, limits: {rpm: 2, input_tpm: 50000}}]",
    );
    let first = ask_anthropic(&mut simulator, "a", &message("hello"), NOON);
    let body = body_of(&first);
    assert_eq!((&body["type"], &body["stop_reason"]), (&json!("message"), &json!("end_turn")));
    assert_eq!(body["content"][0]["text"], "answer to: hello");
    assert_eq!(body["usage"]["input_tokens"], 9);
    let expected = [
        ("anthropic-ratelimit-requests-limit", "2"),
        ("anthropic-ratelimit-requests-remaining", "1"),
        ("anthropic-ratelimit-requests-reset", "2026-04-01T12:00:30Z"),
        ("anthropic-ratelimit-input-tokens-remaining", "50000"),
        ("anthropic-ratelimit-input-tokens-reset", "2026-04-01T12:00:01Z"),
    ];
    for (name, value) in expected {
        assert_eq!(first.header(name), Some(value), "{name}");
    }
    assert_eq!(first.header("anthropic-ratelimit-output-tokens-limit"), None);
    assert_eq!(first.header("anthropic-organization-id").unwrap().len(), 36);
    assert_eq!(ask_anthropic(&mut simulator, "a", &message("hello"), NOON).status, 200);
    let refused = ask_anthropic(&mut simulator, "a", &message("hello"), NOON + 1);
    let body = body_of(&refused);
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("30")));
    assert_eq!(body["error"]["type"], "rate_limit_error");
    let words =
        "This request would exceed your organization's rate limit of 2 requests per minute (org: ";
    assert!(body["error"]["message"].as_str().unwrap().starts_with(words));
}

#[test]
fn anthropic_overload_is_529() {
    let mut simulator =
        simulator("{keys: [{key: a, provider: anthropic}], faults: [{do: {status: 529}}]}");
    let answer = ask_anthropic(&mut simulator, "a", &message("hello"), NOON);
    assert_eq!(
        (answer.status, &body_of(&answer)["error"]["type"]),
        (529, &json!("overloaded_error"))
    );
}

/// The violations of a Gemini refusal and the delay it advises.
fn violations(answer: &Answer) -> (Vec<Value>, String) {
    let body = body_of(answer);
    assert_eq!((answer.status, &body["error"]["status"]), (429, &json!("RESOURCE_EXHAUSTED")));
    let details = body["error"]["details"].as_array().unwrap();
    let of = |kind: &str| {
        details.iter().find(|detail| detail["@type"].as_str().unwrap().ends_with(kind)).unwrap()
    };
    let delay = of("RetryInfo")["retryDelay"].as_str().unwrap().to_owned();
    (of("QuotaFailure")["violations"].as_array().unwrap().clone(), delay)
}

#[test]
fn gemini_says_everything_in_the_body_and_misleads_about_the_day() {
    let mut simulator = simulator("keys: [{key: g, provider: gemini, limits: {rpm: 1, rpd: 2}}]");
    let mut ask = |now| ask_gemini(&mut simulator, "g", "gemini-test", &contents("hello"), now);
    let first = ask(NOON);
    let body = body_of(&first);
    assert_eq!(body["candidates"][0]["content"]["parts"][0]["text"], "answer to: hello");
    assert_eq!(body["usageMetadata"]["promptTokenCount"], 9);
    assert!(first.headers.iter().all(|(name, _)| !name.contains("ratelimit")));
    let (minute, delay) = violations(&ask(NOON + 12 * SECOND));
    assert_eq!(minute.len(), 1);
    assert_eq!(minute[0]["quotaId"], "GenerateRequestsPerMinutePerProjectPerModel-FreeTier");
    assert_eq!((&minute[0]["quotaValue"], delay.as_str()), (&json!("1"), "48s"));
    assert_eq!(ask(NOON + 60 * SECOND).status, 200);
    let (both, delay) = violations(&ask(NOON + 61 * SECOND));
    let ids: Vec<_> = both.iter().map(|violation| violation["quotaId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 2);
    assert!(ids.contains(&"GenerateRequestsPerDayPerProjectPerModel-FreeTier"));
    assert_eq!(delay, "18s");
}

#[test]
fn gemini_with_a_limit_of_nothing_says_limit_0_and_one_too_large_names_the_tokens() {
    let mut simulator = simulator(
        "keys: [{key: g, provider: gemini, limits: {rpd: 0}}, {key: h, provider: gemini, free_tier: false, limits: {tpm: 5}}]",
    );
    let none = ask_gemini(&mut simulator, "g", "gemini-test", &contents("hello"), NOON);
    let message = body_of(&none)["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("limit: 0, model: gemini-test"), "{message}");
    let large = ask_gemini(&mut simulator, "h", "gemini-test", &contents("hello"), NOON);
    let (violations, _) = violations(&large);
    assert_eq!(violations[0]["quotaId"], "GenerateContentPaidTierInputTokensPerModelPerMinute");
    assert!(violations[0]["quotaMetric"].as_str().unwrap().ends_with("input_token_count"));
    assert_eq!(simulator.stats().refused, [("rpd", 1), ("too_large", 1)].into());
}

#[test]
fn openrouter_names_the_reset_of_its_day_in_milliseconds() {
    let mut simulator = simulator("keys: [{key: r, provider: openrouter, limits: {rpd: 1}}]");
    let mut body = chat("hello");
    body["model"] = "maker/model:free".into();
    let mut ask = |now| {
        post(
            &mut simulator,
            "/api/v1/chat/completions",
            &[("Authorization", "Bearer r")],
            &body,
            now,
        )
    };
    let first = ask(NOON);
    assert_eq!((first.status, first.headers.len()), (200, 1), "no headers but the content type");
    let refused = ask(NOON + 1);
    let error = &body_of(&refused)["error"];
    let midnight = (at("2026-04-02T00:00:00[UTC]") / 1_000_000).to_string();
    assert!(error["message"].as_str().unwrap().contains("free-models-per-day"));
    assert_eq!((refused.status, &error["code"]), (429, &json!(429)));
    assert_eq!(error["metadata"]["headers"]["X-RateLimit-Reset"], json!(midnight));
    assert_eq!(refused.header("x-ratelimit-reset"), Some(midnight.as_str()));
    assert_eq!(error["metadata"]["limit_source"], "openrouter_free_tier_daily");
}

#[test]
fn strangers_are_refused_as_the_provider_of_the_path_refuses_them() {
    let mut simulator = simulator("keys: [{key: a, provider: anthropic}]");
    let openai = ask_openai(&mut simulator, "nobody", &chat("hi"), NOON);
    assert_eq!(
        (openai.status, &body_of(&openai)["error"]["code"]),
        (401, &json!("invalid_api_key"))
    );
    // The key of another provider is a stranger's key too.
    assert_eq!(ask_openai(&mut simulator, "a", &chat("hi"), NOON).status, 401);
    let anthropic = ask_anthropic(&mut simulator, "nobody", &message("hi"), NOON);
    let kind = &body_of(&anthropic)["error"]["type"];
    assert_eq!((anthropic.status, kind), (401, &json!("authentication_error")));
    assert_eq!(anthropic.header("x-should-retry"), Some("false"));
    let gemini = ask_gemini(&mut simulator, "nobody", "gemini-test", &contents("hi"), NOON);
    let reason = &body_of(&gemini)["error"]["details"][0]["reason"];
    assert_eq!((gemini.status, reason), (400, &json!("API_KEY_INVALID")));
    let router = post(&mut simulator, "/api/v1/chat/completions", &[], &chat("hi"), NOON);
    assert_eq!((router.status, &body_of(&router)["error"]["code"]), (401, &json!(401)));
    assert_eq!(simulator.stats().refused, [("auth", 5)].into());
}

#[test]
fn requests_that_are_wrong_in_themselves_get_a_clear_answer() {
    let mut simulator = simulator(
        "keys: [{key: sk-test-1, provider: openai, models: [gpt-known]}, {key: a, provider: anthropic}]",
    );
    let mut without_max = message("hi");
    without_max.as_object_mut().unwrap().remove("max_tokens");
    let cases = [
        (ask_openai(&mut simulator, "sk-test-1", &json!("just text"), NOON), 400, "not valid JSON"),
        (ask_openai(&mut simulator, "sk-test-1", &json!({"messages": []}), NOON), 400, "'model'"),
        (
            ask_openai(&mut simulator, "sk-test-1", &chat("hi"), NOON),
            404,
            "`gpt-test` does not exist",
        ),
        (ask_anthropic(&mut simulator, "a", &without_max, NOON), 400, "max_tokens: Field required"),
        (
            post(&mut simulator, "/v1/messages", &[("x-api-key", "a")], &message("hi"), NOON),
            400,
            "anthropic-version",
        ),
        (post(&mut simulator, "/v1/nothing", &[], &chat("hi"), NOON), 404, "no such path"),
    ];
    for (answer, status, words) in cases {
        let message = body_of(&answer)["error"]["message"].as_str().unwrap().to_owned();
        assert_eq!(answer.status, status, "{message}");
        assert!(message.contains(words), "{message:?} does not contain {words:?}");
    }
}

#[test]
fn with_a_tokenizer_text_is_billed_to_the_token() {
    let prompt = "A river, a lake and a sea.";
    for (tokens, billed) in [
        ("{overhead: 0}", 7),
        ("{overhead: 7}", 14),
        ("{overhead: 0, tokenizer: o200k_base}", 9),
        ("{overhead: 0, tokenizer: cl100k_base}", 9),
    ] {
        let settings = format!("{{tokens: {tokens}, keys: [{{key: a, provider: openai}}]}}");
        let answer = ask_openai(&mut simulator(&settings), "a", &chat(prompt), NOON);
        assert_eq!(body_of(&answer)["usage"]["prompt_tokens"], billed, "{tokens}");
    }
}

#[test]
fn text_is_counted_in_characters_wherever_it_stands() {
    let mut simulator = simulator("{tokens: {overhead: 0}, keys: [{key: a, provider: anthropic}]}");
    let body = json!({
        "model": "claude-test", "max_tokens": 64,
        "system": [{"type": "text", "text": "äöüß", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": "12345678"},
            {"role": "assistant", "content": [{"type": "text", "text": "1234"}]},
            {"role": "user", "content": [{"type": "image", "source": {"data": "AAAA"}}, {"type": "text", "text": "1"}]},
        ],
    });
    let answer = body_of(&ask_anthropic(&mut simulator, "a", &body, NOON));
    assert_eq!(answer["usage"]["input_tokens"], 5, "17 characters");
    assert_eq!(answer["content"][0]["text"], "answer to: 1");
}
