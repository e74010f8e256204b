//! Fair turns: no call is passed for ever, whatever others come or ask for.

use super::*;

fn as_user(user: &str, most: u64) -> Request {
    let params = serde_json::Map::from_iter([("max_tokens".to_owned(), json!(most))]);
    Request { user: Some(user.to_owned()), params, ..ask(user) }
}

/// Keeps five newcomers waiting, each somebody else with one call, until `over`.
async fn with_newcomers(stage: &Stage, mut over: impl FnMut() -> bool) -> Vec<Aside> {
    let mut newcomers = Vec::new();
    while !over() && stage.now() < 600.0 {
        while stage.waiting() < 6 {
            let name = format!("new {}", newcomers.len());
            newcomers.push(stage.send_aside(as_user(&name, 50)).await);
        }
        pass(0.5).await;
    }
    newcomers
}

#[tokio::test(start_paused = true)]
async fn a_second_call_is_not_passed_by_ever_new_users() {
    for user in [Some("x".to_owned()), None] {
        let one_at_a_time = openai(&["sk-a"], json!({"concurrency": 1}));
        let stage = Stage::new(one_at_a_time, (0..700).map(|_| Reply::good().after(1)));
        let mut newcomers = Vec::new();
        for place in 0..5 {
            newcomers.push(stage.send_aside(as_user(&format!("before {place}"), 50)).await);
        }
        let one = || Request { user: user.clone(), ..as_user("x", 50) };
        let own = [stage.send_aside(one()).await, stage.send_aside(one()).await];
        newcomers.extend(with_newcomers(&stage, || own.iter().all(Aside::is_finished)).await);
        assert!(stage.now() < 25.0, "{}", stage.now());
        stage.engine.clear_queue(None, None).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_prompt_is_not_passed_by_small_ones_of_ever_new_users() {
    let limits = json!({"tpm": {"amount": 6_000, "refill": "bucket", "burst": 1_500}, "pause_threshold": 1.0});
    let stage = Stage::new(openai(&["sk-a"], limits), (0..4_000).map(|_| Reply::good()));
    // It asked before, so that it is not a new one itself.
    let drain = stage.send_aside(as_user("drain", 1_400)).await;
    let before = stage.send_aside(as_user("x", 50)).await;
    let mut newcomers = with_newcomers(&stage, || before.is_finished()).await;
    let began = stage.now();
    let large = stage.send_aside(as_user("x", 1_400)).await;
    newcomers.extend(with_newcomers(&stage, || large.is_finished()).await);
    assert!(stage.now() - began < 40.0, "{}", stage.now() - began);
    drain.await.unwrap().unwrap();
    stage.engine.clear_queue(None, None).unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_says_to_need_much_and_uses_little_gets_no_less() {
    for at_once in [1, 4] {
        let config = openai(&["sk-a"], json!({"concurrency": at_once}));
        let stage = Stage::new(config, (0..600).map(|_| Reply::good().after(1)));
        let mut asides = Vec::new();
        for _ in 0..200 {
            asides.push(stage.send_aside(as_user("careful", 4_000)).await);
            asides.push(stage.send_aside(as_user("plain", 20)).await);
        }
        pass(200.0 / f64::from(at_once)).await;
        let sent = stage.sent();
        let careful = sent.iter().filter(|sent| sent.prompt == "careful").count();
        let share = careful as f64 / sent.len() as f64;
        assert!((0.475..0.525).contains(&share), "{share} of {} at {at_once} at once", sent.len());
        stage.engine.clear_queue(None, None).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn persons_who_use_up_everything_keep_nobody_out_for_ever() {
    // Ten a second come back; eleven persons a second want one.
    let limits = json!({"rpm": {"amount": 600, "refill": "bucket", "burst": 600}});
    let stage = Stage::new(openai(&["sk-a"], limits), (0..3_000).map(|_| Reply::good()));
    let at = |priority: u8, prompt: &str| Request { priority, ..ask(prompt) };
    for _ in 0..600 {
        stage.send_aside(at(6, "before")).await;
    }
    let mut low = None;
    let mut persons = Vec::new();
    for turn in 0..330 {
        if turn == 11 {
            low = Some((stage.now(), stage.send_aside(at(4, "low")).await));
        }
        persons.push(stage.send_aside(at(6, "person")).await);
        pass(1.0 / 11.0).await;
    }
    let (came, low) = low.unwrap();
    assert!(low.is_finished(), "it starves");
    let sent = stage.sent();
    let left = sent.iter().find(|sent| sent.prompt == "low").unwrap().at;
    assert!(left - came < 20.0 * 0.1 + 0.5, "{came} {left}");
    stage.engine.clear_queue(None, None).unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_skips_the_limits_stands_before_everybody_when_a_key_is_closed() {
    let limits = json!({"rpm": {"amount": 60, "refill": "bucket", "burst": 1}});
    let refused = Reply::refusal(429, "Rate limit reached").header("retry-after", "2");
    let replies = std::iter::once(refused).chain((0..20).map(|_| Reply::good()));
    let stage = Stage::new(openai(&["sk-a"], limits), replies);
    let mut asides = Vec::new();
    for _ in 0..13 {
        asides.push(stage.send_aside(Request { priority: 9, ..ask("waits") }).await);
    }
    pass(1.4).await;
    let now = Request { skip_rate_limit: true, priority: 3, ..ask("now") };
    let skips = stage.send_aside(now).await;
    let queue = stage.engine.queue().unwrap();
    assert_eq!((queue[0].priority, queue[0].position, queue.len()), (3, 1, 14));
    skips.await.unwrap().unwrap();
    assert!(within(stage.now(), 2.0, 2.2), "{}", stage.now());
    assert_eq!(stage.sent()[1].prompt, "now");
    for aside in asides {
        aside.await.unwrap().unwrap();
    }
    let key = stage.keys_of("openai").remove(0);
    assert_eq!(key.sent, 15, "it is counted");
}

#[tokio::test(start_paused = true)]
async fn a_tenth_of_a_burst_is_kept_for_persons() {
    let stage = Stage::new(openai(&["sk-a"], json!({"rpm": 60})), (0..40).map(|_| Reply::good()));
    let mut batch = Vec::new();
    for _ in 0..30 {
        batch.push(stage.send_aside(ask("batch")).await);
    }
    assert_eq!((stage.sent().len(), stage.waiting()), (18, 12), "of a burst of twenty");
    for _ in 0..2 {
        stage.send(Request { priority: 5, ..ask("person") }).await.unwrap();
    }
    assert!(within(stage.now(), 0.0, 0.01), "{}", stage.now());
    for aside in batch {
        aside.await.unwrap().unwrap();
    }
    assert!(within(stage.now(), 14.0, 14.5), "{}", stage.now());
}

#[tokio::test(start_paused = true)]
async fn who_pauses_after_a_failure_is_listed_and_sent_home() {
    let broken = || Reply::refusal(503, "Overloaded");
    let stage = Stage::new(
        openai(&["sk-a"], json!({"base_delay": 20})),
        [broken(), broken(), broken(), Reply::good()],
    );
    let mut asides = Vec::new();
    for (priority, user) in [(2, "ann"), (6, "bob"), (2, "cid")] {
        asides.push(stage.send_aside(Request { priority, ..as_user(user, 10) }).await);
    }
    pass(1.0).await;
    let queue = stage.engine.queue().unwrap();
    assert_eq!(queue.iter().map(|one| one.position).collect::<Vec<_>>(), [1, 2, 3]);
    for one in &queue {
        assert_eq!(one.obstacle.as_deref(), Some("a pause after a failure"));
        assert!(within(one.waited, 1.0, 1.01) && within(one.eta.unwrap(), 1.0, 40.0), "{one:?}");
        assert!(one.user.is_some() && one.tokens > 10);
    }
    let left = asides.remove(2);
    left.abort();
    settle().await;
    assert_eq!(stage.engine.queue().unwrap().len(), 2);
    assert_eq!(stage.engine.clear_queue(None, Some(5)).unwrap(), 1);
    let error = asides.remove(0).await.unwrap().unwrap_err();
    assert_eq!((&error.kind, error.attempts.len()), (&ErrorKind::QueueCleared, 1));
    assert!(within(stage.now(), 1.0, 1.1));
    asides.remove(0).await.unwrap().unwrap();
    assert!(stage.engine.queue().unwrap().is_empty());
}
