//! How do users share a line, and which limits of their own hold them up and nobody else?

use super::*;
use quotaflow::error::UserLimit;
use quotaflow::kernel::{Amounts, LedgerId};

fn by(user: &str, prompt: &str) -> Ask {
    Ask { user: Some(user.to_owned()), ..ask(prompt) }
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
    let hurried = Ask { timeout: Some(Duration::from_secs(20)), ..by("alice", "two") };
    let error = stage.send(hurried).await.unwrap_err();
    assert_eq!((&error.kind, stage.now()), (&ErrorKind::UserLimit, 0.0));
    let minute = error.retry_after.unwrap().as_secs();
    assert!((59..62).contains(&minute), "{minute}");
    // Behind others who wait it is told when its turn comes, and those are not held up.
    let error =
        stage.send(Ask { timeout: Some(Duration::from_secs(20)), ..by("alice", "3") }).await;
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
        stage.send(Ask { params, ..by("alice", "hello") }).await.unwrap();
    }
    assert_eq!(stage.now(), 0.0);
    let params = serde_json::Map::from_iter([("max_tokens".to_owned(), json!(1_000))]);
    let error = stage.send(Ask { params, ..by("alice", "hello") }).await.unwrap_err();
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
        stage.send(Ask { skip_rate_limit: true, ..by("alice", "now") }).await.unwrap();
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
    let told = stage.lines().into_iter().filter(|line| line.contains("nobody knows what")).count();
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
            ledgers.get_mut(0).correct(&Amounts::default(), &spent, now, now);
        })
        .unwrap();
    let error = stage.send(by("alice", "more")).await.unwrap_err();
    let limit = UserLimit { name: "cost_per_day", used: 600_000, amount: 500_000 };
    assert_eq!(error.user_limit, Some(limit));
    assert!(error.message.starts_with("this user has used $0.60 of $0.50 per day"), "{error}");
}
