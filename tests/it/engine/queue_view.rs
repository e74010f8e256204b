//! The waiting line as it is shown, emptied and bounded.

use super::*;

fn one_at_a_time() -> Value {
    openai(&["sk-a"], json!({"concurrency": 1}))
}

/// Ten requests a minute, one by one.
fn ten_a_minute() -> Value {
    openai(
        &["sk-a"],
        json!({"rpm": {"amount": 10, "refill": "bucket", "burst": 1}, "pause_threshold": 1.0}),
    )
}

#[tokio::test(start_paused = true)]
async fn the_queue_says_who_waits_for_what_and_for_how_long() {
    let stage = Stage::new(ten_a_minute(), (0..4).map(|_| Reply::good()));
    let mut asides = vec![stage.send_aside(ask("first")).await];
    asides.push(stage.send_aside(ask("second")).await);
    let params = serde_json::Map::from_iter([("max_tokens".to_owned(), json!(100))]);
    let third = Request { user: Some("ann".to_owned()), params, ..ask("third") };
    asides.push(stage.send_aside(third).await);
    pass(1.0).await;
    asides.push(stage.send_aside(Request { priority: 7, ..ask("person") }).await);
    let queue = stage.engine.queue().unwrap();
    assert_eq!(queue.len(), 3);
    let places: Vec<_> = queue.iter().map(|one| (one.priority, one.position)).collect();
    assert_eq!(places, [(7, 1), (3, 2), (3, 3)]);
    assert_eq!(
        (queue[0].provider.as_str(), queue[0].model.as_deref()),
        ("openai", Some("gpt-test"))
    );
    assert_eq!(queue[2].user.as_deref(), Some("ann"));
    assert!((101..120).contains(&queue[2].tokens), "{}", queue[2].tokens);
    assert!(within(queue[1].waited, 1.0, 1.1) && within(queue[0].waited, 0.0, 0.1));
    let words = queue[0].obstacle.as_deref().unwrap();
    assert!(words.starts_with("10 requests per minute used up until"), "{words}");
    // One comes free every six seconds, and one second has gone by.
    let etas: Vec<f64> = queue.iter().map(|one| one.eta.unwrap()).collect();
    for (eta, least) in etas.iter().zip([5.0, 6.0, 12.0]) {
        assert!(within(*eta, least - 1.2, least + 6.2), "{etas:?}");
    }
    assert!(etas.is_sorted());
    for aside in asides {
        aside.await.unwrap().unwrap();
    }
    assert!(stage.engine.queue().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn nobody_can_say_when_a_call_in_flight_ends() {
    let stage = Stage::new(one_at_a_time(), [Reply::silence()]);
    let _first = stage.send_aside(ask("first")).await;
    let _second = stage.send_aside(ask("second")).await;
    let queue = stage.engine.queue().unwrap();
    assert_eq!((queue.len(), queue[0].eta), (1, None));
    assert_eq!(queue[0].obstacle.as_deref(), Some("1 calls in flight already"));
}

#[tokio::test(start_paused = true)]
async fn clearing_ends_those_who_wait_and_leaves_the_others() {
    let stage = Stage::new(one_at_a_time(), [Reply::good().after(9), Reply::good(), Reply::good()]);
    let first = stage.send_aside(ask("first")).await;
    let mut batch = Vec::new();
    for _ in 0..3 {
        batch.push(stage.send_aside(Request { priority: 1, ..ask("batch") }).await);
    }
    let person = stage.send_aside(Request { priority: 6, ..ask("person") }).await;
    assert_eq!(stage.engine.clear_queue(Some("anthropic"), None).unwrap(), 0);
    assert_eq!(stage.engine.clear_queue(Some("openai"), Some(5)).unwrap(), 3);
    for aside in batch {
        let error = aside.await.unwrap().unwrap_err();
        assert_eq!(error.kind, ErrorKind::QueueCleared);
        assert_eq!(error.provider.as_deref(), Some("openai"));
    }
    assert_eq!((stage.now(), stage.waiting()), (0.0, 1));
    let wrong = stage.engine.clear_queue(Some("opnai"), None).unwrap_err();
    assert_eq!(wrong.kind, ErrorKind::InvalidArgument { argument: "provider".to_owned() });
    first.await.unwrap().unwrap();
    person.await.unwrap().unwrap();
    assert_eq!(stage.engine.clear_queue(None, None).unwrap(), 0);
    // The line works as before.
    stage.send(ask("again")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_those_ahead_leave_no_time_for_is_refused_at_once() {
    let stage = Stage::new(ten_a_minute(), (0..41).map(|_| Reply::good()));
    let mut asides = Vec::new();
    for _ in 0..40 {
        asides.push(stage.send_aside(ask("batch")).await);
    }
    let by = |seconds| Request { deadline: Some(stage.at(seconds)), ..ask("hurried") };
    // 39 wait: the fortieth turn from now comes after 240 seconds.
    let error = stage.send(by(180)).await.unwrap_err();
    assert_eq!((&error.kind, stage.now()), (&ErrorKind::Deadline, 0.0));
    assert!(error.message.contains("39 calls go before this one"), "{error}");
    let timeout = Request { timeout: Some(Duration::from_secs(180)), ..ask("hurried") };
    assert_eq!(stage.send(timeout).await.unwrap_err().kind, ErrorKind::Deadline);
    assert_eq!(stage.now(), 0.0);
    // With a higher priority nobody goes before it, and with more time all may.
    let urgent = stage.send_aside(Request { priority: 6, ..by(180) }).await;
    urgent.await.unwrap().unwrap();
    assert!(within(stage.now(), 6.0, 6.2));
    for aside in asides {
        aside.await.unwrap().unwrap();
    }
    assert!(within(stage.now(), 240.0, 245.0), "{}", stage.now());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_can_just_be_met_is_taken() {
    let stage = Stage::new(ten_a_minute(), (0..12).map(|_| Reply::good()));
    let mut asides = Vec::new();
    for _ in 0..11 {
        asides.push(stage.send_aside(ask("batch")).await);
    }
    let just = Request { deadline: Some(stage.at(69)), ..ask("just") };
    asides.push(stage.send_aside(just).await);
    for aside in asides {
        aside.await.unwrap().unwrap();
    }
    assert!(within(stage.now(), 66.0, 68.0), "{}", stage.now());
}

#[tokio::test(start_paused = true)]
async fn a_large_prompt_keeps_its_turn_until_the_meter_is_full_enough() {
    // A large call needs nearly all of a minute's tokens; small ones come all the time and would each fit at once.
    let limits = json!({"tpm": {"amount": 6_000, "refill": "bucket"}, "pause_threshold": 1.0});
    let stage = Stage::new(openai(&["sk-a"], limits), (0..400).map(|_| Reply::good()));
    let sized = |prompt: &str, most: u64| {
        let params = serde_json::Map::from_iter([("max_tokens".to_owned(), json!(most))]);
        Request { params, ..ask(prompt) }
    };
    let mut asides = Vec::new();
    for _ in 0..12 {
        asides.push(stage.send_aside(sized("small", 490)).await);
    }
    let large = stage.send_aside(sized("large", 5_900)).await;
    for _ in 0..60 {
        asides.push(stage.send_aside(sized("small", 490)).await);
        pass(1.0).await;
    }
    large.await.unwrap().unwrap();
    assert!(stage.now() < 62.0, "{}", stage.now());
    let before = stage.sent().into_iter().take_while(|sent| sent.prompt != "large").count();
    assert!(before <= 12, "{before} went before it");
    for aside in asides {
        aside.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn who_may_not_use_a_lane_that_is_free_does_not_keep_it_from_others() {
    // The first call meets a bad key, then a closed one: only the closed one is left to it, for ten seconds.
    let mut config = openai(&["sk-a", "sk-b"], json!({}));
    config["limits"] = json!({"openai": {"concurrency": 2}});
    let replies = Reply::by_key(|key| match key {
        "sk-b" => Reply::refusal(429, "Rate limit reached").header("retry-after", "10"),
        _ => Reply::refusal(404, "The model does not exist").after(1),
    });
    let stage = Stage::new(config, [replies.clone(), replies, Reply::good(), Reply::good()]);
    let stubborn = stage.send_aside(ask("stubborn")).await;
    pass(1.5).await;
    assert_eq!(stage.keys_used(), ["sk-a", "sk-b"]);
    assert_eq!(stage.waiting(), 1);
    // Somebody opens the key that failed the call which waits.
    stage.engine.open_key("openai", "sk-a", true).unwrap();
    let fresh = stage.send_aside(ask("fresh")).await;
    fresh.await.unwrap().unwrap();
    assert!(within(stage.now(), 1.5, 1.6), "{}", stage.now());
    stubborn.await.unwrap().unwrap();
    assert_eq!(stage.keys_used(), ["sk-a", "sk-b", "sk-a", "sk-b"]);
    assert!(within(stage.now(), 11.0, 13.0), "{}", stage.now());
}

#[tokio::test(start_paused = true)]
async fn two_thousand_who_wait_are_listed_and_sent_home() {
    let stage = Stage::new(one_at_a_time(), [Reply::silence()]);
    let _first = stage.send_aside(ask("first")).await;
    let asides: Vec<Aside> = (0..2_000)
        .map(|place| {
            let engine = stage.engine.clone();
            let user = Some(format!("user {}", place % 7));
            tokio::spawn(async move { engine.send(Request { user, ..ask("waits") }).await })
        })
        .collect();
    while stage.waiting() < 2_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(stage.engine.queue().unwrap().len(), 2_000);
    assert_eq!(stage.engine.clear_queue(None, None).unwrap(), 2_000);
    for aside in asides {
        assert_eq!(aside.await.unwrap().unwrap_err().kind, ErrorKind::QueueCleared);
    }
}
