//! Marks that a caller sets on keys, beside what calls met.

use quotaflow::engine::Failure;
use quotaflow::kernel::{Origin, Scope, Until};

use super::*;

const DAY: f64 = 86_400.0;

fn gemini(keys: &[&str]) -> Value {
    json!({"providers": {"gemini": {"keys": keys}}})
}

fn failure(class: FailureClass, scope: Scope) -> Failure {
    Failure::new(class, scope, "as told")
}

/// Until when a key is closed, in seconds since the start; `None`: for good.
fn closed_until(key: &KeyStatus) -> Vec<Option<f64>> {
    let until = |at: f64| at - START.as_seconds();
    key.blocks.iter().map(|block| block.until.map(until)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_used_up_comes_back_when_the_day_turns_at_its_provider() {
    let stage = Stage::new(gemini(&["g-a", "g-b"]), []);
    pass(3_600.0).await;
    let until = stage.engine.exhaust_key("google", "gemini key 1", None).unwrap();
    assert!(within(until.since(START).as_secs_f64(), DAY, DAY + 1.0));
    assert_eq!(stage.states_of("gemini"), ["exhausted", "healthy"]);
    let key = stage.engine.key("gemini", "gemini key 1").unwrap();
    assert_eq!(key.exhausted_until, Some(until.as_seconds()));

    pass(23.0 * 3_600.0 - 1.0).await;
    assert_eq!(stage.states_of("gemini"), ["exhausted", "healthy"]);
    pass(2.1).await;
    assert_eq!(stage.states_of("gemini"), ["healthy", "healthy"]);
}

#[tokio::test(start_paused = true)]
async fn weeks_of_days_come_and_go_and_a_day_without_a_zone_ends_in_utc() {
    let stage = Stage::new(openai(&["sk-a"], json!({})), []);
    for day in 0..30_u32 {
        // The start is 08:00 UTC.
        let until = stage.engine.exhaust_key("openai", "openai key 1", None).unwrap();
        let midnight = f64::from(day) * DAY + 16.0 * 3_600.0;
        assert!(within(until.since(START).as_secs_f64(), midnight, midnight + 1.0), "day {day}");
        assert_eq!(stage.states_of("openai"), ["exhausted"]);
        pass(DAY - 1.0).await;
        assert_eq!(stage.states_of("openai"), ["healthy"]);
        pass(1.0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn calls_leave_a_marked_key_alone_after_a_restart_too() {
    let stage = Stage::new(openai(&["sk-a", "sk-b", "sk-c"], json!({})), [Reply::good()]);
    stage.engine.exhaust_key("openai", "openai key 1", None).unwrap();
    stage.engine.disable_key("openai", "openai key 2", None).unwrap();
    stage.send(ask("hello")).await.unwrap();
    let again = stage.restarted([Reply::good()]);
    again.send(ask("hello")).await.unwrap();
    assert_eq!([stage.keys_used(), again.keys_used()].concat(), ["sk-c", "sk-c"]);
    assert_eq!(again.states_of("openai"), ["exhausted", "disabled", "healthy"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_leaves_when_the_key_is_opened() {
    let stage = Stage::new(openai(&["sk-a"], json!({})), [Reply::good()]);
    let until = stage.at(250);
    stage.engine.exhaust_key("openai", "openai key 1", Some(until)).unwrap();
    let call = stage.send_aside(ask("hello")).await;
    pass(5.0).await;
    assert!(stage.engine.open_key("openai", "openai key 1", false).unwrap());
    call.await.unwrap().unwrap();
    assert!(within(stage.times()[0], 5.0, 5.1), "{:?}", stage.times());
}

#[tokio::test(start_paused = true)]
async fn what_a_call_met_at_one_model_can_be_opened_and_what_it_used_stays_counted() {
    let words = "Rate limit reached on requests per day (RPD): Limit 200, Used 200, Requested 1. \
                 Please try again in 2h0m0s.";
    let replies = [Reply::refusal(429, words), Reply::good()];
    let stage = Stage::new(openai(&["sk-a"], json!({"rph": 10})), replies);
    stage.send(ask("hello")).await.unwrap_err();
    let key = stage.engine.key("openai", "openai key 1").unwrap();
    assert_eq!(key.state, "exhausted");
    assert_eq!(
        key.blocks.iter().map(|block| block.model.as_str()).collect::<Vec<_>>(),
        ["gpt-test"]
    );
    assert!(stage.engine.open_key("openai", "openai key 1", false).unwrap());
    assert!(!stage.engine.open_key("openai", "openai key 1", false).unwrap());
    stage.send(ask("hello")).await.unwrap();
    let key = stage.engine.key("openai", "openai key 1").unwrap();
    let hour = key.limits.iter().find(|limit| limit.period.to_string() == "hour").unwrap();
    assert_eq!((key.state, hour.used), ("healthy", 2));
}

#[tokio::test(start_paused = true)]
async fn opening_a_key_forgets_its_day_and_not_its_hour() {
    let stage = Stage::new(openai(&["sk-a"], json!({"rpd": 1, "rph": 5})), [Reply::good()]);
    stage.send(ask("hello")).await.unwrap();
    assert_eq!(stage.states_of("openai"), ["exhausted"]);
    assert!(stage.engine.open_key("openai", "openai key 1", false).unwrap());
    assert!(!stage.engine.open_key("openai", "openai key 1", false).unwrap());
    let key = stage.engine.key("openai", "openai key 1").unwrap();
    let used = key.limits.iter().map(|limit| (limit.period.to_string(), limit.used));
    assert_eq!(key.state, "healthy");
    assert_eq!(Vec::from_iter(used), [("hour".to_owned(), 1), ("day".to_owned(), 0)]);
}

#[tokio::test(start_paused = true)]
async fn opening_what_a_quota_closed_leaves_a_bad_key_disabled() {
    let stage = Stage::new(openai(&["sk-a"], json!({})), []);
    stage.engine.disable_key("openai", "openai key 1", None).unwrap();
    stage.engine.exhaust_key("openai", "openai key 1", None).unwrap();
    assert!(stage.engine.open_key("openai", "openai key 1", false).unwrap());
    assert_eq!(stage.states_of("openai"), ["disabled"]);
    assert!(stage.engine.open_key("openai", "openai key 1", true).unwrap());
    assert_eq!(stage.states_of("openai"), ["healthy"]);
}

#[tokio::test(start_paused = true)]
async fn a_key_can_be_disabled_for_a_while() {
    let stage = Stage::new(openai(&["sk-a"], json!({})), []);
    stage.engine.disable_key("openai", "openai key 1", Some(stage.at(100))).unwrap();
    assert_eq!(stage.states_of("openai"), ["disabled"]);
    pass(101.1).await;
    assert_eq!(stage.states_of("openai"), ["healthy"]);
}

#[tokio::test(start_paused = true)]
async fn each_failure_closes_what_it_is_about() {
    use FailureClass::*;
    let config = grouped(&["sk-a", "sk-b"], "acme");
    let word = |failure: Failure, seconds| Failure {
        until: Some(Until { at: START + Duration::from_secs(seconds), origin: Origin::Provider }),
        ..failure
    };
    for (failure, states) in [
        (word(failure(RateLimited, Scope::GroupModel), 20), ["cooling", "cooling"]),
        (word(failure(DailyQuota, Scope::GroupModel), 20), ["exhausted", "exhausted"]),
        (failure(CreditExhausted, Scope::Group), ["exhausted", "exhausted"]),
        (word(failure(DailyQuota, Scope::GroupFreeModels), 20), ["exhausted", "exhausted"]),
        (failure(Auth, Scope::Key), ["disabled", "healthy"]),
        (failure(Auth, Scope::Group), ["disabled", "healthy"]),
        (word(failure(RateLimited, Scope::Model), 20), ["healthy", "healthy"]),
        (failure(Overloaded, Scope::Model), ["healthy", "healthy"]),
        (failure(ServerError, Scope::Call), ["healthy", "healthy"]),
        (failure(InvalidRequest, Scope::Call), ["healthy", "healthy"]),
        (
            Failure { never_here: true, ..failure(TokenLimited, Scope::GroupModel) },
            ["healthy", "healthy"],
        ),
    ] {
        let stage = Stage::new(config.clone(), []);
        let closed = stage.engine.close_key("openai", "openai key 1", &failure).unwrap();
        assert_eq!(stage.states_of("openai"), states, "{failure:?}");
        assert_eq!(closed.is_some(), states[0] != "healthy", "{failure:?}");
        let until = closed_until(&stage.keys_of("openai")[0]);
        let told = closed
            .map(|at| (at != Moment::FAR_FUTURE).then(|| at.as_seconds() - START.as_seconds()));
        assert_eq!(until, Vec::from_iter(told), "{failure:?}");
    }
}

fn grouped(keys: &[&str], group: &str) -> Value {
    let keys: Vec<Value> = keys.iter().map(|key| json!({"key": key, "group": group})).collect();
    json!({"providers": {"openai": {"keys": keys}}})
}

#[tokio::test(start_paused = true)]
async fn a_later_end_wins_and_an_earlier_one_changes_nothing() {
    let stage = Stage::new(openai(&["sk-a"], json!({})), []);
    for (seconds, least) in [(50, 50.0), (10, 50.0), (70, 70.0)] {
        stage.engine.exhaust_key("openai", "openai key 1", Some(stage.at(seconds))).unwrap();
        let until = closed_until(&stage.keys_of("openai")[0])[0].unwrap();
        assert!(within(until, least, least + 1.0), "{until}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_no_limits_forgets_nobody_elses_counts() {
    let limited = openai(&["sk-a"], json!({"rph": {"amount": 3, "refill": "rolling"}}));
    let stage = Stage::new(limited.clone(), [Reply::good(), Reply::good()]);
    stage.send(ask("hello")).await.unwrap();
    stage.send(ask("hello")).await.unwrap();

    let other = Stage::on(stage.store.clone(), stage.clock, openai(&["sk-a"], json!({})), []);
    assert_eq!(other.states_of("openai"), ["healthy"]);
    other.engine.exhaust_key("openai", "openai key 1", None).unwrap();
    assert!(other.engine.open_key("openai", "openai key 1", false).unwrap());

    let again = Stage::on(stage.store.clone(), stage.clock, limited, []);
    let used: Vec<u64> = again.keys_of("openai")[0].limits.iter().map(|limit| limit.used).collect();
    assert_eq!(used, [2]);
    other.engine.reset(Some("openai"), None).unwrap();
    let used: Vec<u64> = again.keys_of("openai")[0].limits.iter().map(|limit| limit.used).collect();
    assert_eq!(used, [0]);
}

#[tokio::test(start_paused = true)]
async fn a_key_nobody_has_is_an_error_that_shows_only_labels() {
    let stage = Stage::new(openai(&["sk-a"], json!({})), []);
    let error = stage.engine.exhaust_key("openai", "sk-planted", None).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::InvalidArgument { .. }), "{error:?}");
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("openai key 1") && !shown.contains("sk-planted"), "{shown}");
    assert!(stage.engine.open_key("opnai", "openai key 1", true).is_err());
    // The key itself is as good as its label.
    stage.engine.disable_key("openai", "sk-a", None).unwrap();
    assert_eq!(stage.states_of("openai"), ["disabled"]);
}

#[tokio::test(start_paused = true)]
async fn days_end_where_the_provider_is() {
    let stage = Stage::new(json!({}), []);
    let ends = |provider, date| stage.engine.day_ends(provider, date).unwrap();
    assert_eq!(ends("gemini", "2027-01-15"), Some(START + Duration::from_secs(86_400)));
    assert_eq!(ends("openai", "2027-01-15"), Some(START + Duration::from_secs(57_600)));
    for nonsense in ["", "2027-02-30", "yesterday", "2027-01-15T99", "9999-12-31"] {
        assert_eq!(ends("openai", nonsense), None, "{nonsense}");
    }
}
