//! Users who share a line, and limits of their own that hold up no other user.

use super::*;
use quotaflow::error::UserLimit;
use quotaflow::kernel::{Amounts, AnswerCharged, LedgerId};

fn by(user: &str, prompt: &str) -> Request {
    Request { user: Some(user.to_owned()), ..ask(prompt) }
}

/// One call at a time, each of which takes a second, with these users.
fn one_at_a_time(users: Value) -> Value {
    let mut config = openai(&["sk-a"], json!({"concurrency": 1}));
    config["users"] = users;
    config
}

fn prompts(stage: &Stage) -> Vec<String> {
    stage.sent().into_iter().map(|sent| sent.prompt).collect()
}

#[tokio::test(start_paused = true)]
async fn users_of_one_priority_share_by_their_weights_whoever_came_first() {
    let replies = (0..41).map(|_| Reply::good().after(1));
    let stage = Stage::new(one_at_a_time(json!({"alice": {"weight": 3}})), replies);
    let mut asides = vec![stage.send_aside(ask("first")).await];
    for _ in 0..20 {
        asides.push(stage.send_aside(by("bob", "bob")).await);
    }
    for _ in 0..20 {
        asides.push(stage.send_aside(by("alice", "alice")).await);
    }
    for aside in asides {
        aside.await.unwrap().unwrap();
    }
    let served = prompts(&stage);
    let alices = served[1..25].iter().filter(|who| *who == "alice").count();
    assert!((17..=19).contains(&alices), "{alices} of 24: {served:?}");
    assert!(served[28..].iter().all(|who| who == "bob"));
}

#[tokio::test(start_paused = true)]
async fn who_used_up_its_own_minute_waits_aside_and_holds_up_nobody() {
    let mut config = openai(&["sk-a"], json!({}));
    config["users"] = json!({"alice": {"rpm": 2}});
    let stage = Stage::new(config, (0..7).map(|_| Reply::good()));
    let mut asides = Vec::new();
    for _ in 0..4 {
        asides.push(stage.send_aside(by("alice", "alice")).await);
    }
    assert_eq!((stage.sent().len(), stage.waiting()), (2, 2));
    assert!(stage.was_told("the limit of its user, 2 requests per minute used up until"));
    // Others come, and pass.
    for who in ["bob", "carol", "bob"] {
        asides.push(stage.send_aside(by(who, who)).await);
    }
    assert_eq!((stage.now(), stage.waiting()), (0.0, 2));
    for aside in asides {
        aside.await.unwrap().unwrap();
    }
    assert!(within(stage.now(), 60.0, 61.2), "{}", stage.now());
    assert_eq!(prompts(&stage)[2..5], ["bob", "carol", "bob"]);
}

#[tokio::test(start_paused = true)]
async fn a_used_up_day_of_a_user_is_told_at_once_and_no_key_or_fallback_helps() {
    let mut config = openai(&["sk-a", "sk-b"], json!({}));
    config["models"] = json!({
        "default": {"provider": "openai", "model": "gpt-test"},
        "fallback": [{"provider": "openai", "model": "gpt-other"}],
    });
    config["users"] = json!({"default": {"rpd": 1}});
    let stage = Stage::new(config, (0..3).map(|_| Reply::good()));
    stage.send(by("alice", "one")).await.unwrap();
    let error = stage.send(by("alice", "two")).await.unwrap_err();
    assert_eq!((&error.kind, stage.now(), stage.sent().len()), (&ErrorKind::UserLimit, 0.0, 1));
    assert_eq!(error.user_limit, Some(UserLimit { name: "rpd", used: 1, amount: 1 }));
    let day = error.retry_after.unwrap().as_secs();
    assert!((86_400..86_403).contains(&day), "{day}");
    assert!(error.message.starts_with("this user has used 1 of 1 request per day"), "{error}");
    // Somebody else has a day of their own, and so has nobody in particular.
    stage.send(by("bob", "three")).await.unwrap();
    stage.send(ask("four")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_minute_that_lasts_longer_than_the_call_is_told_at_once() {
    let mut config = openai(&["sk-a"], json!({}));
    config["users"] = json!({"default": {"rpm": 1}});
    let stage = Stage::new(config, [Reply::good()]);
    stage.send(by("alice", "one")).await.unwrap();
    let hurried = Request { timeout: Some(Duration::from_secs(20)), ..by("alice", "two") };
    let error = stage.send(hurried).await.unwrap_err();
    assert_eq!((&error.kind, stage.now()), (&ErrorKind::UserLimit, 0.0));
    let minute = error.retry_after.unwrap().as_secs();
    assert!((59..62).contains(&minute), "{minute}");
    // Behind others who wait it is told when its turn comes, and those are not held up.
    let error =
        stage.send(Request { timeout: Some(Duration::from_secs(20)), ..by("alice", "3") }).await;
    assert_eq!(error.unwrap_err().kind, ErrorKind::UserLimit);
}

#[tokio::test(start_paused = true)]
async fn what_was_reserved_and_not_used_comes_back_to_the_user() {
    let mut config = openai(&["sk-a"], json!({}));
    config["users"] = json!({"default": {"tpm": 1_000}});
    let stage = Stage::new(config, (0..30).map(|_| Reply::good()));
    // Each is billed 15 tokens, whatever it reserves.
    for _ in 0..30 {
        let params = serde_json::Map::from_iter([("max_tokens".to_owned(), json!(500))]);
        stage.send(Request { params, ..by("alice", "hello") }).await.unwrap();
    }
    assert_eq!(stage.now(), 0.0);
    let params = serde_json::Map::from_iter([("max_tokens".to_owned(), json!(1_000))]);
    let error = stage.send(Request { params, ..by("alice", "hello") }).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::UserLimit, "larger than the limit can ever hold");
    assert_eq!(error.user_limit.unwrap().name, "tpm");
}

#[tokio::test(start_paused = true)]
async fn a_restart_remembers_users_and_their_names_are_not_written_down() {
    let mut config = openai(&["sk-a"], json!({}));
    config["users"] = json!({"default": {"rpd": 1}});
    let stage = Stage::new(config, [Reply::good()]);
    stage.send(by("alice", "one")).await.unwrap();
    let ids: Vec<LedgerId> = stage.store.ids().unwrap();
    let of_users: Vec<_> = ids.iter().filter(|id| id.as_str().starts_with("user|")).collect();
    assert_eq!(of_users.len(), 1);
    assert!(!ids.iter().any(|id| id.as_str().contains("alice")), "{ids:?}");
    let again = stage.restarted([Reply::good()]);
    assert_eq!(again.send(by("alice", "two")).await.unwrap_err().kind, ErrorKind::UserLimit);
    again.engine.reset(None, None).unwrap();
    again.send(by("alice", "three")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_skips_the_limits_skips_its_own_and_is_counted() {
    let mut config = openai(&["sk-a"], json!({}));
    config["users"] = json!({"default": {"rpd": 1}});
    let stage = Stage::new(config, [Reply::good(), Reply::good()]);
    for _ in 0..2 {
        stage.send(Request { skip_rate_limit: true, ..by("alice", "now") }).await.unwrap();
    }
    let error = stage.send(by("alice", "later")).await.unwrap_err();
    assert_eq!(error.user_limit, Some(UserLimit { name: "rpd", used: 2, amount: 1 }));
}

#[tokio::test(start_paused = true)]
async fn money_without_a_price_is_warned_of_once() {
    let mut config = openai(&["sk-a"], json!({}));
    config["users"] = json!({"default": {"cost_per_day": 0.5}});
    let stage = Stage::new(config, (0..3).map(|_| Reply::good()));
    for _ in 0..3 {
        stage.send(by("alice", "hello")).await.unwrap();
    }
    let told = stage.lines().into_iter().filter(|line| line.contains("the price of")).count();
    assert_eq!(told, 1);
}

#[tokio::test(start_paused = true)]
async fn money_that_is_spent_is_refused() {
    let mut config = openai(&["sk-a"], json!({}));
    config["users"] = json!({"default": {"cost_per_day": 0.5}});
    let stage = Stage::new(config, [Reply::good()]);
    stage.send(by("alice", "hello")).await.unwrap();
    // What prices will say, said by hand.
    let id = stage.store.ids().unwrap();
    let id = id.into_iter().find(|id| id.as_str().starts_with("user|")).unwrap();
    let now = stage.at(0);
    stage
        .store
        .update(&[id], &mut |ledgers| {
            let spent = Amounts { spend: 600_000, ..Amounts::default() };
            ledgers.get_mut(0).correct(
                &Amounts::default(),
                &spent,
                AnswerCharged::AtOnce,
                now,
                now,
            );
        })
        .unwrap();
    let error = stage.send(by("alice", "more")).await.unwrap_err();
    let limit = UserLimit { name: "cost_per_day", used: 600_000, amount: 500_000 };
    assert_eq!(error.user_limit, Some(limit));
    assert!(error.message.starts_with("this user has used $0.60 of $0.50 per day"), "{error}");
}

/// One key on which many calls may be in flight, with a price for `gpt-test`: $10 for a million tokens of input, $100 for
/// a million of output. A good answer is billed $0.0006.
fn priced(limits: Value, users: Value) -> Value {
    let mut config = openai(&["sk-a"], limits);
    config["prices"] = json!({"openai": {"gpt-test": {"input": 10, "output": 100}}});
    config["users"] = users;
    config
}

/// A call of alice that reserves so many tokens for its answer.
fn reserving(max_tokens: u64) -> Request {
    let params = serde_json::Map::from_iter([("max_tokens".to_owned(), json!(max_tokens))]);
    Request { params, ..by("alice", "hello") }
}

#[tokio::test(start_paused = true)]
async fn money_bounds_what_many_calls_at_once_may_cost() {
    let users = json!({"default": {"cost_per_day": 0.05}});
    let replies = (0..200).map(|_| Reply::good().after(1));
    let stage = Stage::new(priced(json!({"concurrency": 300}), users), replies);
    // Each may cost a cent and a little, so four may be under way.
    let mut asides = Vec::new();
    for _ in 0..200 {
        asides.push(stage.send_aside(reserving(100)).await);
    }
    assert_eq!((stage.sent().len(), stage.waiting()), (4, 196));
    let mut answered = 0;
    for aside in asides {
        match aside.await.unwrap() {
            Ok(_) => answered += 1,
            Err(error) => assert_eq!(error.user_limit.unwrap().name, "cost_per_day"),
        }
    }
    // Until what is left is less than one may cost.
    assert!((65..=83).contains(&answered), "{answered}");
    assert!(stage.now() < 80.0, "{}", stage.now());
}

#[tokio::test(start_paused = true)]
async fn money_that_a_provider_may_cost_bounds_calls_at_once_as_well() {
    let limits = json!({"cost_per_day": 0.05, "pause_threshold": 1.0, "concurrency": 300});
    let replies = (0..30).map(|_| Reply::good().after(1));
    let stage = Stage::new(priced(limits, json!({})), replies);
    let mut asides = Vec::new();
    for _ in 0..30 {
        asides.push(stage.send_aside(Request { user: None, ..reserving(100) }).await);
    }
    assert_eq!(stage.sent().len(), 4);
    for aside in asides {
        aside.await.unwrap().unwrap();
    }
    let error = stage.send(Request { user: None, ..reserving(1_000) }).await.unwrap_err();
    assert!(is_failure(&error, FailureClass::TokenLimited), "{error:?}");
    assert!(error.message.contains("may cost $0.1001, more than all of $0.05 per day"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn one_call_that_may_cost_more_than_the_whole_limit_is_told_at_once() {
    let users = json!({"default": {"cost_per_day": 0.05}});
    let stage = Stage::new(priced(json!({}), users), [Reply::good()]);
    let error = stage.send(reserving(1_000)).await.unwrap_err();
    assert_eq!((&error.kind, stage.now(), stage.sent().len()), (&ErrorKind::UserLimit, 0.0, 0));
    let words = "the call may cost $0.1001, and its user has $0.05 per day";
    assert!(error.message.starts_with(words), "{error}");
    assert_eq!(error.user_limit.unwrap().name, "cost_per_day");
    // How long an answer is that nothing bounds is a guess, and a guess makes no call too expensive.
    let users = json!({"default": {"cost_per_day": 0.02}});
    let stage = Stage::new(priced(json!({}), users), [Reply::good()]);
    stage.send(by("alice", "hello")).await.unwrap();
}

/// What alice has used of her money, in millionths of a dollar; asks for more than she can have.
async fn spent(stage: &Stage) -> u64 {
    let long = by("alice", &"abcd ".repeat(9_000));
    let call = Request { model: Some("claude-haiku-4-5".to_owned()), fallback: false, ..long };
    stage.send(call).await.unwrap_err().user_limit.unwrap().used
}

#[tokio::test(start_paused = true)]
async fn what_calls_cost_is_booked_once_for_each_attempt_that_is_billed() {
    let mut config = openai(&["sk-a"], json!({}));
    config["providers"]["anthropic"] = json!({"keys": ["sk-ant-a"]});
    config["models"] = json!({
        "default": {"provider": "openai", "model": "gpt-4o-mini"},
        "fallback": [{"provider": "anthropic", "model": "claude-haiku-4-5"}],
    });
    config["users"] = json!({"default": {"cost_per_day": 0.01}});
    let replies = [
        // Tried again after a failure that nobody bills, and after a refusal.
        Reply::refusal(500, "oh"),
        Reply::refusal(429, "slow down"),
        Reply::good(),
        // Refused, and answered elsewhere.
        Reply::refusal(402, "no credit"),
        Reply::good_message(),
    ];
    let stage = Stage::new(config, replies);
    let call = || Request { model: None, max_retries: Some(5), ..reserving(100) };
    let here = stage.send(Request { fallback: false, ..call() }).await.unwrap();
    assert_eq!((here.attempts.len(), here.cost()), (3, Some(10 * 150_000 + 5 * 600_000)));
    assert_eq!(spent(&stage).await, 5);
    let elsewhere = stage.send(call()).await.unwrap();
    assert_eq!(elsewhere.cost(), Some(10 * 1_000_000 + 5 * 5_000_000));
    assert_eq!(spent(&stage).await, 5 + 35);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_knows_the_end_of_counts_as_it_was_estimated() {
    let users = json!({"default": {"cost_per_day": 0.05}});
    let replies = [Reply::fault(TransportFault::Broken), Reply::good()];
    let stage = Stage::new(priced(json!({}), users), replies);
    let error = stage.send(Request { retry: false, ..reserving(300) }).await.unwrap_err();
    assert!(is_failure(&error, FailureClass::Network), "{error:?}");
    let error = stage.send(reserving(300)).await.unwrap_err();
    let used = error.user_limit.unwrap().used;
    assert!((30_000..31_000).contains(&used), "{used}");
}

#[tokio::test(start_paused = true)]
async fn a_call_of_many_attempts_is_one_request_of_its_user() {
    let mut config = openai(&["sk-a"], json!({}));
    config["providers"]["anthropic"] = json!({"keys": ["sk-ant-a"]});
    config["models"] = json!({
        "default": {"provider": "openai", "model": "gpt-test"},
        "fallback": [{"provider": "anthropic", "model": "claude-haiku-4-5"}],
    });
    config["users"] = json!({"default": {"rpd": 1}});
    let replies = [
        Reply::refusal(503, "busy"),
        Reply::good(),
        Reply::refusal(402, "no credit"),
        Reply::good_message(),
        // What never left is no request at all.
        Reply::fault(TransportFault::Refused),
        Reply::good_message(),
    ];
    let stage = Stage::new(config, replies);
    let call = |user: &str| Request { model: None, ..by(user, "hello") };
    assert_eq!(stage.send(call("alice")).await.unwrap().attempts.len(), 2);
    assert_eq!(stage.send(call("bob")).await.unwrap().attempts.len(), 2);
    assert_eq!(stage.send(call("carol")).await.unwrap().attempts.len(), 2);
    for user in ["alice", "bob", "carol"] {
        let error = stage.send(call(user)).await.unwrap_err();
        assert_eq!(error.user_limit, Some(UserLimit { name: "rpd", used: 1, amount: 1 }), "{user}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_not_lost_when_an_own_limit_forbids_to_try_again() {
    let users = json!({"default": {"tpd": 1_000}});
    let mut config = openai(&["sk-a"], json!({}));
    config["users"] = users;
    let stage = Stage::new(config, [Reply::refusal(500, "it burns")]);
    let error = stage.send(reserving(600)).await.unwrap_err();
    assert!(is_failure(&error, FailureClass::ServerError), "{error:?}");
    assert_eq!((error.attempts.len(), error.http_status), (1, Some(500)));
    for words in ["it burns", "not tried again", "1000 tokens per day used up until"] {
        assert!(error.message.contains(words), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_behind_ones_own_calls_is_estimated_by_ones_own_limit() {
    let mut config = openai(&["sk-a"], json!({}));
    config["users"] = json!({"alice": {"rpm": 2}});
    let stage = Stage::new(config, (0..12).map(|_| Reply::good()));
    let mut asides = Vec::new();
    for _ in 0..12 {
        asides.push(stage.send_aside(by("alice", "hello")).await);
    }
    let etas: Vec<f64> =
        stage.engine.queue().unwrap().iter().map(|call| call.eta.unwrap()).collect();
    assert_eq!(etas.len(), 10);
    for (place, eta) in etas.iter().enumerate() {
        let minute = 60.0 * (1 + place / 2) as f64;
        assert!(within(*eta, minute, minute + 1.0), "{etas:?}");
    }
    let patient =
        |seconds| Request { timeout: Some(Duration::from_secs(seconds)), ..by("alice", "late") };
    let error = stage.send(patient(65)).await.unwrap_err();
    assert_eq!((&error.kind, stage.now()), (&ErrorKind::UserLimit, 0.0));
    assert_eq!(error.user_limit.unwrap().name, "rpm");
    assert!(error.message.contains("10 of its calls go before this one"), "{error}");
    assert!((360..363).contains(&error.retry_after.unwrap().as_secs()), "{error:?}");
    // Who is not alice waits for nobody, and who has the time may stand there.
    let bob = stage.send_aside(Request { user: Some("bob".to_owned()), ..patient(1) }).await;
    assert!(bob.is_finished());
    let _ = bob.await.unwrap();
    let last = stage.send_aside(patient(400)).await;
    assert!(!last.is_finished());
    stage.engine.clear_queue(None, None).unwrap();
    drop(asides);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_waits_for_its_users_limit_says_so() {
    let mut config = openai(&["sk-a"], json!({}));
    config["users"] = json!({"alice": {"rpm": 1}});
    let stage = Stage::new(config, (0..3).map(|_| Reply::good()));
    let batch = stage.engine.batch(&by("alice", "usual"), None, || {});
    batch.put((0..3).map(|number| (number, by("alice", &format!("{number}")))).collect());
    settle().await;
    pass(3.0).await;
    assert_eq!(batch.reading().obstacle.as_deref(), Some("requests per minute of its user"));
    pass(140.0).await;
    settle().await;
    let lost = batch.reading().lost;
    assert_eq!(lost.keys().collect::<Vec<_>>(), ["requests per minute of its user"]);
    assert!(within(lost.values().next().unwrap().as_secs_f64(), 119.0, 123.0), "{lost:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_users_call_gives_back_lets_the_next_one_go_at_once() {
    // Each may cost a cent and a little and costs half a hundredth of that; one may be under way.
    let users = json!({"default": {"cost_per_day": 0.015}});
    let replies = (0..10).map(|_| Reply::good());
    let stage = Stage::new(priced(json!({"concurrency": 300}), users), replies);
    let mut asides = Vec::new();
    for _ in 0..6 {
        asides.push(stage.send_aside(reserving(100)).await);
    }
    let mut answered = 0;
    for aside in asides {
        answered += usize::from(aside.await.unwrap().is_ok());
    }
    assert!(answered >= 5, "{answered}");
    assert!(stage.now() < 0.5, "{}", stage.now());
}
