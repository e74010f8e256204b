//! Calls that are dropped on their way.

use super::*;

fn counts(stage: &Stage) -> (u64, u64) {
    let key = stage.keys_of("openai").remove(0);
    (key.sent, key.in_flight)
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_while_it_waits_leaves_the_line() {
    let config = openai(&["sk-a"], json!({"concurrency": 1}));
    let stage = Stage::new(config, [Reply::good().after(10), Reply::good()]);
    let first = stage.send_aside(ask("first")).await;
    let dropped = stage.send_aside(ask("dropped")).await;
    let last = stage.send_aside(ask("last")).await;
    assert_eq!(stage.waiting(), 2);
    dropped.abort();
    settle().await;
    assert_eq!((stage.waiting(), counts(&stage)), (1, (1, 1)));
    first.await.unwrap().unwrap();
    last.await.unwrap().unwrap();
    let prompts: Vec<String> = stage.sent().into_iter().map(|sent| sent.prompt).collect();
    assert_eq!((prompts, counts(&stage)), (vec!["first".into(), "last".into()], (2, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_after_it_was_sent_stays_counted_and_frees_its_place() {
    let config = openai(&["sk-a"], json!({"concurrency": 1, "rpd": 9}));
    let stage = Stage::new(config, [Reply::silence(), Reply::good()]);
    let dropped = stage.send_aside(ask("dropped")).await;
    let waits = stage.send_aside(ask("waits")).await;
    assert_eq!((stage.waiting(), counts(&stage)), (1, (1, 1)));
    dropped.abort();
    waits.await.unwrap().unwrap();
    assert_eq!((stage.now(), counts(&stage)), (0.0, (2, 0)));
    let key = stage.keys_of("openai").remove(0);
    assert_eq!(key.limits.iter().find(|limit| limit.limit == 9).unwrap().used, 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_with_a_lane_that_it_never_used_gives_it_back() {
    let config = openai(&["sk-a"], json!({"concurrency": 1, "rpd": 9}));
    let stage = Stage::new(config, [Reply::good().after(1), Reply::good()]);
    let first = stage.send_aside(ask("first")).await;
    let mut given = Box::pin(stage.send(ask("dropped")));
    // It comes as far as the line, and then nobody runs it any more.
    assert!(tokio::time::timeout(Duration::from_millis(1), &mut given).await.is_err());
    assert_eq!(stage.waiting(), 1);
    first.await.unwrap().unwrap();
    settle().await;
    assert_eq!((stage.waiting(), counts(&stage)), (0, (2, 1)), "the lane is held for it");
    drop(given);
    assert_eq!(counts(&stage), (1, 0));
    let key = stage.keys_of("openai").remove(0);
    assert_eq!(key.limits.iter().find(|limit| limit.limit == 9).unwrap().used, 1);
    stage.send(ask("last")).await.unwrap();
    assert_eq!(stage.keys_used().len(), 2);
}
