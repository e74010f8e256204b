//! Tests of users in a config.

use serde_json::{Value, json};

use super::*;
use crate::config::{Settings, Users};
use crate::kernel::{Period, Refill, Resource};

fn users(tree: Value) -> Users {
    settings(json!({ "users": tree })).users
}

fn settings(tree: Value) -> Settings {
    let config = Some(ConfigArgument::Value(tree));
    let arguments = Arguments { config, state: Some("memory".into()), ..Arguments::default() };
    Settings::resolve(arguments, Sources::default()).unwrap()
}

fn refused(tree: Value) -> String {
    let config = Some(ConfigArgument::Value(json!({ "users": tree })));
    let arguments = Arguments { config, state: Some("memory".into()), ..Arguments::default() };
    Settings::resolve(arguments, Sources::default()).unwrap_err().to_string()
}

#[test]
fn what_an_entry_does_not_state_is_the_defaults() {
    let users = users(json!({
        "alice": {"weight": 3, "rpm": 100},
        "default": {"weight": 2, "rpm": 10, "tpm": 5_000, "cost_per_day": 1.25},
    }));
    let limits = |name| -> Vec<(Resource, Period, u64)> {
        let of = |limit: &crate::kernel::Limit| (limit.resource, limit.period, limit.amount.get());
        users.of(name).limits.iter().map(of).collect()
    };
    let day = (Resource::Spend, Period::Day, 1_250_000);
    let tokens = (Resource::Tokens, Period::Minute, 5_000);
    let requests = |amount| (Resource::Requests, Period::Minute, amount);
    assert_eq!(limits("alice"), [requests(100), tokens, day]);
    assert_eq!(limits("somebody"), [requests(10), tokens, day]);
    assert_eq!((users.of("alice").weight, users.of("somebody").weight), (3_000, 2_000));
    assert!(users.of("alice").limits.iter().all(|limit| limit.refill == Refill::Rolling));
}

#[test]
fn a_day_may_be_a_civil_one() {
    let users = users(json!({
        "default": {"rpd": {"amount": 5, "refill": "calendar", "zone": "Europe/Paris"}},
    }));
    let zone = "Europe/Paris".to_owned();
    assert_eq!(users.default.limits[0].refill, Refill::Calendar { zone });
}

#[test]
fn every_slip_is_named_with_its_place() {
    for (tree, words) in [
        (
            json!({"alice": {"wieght": 3}}),
            "users.alice.wieght: there is no such field; did you mean `weight`?",
        ),
        (json!({"alice": {"requests_per_minute": 3}}), "did you mean `rpm`?"),
        (json!({"alice": {"budget": 3}}), "did you mean `cost_per_day`?"),
        (
            json!({"alice": {"weight": 0}}),
            "users.alice.weight: expected a number from 0.001 to 1000000",
        ),
        (json!({"alice": {"rpm": 0}}), "users.alice.rpm"),
        (json!({"alice": {"cost_per_day": -1}}), "users.alice.cost_per_day"),
        (json!({"alice": {"cost_per_day": "one"}}), "expected an amount of US dollars"),
        (json!({"alice": {"concurrency": 3}}), "users.alice.concurrency: there is no such field"),
        (json!({" ": {"rpm": 3}}), "a user needs a name"),
        (json!(["alice"]), "users: expected a table"),
    ] {
        let text = refused(tree);
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn money_may_be_limited_for_a_key_as_well() {
    let tree = json!({"limits": {"openai": {"cost_per_day": 0.5}}});
    let limit = settings(tree).providers["openai"].limits[0].clone();
    assert_eq!((limit.resource, limit.amount.get()), (Resource::Spend, 500_000));
    assert_eq!(limit.refill, Refill::Rolling);
}
