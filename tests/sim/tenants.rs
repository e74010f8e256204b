//! Over a day of mixed users and priorities: does each get its share, does nobody starve, and how long does a person
//! wait while a batch uses everything there is?

use std::collections::BTreeMap;
use std::time::Duration;

use quotaflow::engine::{Ask, Clock, Engine};
use quotaflow::error::ErrorKind;
use serde_json::{Value, json};
use std::sync::Arc;

use crate::world::{Ended, Plan, World, ask, max_tokens};
use crate::{at, in_virtual_time};

const GPT: &str = "gpt-4o-mini";
/// Requests a minute of both keys together.
const PER_MINUTE: u64 = 20;
/// In which time a request of one key comes back.
const REFILL: Duration = Duration::from_millis(60_000 / (PER_MINUTE / 2));

/// Two keys of ten requests a minute each, without bursts, and users of these weights.
fn plan(seed: u64, users: Value) -> Plan {
    let rpm = json!({"amount": PER_MINUTE / 2, "refill": "bucket", "burst": 1});
    let keys: Vec<Value> = ["a", "b"]
        .iter()
        .map(|key| json!({"key": format!("sk-test-{key}"), "label": key, "limits": {"rpm": rpm}}))
        .collect();
    let simulated: Vec<Value> = ["a", "b"]
        .iter()
        .map(|key| {
            json!({"key": format!("sk-test-{key}"), "label": key, "provider": "openai",
                   "limits": {"rpm": PER_MINUTE / 2, "burst": 1}})
        })
        .collect();
    Plan {
        seed,
        start: at("2026-06-01T00:00[UTC]"),
        config: json!({"providers": {"openai": {"keys": keys}}, "users": users}),
        providers: json!({"seed": seed, "latency": 0.2, "keys": simulated}),
    }
}

/// A call of a user with an answer of at most so many tokens, which is what its user pays with.
fn call(user: &str, priority: u8, most: u64) -> Ask {
    let user = Some(user.to_owned());
    Ask { user, priority, params: max_tokens(most), ..ask("openai", GPT, "Go") }
}

/// Somebody who always has this many calls waiting, each of another size, until the end.
async fn always_waiting(
    world: Arc<World>,
    engine: Arc<Engine>,
    user: &'static str,
    priority: u8,
    sizes: (u64, u64),
    seed: u64,
    end: quotaflow::kernel::Moment,
) -> Vec<(quotaflow::kernel::Moment, u64, Ended)> {
    const DEEP: usize = 12;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut going = tokio::task::JoinSet::new();
    let mut done = Vec::new();
    loop {
        while going.len() < DEEP && world.truth.now() < end {
            let most = random.u64(sizes.0..=sizes.1);
            let one = world.call(&engine, call(user, priority, most), None);
            let truth = world.truth;
            going.spawn(async move {
                let ended = one.await;
                (truth.now(), most, ended)
            });
        }
        match going.join_next().await {
            Some(ended) => done.push(ended.unwrap()),
            None => return done,
        }
    }
}

#[test]
fn over_a_day_users_share_by_weight_nobody_starves_and_persons_hardly_wait() {
    in_virtual_time(async {
        let users = json!({"alice": {"weight": 3}, "bob": {"weight": 1}, "carol": {"weight": 2}});
        let world = Arc::new(World::new(&plan(11, users)));
        let engine = world.fresh_engine();
        let start = world.truth.now();
        let end = start + Duration::from_secs(86_400);
        // Three users with batches of their own, of small, mixed and large calls; and one at a lower priority.
        let batches = [
            ("alice", 3, (10, 800)),
            ("bob", 3, (400, 500)),
            ("carol", 3, (10, 2_000)),
            ("batch", 1, (10, 500)),
        ];
        let backlogs: Vec<_> = batches
            .iter()
            .enumerate()
            .map(|(seed, (user, priority, sizes))| {
                let (world, engine) = (world.clone(), engine.clone());
                tokio::spawn(always_waiting(
                    world,
                    engine,
                    user,
                    *priority,
                    *sizes,
                    seed as u64,
                    end,
                ))
            })
            .collect();
        // Persons come now and then, never as many as there is room for.
        let mut random = fastrand::Rng::with_seed(5);
        let mut persons = Vec::new();
        while world.truth.now() < end {
            tokio::time::sleep(Duration::from_secs_f64(120.0 * random.f64())).await;
            let priority = random.u8(5..=6);
            let one = world.call(&engine, call("person", priority, 300), None);
            persons.push(tokio::spawn(one));
        }
        let mut waits = Vec::new();
        for person in persons {
            let ended = person.await.unwrap();
            waits.push(ended.answer().attempts[0].waited);
        }
        waits.sort();
        assert!(waits.len() > 1_200, "{}", waits.len());
        let p99 = waits[waits.len() * 99 / 100];
        // One interval, and what our clock grants the provider's.
        assert!(p99 <= REFILL + Duration::from_millis(200), "{p99:?}");

        let mut shares: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        let hours = 24;
        for (backlog, (user, ..)) in backlogs.into_iter().zip(batches) {
            let done = backlog.await.unwrap();
            let tokens = shares.entry(user).or_insert_with(|| vec![0; hours]);
            for (when, most, ended) in &done {
                assert!(ended.is_answered(), "{user}: {ended:?}");
                let hour = (when.since(start).as_secs() / 3_600) as usize;
                if hour < hours {
                    // What it paid with: its prompt is a token or two.
                    tokens[hour] += most + 2;
                }
            }
            assert!(done.len() > 1_000, "{user} starved: {}", done.len());
        }
        let total: u64 =
            ["alice", "bob", "carol"].iter().map(|user| shares[user].iter().sum::<u64>()).sum();
        for (user, weight) in [("alice", 3.0), ("bob", 1.0), ("carol", 2.0)] {
            let share = shares[user].iter().sum::<u64>() as f64 / total as f64;
            let right = weight / 6.0;
            assert!((share / right - 1.0).abs() < 0.05, "{user}: {share} instead of {right}");
            // And so in every hour.
            let hourly = |user: &str| shares[user][1..hours - 1].to_vec();
            let all = [hourly("alice"), hourly("bob"), hourly("carol")];
            for (hour, tokens) in hourly(user).into_iter().enumerate() {
                let share = tokens as f64 / all.iter().map(|one| one[hour]).sum::<u64>() as f64;
                assert!((share / right - 1.0).abs() < 0.05, "{user}, hour {hour}: {share}");
            }
        }
        assert!(world.network.refusals().is_empty(), "{:?}", world.network.refusals());
        world.assert_nothing_is_held(&engine);
    });
}

#[test]
fn a_users_minute_holds_over_all_models_and_nobody_else_waits_for_it() {
    in_virtual_time(async {
        let users = json!({"greedy": {"rpm": 5}});
        let world = Arc::new(World::new(&plan(12, users)));
        let engine = world.fresh_engine();
        let start = world.truth.now();
        let mut calls = Vec::new();
        for place in 0..60 {
            let model = if place % 2 == 0 { GPT } else { "gpt-4o" };
            let mut one = call("greedy", 3, 50);
            one.model = Some(model.to_owned());
            calls.push(tokio::spawn(world.call(&engine, one, None)));
        }
        tokio::time::sleep(Duration::from_secs(30)).await;
        let modest = world.carry_out(&engine, call("modest", 3, 50)).await;
        assert!(modest.lasted < Duration::from_secs(8), "{:?}", modest.lasted);
        let mut left = Vec::new();
        for one in calls {
            let ended = one.await.unwrap();
            left.push(ended.answer().attempts[0].started.since(start).as_secs_f64());
        }
        left.sort_by(f64::total_cmp);
        for window in left.windows(6) {
            assert!(window[5] - window[0] >= 60.0, "{window:?}");
        }
        // As fast as five a minute allow, or nearly.
        assert!((660.0..700.0).contains(left.last().unwrap()), "{:?}", left.last());
        world.assert_nothing_is_held(&engine);
    });
}

#[test]
fn a_batch_that_is_cleared_gives_everything_to_whoever_is_left() {
    in_virtual_time(async {
        let world = Arc::new(World::new(&plan(13, json!({}))));
        let engine = world.fresh_engine();
        let batch: Vec<_> = (0..1_000)
            .map(|_| tokio::spawn(world.call(&engine, call("batch", 1, 50), None)))
            .collect();
        let kept: Vec<_> =
            (0..20).map(|_| tokio::spawn(world.call(&engine, call("kept", 2, 50), None))).collect();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let cleared = engine.clear_queue(None, Some(2)).unwrap();
        assert!(cleared > 900, "{cleared}");
        let mut ended = 0;
        for one in batch {
            match one.await.unwrap().end {
                crate::world::End::Failed(error) => {
                    assert_eq!(error.kind, ErrorKind::QueueCleared);
                    ended += 1;
                }
                other => assert!(matches!(other, crate::world::End::Answered(_))),
            }
        }
        assert_eq!(ended, cleared);
        for one in kept {
            assert!(one.await.unwrap().is_answered());
        }
        world.assert_nothing_is_held(&engine);
    });
}
