//! Batches: how many calls are under way, and what becomes of them at the end.

use quotaflow::engine::Batch;

use super::*;

fn batch(stage: &Stage, most: Option<usize>) -> Batch {
    stage.engine.batch(&ask("usual"), most, || {})
}

fn calls(prompts: std::ops::Range<u64>) -> Vec<(u64, Request)> {
    prompts
        .map(|number| (number, Request { priority: 2, ..ask(&format!("prompt {number}")) }))
        .collect()
}

fn numbers(batch: &Batch) -> Vec<u64> {
    let mut numbers: Vec<u64> = batch.take().into_iter().map(|(number, _)| number).collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test(start_paused = true)]
async fn each_call_comes_back_with_its_number() {
    let replies = [Reply::good(), Reply::refusal(400, "no such thing"), Reply::good().after(2)];
    let stage = Stage::new(openai(&["sk-a"], json!({"concurrency": 8})), replies);
    let batch = batch(&stage, None);
    batch.put(calls(0..3));
    assert_eq!(batch.under_way(), 3);
    settle().await;
    let mut finished = batch.take();
    finished.sort_by_key(|(number, _)| *number);
    assert_eq!(finished.len(), 2);
    assert_eq!(finished[0].1.as_ref().unwrap().text, "fine");
    assert!(is_failure(finished[1].1.as_ref().unwrap_err(), FailureClass::InvalidRequest));
    assert_eq!(batch.under_way(), 1);
    pass(2.0).await;
    settle().await;
    assert_eq!((numbers(&batch), batch.under_way()), (vec![2], 0));
}

#[tokio::test(start_paused = true)]
async fn the_bell_rings_for_the_last_answer_and_soon_for_any() {
    let replies = (0..9).map(|number| Reply::good().after(if number == 0 { 1 } else { 60 }));
    let stage = Stage::new(openai(&["sk-a"], json!({"concurrency": 20})), replies);
    let rings = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = rings.clone();
    let batch = stage.engine.batch(&ask("usual"), None, move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    });
    let rung = || rings.load(std::sync::atomic::Ordering::SeqCst);
    batch.put(calls(0..9));
    pass(1.001).await;
    assert_eq!(rung(), 0, "one of nine can wait a moment");
    pass(0.01).await;
    assert_eq!((rung(), numbers(&batch)), (1, vec![0]));
    pass(60.0).await;
    assert_eq!((rung(), batch.take().len()), (2, 8), "once for all of them");
}

#[tokio::test(start_paused = true)]
async fn few_wait_and_the_quotas_decide_how_many_fly() {
    let replies = (0..400).map(|_| Reply::good().after(10));
    let stage = Stage::new(openai(&["sk-a", "sk-b"], json!({"concurrency": 5})), replies);
    let batch = batch(&stage, None);
    let (mut next, mut most) = (0, 0);
    while next < 200 {
        let wanted = batch.wants() as u64;
        batch.put(calls(next..next + wanted));
        next += wanted;
        settle().await;
        let reading = batch.reading();
        assert_eq!(batch.under_way() - reading.waiting, 10, "five for each key");
        assert!(reading.waiting <= 2 * 2 + 64, "{reading:?}");
        assert_eq!(reading.obstacle.as_deref(), Some("calls in flight at openai/gpt-test"));
        most = most.max(reading.waiting);
        pass(10.0).await;
        settle().await;
        batch.take();
    }
    assert!(most > 20, "the line was never empty");
    let lost = batch.reading().lost;
    let held_up = lost["calls in flight at openai/gpt-test"].as_secs_f64();
    assert!(within(held_up, stage.now() - 0.5, stage.now()), "{lost:?}");
}

#[tokio::test(start_paused = true)]
async fn a_number_is_the_most_at_once_and_answers_nobody_took_count() {
    let replies = (0..20).map(|_| Reply::good().after(1));
    let stage = Stage::new(openai(&["sk-a"], json!({"concurrency": 50})), replies);
    let batch = batch(&stage, Some(3));
    assert_eq!(batch.wants(), 3);
    batch.put(calls(0..3));
    assert_eq!(batch.wants(), 0);
    pass(1.5).await;
    assert_eq!((batch.under_way(), batch.wants()), (0, 0), "nobody reads");
    assert_eq!(numbers(&batch), [0, 1, 2]);
    assert_eq!(batch.wants(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_can_be_withdrawn_and_what_was_goes_on() {
    let replies = (0..2).map(|_| Reply::good().after(5));
    let stage = Stage::new(openai(&["sk-a"], json!({"concurrency": 2})), replies);
    let batch = batch(&stage, None);
    batch.put(calls(0..6));
    settle().await;
    let mut withdrawn = batch.withdraw();
    withdrawn.sort_unstable();
    assert_eq!(withdrawn, [2, 3, 4, 5]);
    settle().await;
    assert_eq!((stage.waiting(), batch.under_way()), (0, 2));
    assert_eq!((batch.reading().waiting, batch.reading().obstacle), (0, None));
    pass(5.1).await;
    assert_eq!(numbers(&batch), [0, 1], "and of the others nothing is heard");
}

#[tokio::test(start_paused = true)]
async fn dropping_a_batch_leaves_nothing_behind() {
    let replies = (0..2).map(|_| Reply::silence());
    let stage = Stage::new(openai(&["sk-a"], json!({"concurrency": 2})), replies);
    let batch = batch(&stage, None);
    batch.put(calls(0..40));
    settle().await;
    assert_eq!((stage.waiting(), stage.keys_of("openai")[0].in_flight), (38, 2));
    batch.put(calls(40..50));
    drop(batch);
    settle().await;
    assert_eq!((stage.waiting(), stage.keys_of("openai")[0].in_flight), (0, 0));
    assert_eq!(stage.sent().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_person_goes_before_what_a_batch_has_waiting() {
    let replies = (0..60).map(|_| Reply::good().after(1));
    let stage = Stage::new(openai(&["sk-a"], json!({"concurrency": 1})), replies);
    let batch = batch(&stage, None);
    batch.put(calls(0..50));
    settle().await;
    let person = stage.send_aside(Request { priority: 5, ..ask("a person") }).await;
    person.await.unwrap().unwrap();
    assert!(stage.now() <= 3.1, "answered at {}", stage.now());
    assert!(batch.under_way() > 40);
}

#[tokio::test(start_paused = true)]
async fn a_closed_engine_ends_every_call() {
    let stage = Stage::new(openai(&["sk-a"], json!({"concurrency": 1})), [Reply::good().after(1)]);
    let batch = batch(&stage, None);
    batch.put(calls(0..5));
    settle().await;
    stage.engine.close();
    pass(1.1).await;
    let finished = batch.take();
    let closed = |(_, outcome): &&(u64, Result<Answer, Error>)| {
        outcome.as_ref().is_err_and(|error| error.kind == ErrorKind::Closed)
    };
    assert_eq!((finished.len(), finished.iter().filter(closed).count()), (5, 4));
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_call_begins_when_it_leaves_the_line() {
    let replies = (0..90).map(|number| if number == 5 { Reply::silence() } else { Reply::good() });
    let limits = json!({"rpm": {"amount": 60, "burst": 1, "refill": "bucket"}});
    let stage = Stage::new(openai(&["sk-a"], limits), replies);
    let batch = batch(&stage, None);
    let timeout = Some(Duration::from_secs(2));
    batch.put(
        calls(0..60)
            .into_iter()
            .map(|(number, ask)| (number, Request { timeout, ..ask }))
            .collect(),
    );
    pass(70.0).await;
    settle().await;
    let failed: Vec<_> = batch
        .take()
        .into_iter()
        .filter_map(|(number, outcome)| Some((number, outcome.err()?)))
        .collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0].1.kind, ErrorKind::Deadline);
    let attempt = &failed[0].1.attempts[0];
    assert!(within(attempt.lasted.as_secs_f64(), 1.9, 2.1), "{attempt:?}");
    assert_eq!(batch.under_way(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_full_fails_no_call_of_a_batch() {
    let replies = (0..60).map(|_| Reply::good().after(1));
    let mut config = openai(&["sk-a"], json!({"concurrency": 1}));
    config["queue"] = json!({"max_size": 4});
    let stage = Stage::new(config, replies);
    let batches = [batch(&stage, None), batch(&stage, None), batch(&stage, None)];
    for batch in &batches {
        batch.put(calls(0..10));
    }
    pass(1.5).await;
    assert!(stage.waiting() <= 4);
    assert_eq!(batches[0].wants(), 0, "there is no room");
    pass(60.0).await;
    settle().await;
    for batch in &batches {
        let finished = batch.take();
        assert!(finished.iter().all(|(_, outcome)| outcome.is_ok()), "{finished:?}");
        assert_eq!(finished.len(), 10);
    }
}

/// How long a batch says that `prompts` take, and how long they took.
async fn told_and_true(config: Value, usual: Request, prompts: u64) -> (f64, f64) {
    let stage = Stage::new(config, (0..prompts).map(|_| Reply::good().after(1)));
    let batch = stage.engine.batch(&usual, None, || {});
    let (mut next, mut done, mut told) = (0, 0, None);
    let began = stage.now();
    while done < prompts {
        let wanted = (batch.wants() as u64).min(prompts - next);
        let call = |number| (number, Request { messages: ask("x").messages, ..usual.clone() });
        batch.put((next..next + wanted).map(call).collect());
        next += wanted;
        settle().await;
        if told.is_none() {
            told = Some(batch.time_left(prompts, None).unwrap().as_secs_f64());
        }
        pass(0.5).await;
        settle().await;
        done += batch.take().len() as u64;
    }
    (told.unwrap(), stage.now() - began)
}

#[tokio::test(start_paused = true)]
async fn the_time_left_is_what_the_quotas_make_of_it() {
    let low = Request { priority: 2, ..ask("x") };
    let bob = Request { user: Some("bob".to_owned()), ..low.clone() };
    let plain = |limits| openai(&["sk-a"], limits);
    let mut shared = openai(&["sk-a", "sk-b"], json!({"rpm": 60}));
    shared["providers"]["openai"]["keys"] =
        json!([{"key": "sk-a", "group": "g"}, {"key": "sk-b", "group": "g"}]);
    let mut of_user = plain(json!({"rpm": 6_000}));
    of_user["users"] = json!({"default": {"rpm": 60}});
    let other_model = plain(json!({"models": {"gpt-other": {"rpm": 1}, "gpt-test": {"rpm": 60}}}));
    for (name, config, usual) in [
        ("sixty a minute", plain(json!({"rpm": 60})), low.clone()),
        ("half of it kept", plain(json!({"rpm": 60, "pause_threshold": 0.5})), low.clone()),
        ("one group", shared, low.clone()),
        ("a user's own", of_user, bob),
        ("another model's", other_model, low.clone()),
        ("calls in flight", plain(json!({"concurrency": 3})), low),
    ] {
        let (told, took) = told_and_true(config, usual, 200).await;
        assert!(within(told / took, 0.9, 1.1), "{name}: told {told} s, took {took} s");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_begun_a_moment_ago_is_still_to_be_sent() {
    let limits = json!({"rpm": {"amount": 60, "burst": 1, "refill": "bucket"}});
    let stage = Stage::new(openai(&["sk-a"], limits), (0..60).map(|_| Reply::good()));
    let batch = batch(&stage, None);
    batch.put(calls(0..60));
    tokio::task::yield_now().await;
    let left = batch.time_left(60, None).unwrap().as_secs_f64();
    assert!(within(left, 58.0, 70.0), "{left}");
}
