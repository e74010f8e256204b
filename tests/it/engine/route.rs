//! Routes: which targets are asked, in which order, with how many attempts.

use super::*;

/// OpenAI, then Groq, then a server at home and one of OpenRouter's free models.
fn route(strategy: Value) -> Value {
    json!({
        "models": {
            "default": {"provider": "openai", "model": "big"},
            "fallback": [
                {"provider": "groq", "model": "quick"},
                {"provider": "home", "model": "small"},
                {"provider": "openrouter", "model": "vendor/gift:free"},
            ],
            "letter": {"provider": "home", "model": "fine", "fallback": [{"provider": "groq", "model": "quick"}]},
        },
        "providers": {
            "openai": {"keys": "sk-a"},
            "groq": {"keys": "gsk_b"},
            "openrouter": {"keys": "sk-c"},
            "home": {"base_url": "http://192.168.1.7:8000/v1"},
        },
        "strategy": strategy,
    })
}

/// Which targets are asked, in order, when none answers.
async fn asked(strategy: Value, change: impl Fn(Request) -> Request) -> Vec<String> {
    let refusals = (0..9).map(|_| Reply::refusal(402, "You have insufficient credit"));
    let stage = Stage::new(route(strategy), refusals);
    let question = Request { model: None, ..ask("hello") };
    let error = stage.send(change(question)).await.unwrap_err();
    error.attempts.iter().map(|attempt| attempt.provider.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_strategy_orders_the_route() {
    let same = |ask| ask;
    for (strategy, order) in [
        (json!(null), vec!["openai", "groq", "home", "openrouter"]),
        (json!({"use_local_first": false}), vec!["openai", "groq", "home", "openrouter"]),
        (json!({"use_local_first": true}), vec!["home", "openai", "groq", "openrouter"]),
        (json!({"use_local_first": true, "fallback_to_api": false}), vec!["home"]),
        // What does not begin at home may go on as it is written.
        (json!({"fallback_to_api": false}), vec!["openai", "groq", "home", "openrouter"]),
        (json!({"local_last": true}), vec!["openai", "groq", "openrouter", "home"]),
        (json!({"cost_optimized": true}), vec!["openai", "home", "openrouter", "groq"]),
        (
            json!({"cost_optimized": true, "use_local_first": true}),
            vec!["home", "openai", "openrouter", "groq"],
        ),
        (
            json!({"cost_optimized": true, "local_last": true}),
            vec!["openai", "openrouter", "groq", "home"],
        ),
    ] {
        assert_eq!(asked(strategy.clone(), same).await, order, "{strategy}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_call_names_comes_first_and_a_task_keeps_its_own_fallbacks() {
    let first = json!({"use_local_first": true});
    let named = |ask| Request { provider: Some("groq".into()), model: Some("own".into()), ..ask };
    // Without credit, the other model of Groq is not asked at all.
    let order = ["groq", "home", "openrouter"];
    assert_eq!(asked(first.clone(), named).await, order);
    let alone = |ask| Request { fallback: false, ..ask };
    assert_eq!(asked(first, alone).await, ["home"]);
    let letter = |ask| Request { task_name: Some("letter".into()), ..ask };
    assert_eq!(asked(json!({"local_last": true}), letter).await, ["groq", "home"]);
    assert_eq!(asked(json!({"fallback_to_api": false}), letter).await, ["home"]);
}

#[tokio::test(start_paused = true)]
async fn a_local_target_that_cannot_serve_the_call_is_left_out() {
    let mut config = route(json!({"use_local_first": true}));
    // Anthropic's dialect has no log probabilities.
    config["providers"]["home"]["dialect"] = json!("anthropic");
    let stage = Stage::new(config.clone(), [Reply::good()]);
    let question = Request { model: None, ..ask("hello") };
    let params = json!({"logprobs": true}).as_object().unwrap().clone();
    let answer = stage.send(Request { params: params.clone(), ..question }).await.unwrap();
    assert_eq!(answer.provider, "openai");
    assert!(stage.was_told("fallback home/small is left out"), "{:?}", stage.lines());

    // Where it must not cost anything, what cannot be had at home is not bought either.
    config["strategy"]["fallback_to_api"] = json!(false);
    let stage = Stage::new(config, []);
    let question = Request { model: None, ..ask("hello") };
    let error = stage.send(Request { params, ..question }).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::InvalidArgument { .. }), "{error:?}");
}

fn sized(limits: Value) -> Value {
    json!({
        "models": {"default": {"provider": "groq", "model": "quick"}, "fallback": {"model": "gpt-test"}},
        "providers": {"openai": {"keys": "sk-a"}, "groq": {"keys": "gsk_b", "limits": limits}},
    })
}

fn long(words: usize, max_tokens: u64) -> Request {
    let params = json!({ "max_tokens": max_tokens }).as_object().unwrap().clone();
    Request { model: None, params, ..ask(&"word ".repeat(words)) }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_too_large_for_a_target_is_not_sent_there() {
    let limits = json!({"max_tokens_per_request": 6_000, "models": {"roomy": {"max_tokens_per_request": 9_000}}});
    let stage = Stage::new(sized(limits.clone()), [Reply::good()]);
    let answer = stage.send(long(4_000, 1_000)).await.unwrap();
    assert_eq!((answer.provider.as_str(), answer.attempts.len()), ("openai", 1));
    let told = "falling back from groq/quick to openai/gpt-test: groq/quick: the call is about 6507 tokens";
    assert!(stage.was_told(told), "{:?}", stage.lines());

    let stage = Stage::new(sized(limits.clone()), []);
    let error = stage.send(Request { fallback: false, ..long(4_000, 1_000) }).await.unwrap_err();
    assert!(is_failure(&error, FailureClass::ContextTooLong), "{error:?}");
    assert_eq!(
        error.message,
        "groq/quick: the call is about 6507 tokens (5507 of input and max_tokens 1000), \
         and max_tokens_per_request is 6000"
    );
    assert_eq!((error.provider.as_deref(), error.model.as_deref()), (Some("groq"), Some("quick")));

    let stage = Stage::new(sized(limits.clone()), [Reply::good()]);
    let roomy = Request {
        provider: Some("groq".into()),
        model: Some("roomy".into()),
        ..long(4_000, 1_000)
    };
    assert_eq!(stage.send(roomy).await.unwrap().provider, "groq");

    let stage = Stage::new(sized(limits), [Reply::good()]);
    assert_eq!(stage.send(long(4_000, 493)).await.unwrap().provider, "groq");
}

#[tokio::test(start_paused = true)]
async fn each_target_is_tried_again_as_its_limits_say() {
    let limits = json!({
        "max_retries": 3, "base_delay": 2, "retry_multiplier": 1,
        "models": {"quick": {"max_retries": 2, "retry_multiplier": 3}},
    });
    for (model, change, pauses) in [
        ("quick", None, vec![2.0, 6.0]),
        ("other", None, vec![2.0, 2.0, 2.0]),
        ("quick", Some((1, 10)), vec![10.0]),
    ] {
        let stage = Stage::new(sized(limits.clone()), (0..9).map(|_| Reply::refusal(500, "boom")));
        let (max_retries, seconds) = change.unzip();
        let question = Request {
            provider: Some("groq".into()),
            model: Some(model.into()),
            fallback: false,
            max_retries,
            retry_delay: seconds.map(Duration::from_secs),
            ..ask("hello")
        };
        stage.send(question).await.unwrap_err();
        let waited: Vec<f64> = stage.times().windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(waited.len(), pauses.len(), "{model}: {waited:?}");
        // Jitter makes a pause longer by up to a half.
        for (waited, pause) in waited.iter().zip(&pauses) {
            assert!(within(*waited, *pause, pause * 1.5 + 0.001), "{model}: {waited} for {pause}");
        }
    }
}
