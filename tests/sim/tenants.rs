//! A day of mixed users and priorities: shares, starvation, waits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quotaflow::engine::{Clock, Engine, Request};
use quotaflow::error::ErrorKind;
use quotaflow::kernel::Moment;
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
        providers: json!({"seed": seed, "latency": 0.2, "keys": simulated,
                          "tokens": {"output": {"min": 100, "max": 600}}}),
    }
}

/// A call of a user with an answer of at most so many tokens.
fn call(user: &str, priority: u8, most: u64) -> Request {
    let user = Some(user.to_owned());
    Request { user, priority, params: max_tokens(most), ..ask("openai", GPT, "Go") }
}

/// How many tokens were billed for an answer.
fn billed(ended: &Ended) -> u64 {
    let usage = ended.answer().usage.unwrap();
    usage.input_tokens + usage.output_tokens
}

/// Somebody who always has this many calls waiting, each of another size, until the end.
async fn always_waiting(
    world: Arc<World>,
    engine: Arc<Engine>,
    user: &'static str,
    priority: u8,
    sizes: (u64, u64),
    seed: u64,
    end: Moment,
) -> Vec<(Moment, Ended)> {
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
                (truth.now(), ended)
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
        // Three users with batches of their own: small and mixed calls, those that declare far more than they use, and
        // those that often do; and one at a lower priority.
        let batches = [
            ("alice", 3, (10, 800)),
            ("bob", 3, (4_000, 4_000)),
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
            for (when, ended) in &done {
                assert!(ended.is_answered(), "{user}: {ended:?}");
                let hour = (when.since(start).as_secs() / 3_600) as usize;
                if hour < hours {
                    tokens[hour] += billed(ended);
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

/// What one call of the day came to.
struct Told {
    user: String,
    priority: u8,
    came: Moment,
    left: Moment,
    billed: u64,
}

impl Told {
    fn new(user: &str, priority: u8, ended: &Ended) -> Told {
        let first = &ended.answer().attempts[0];
        let left = first.started;
        let (user, billed) = (user.to_owned(), billed(ended));
        Told { user, priority, came: left.before(first.waited), left, billed }
    }

    fn waits_at(&self, at: Moment) -> bool {
        self.came <= at && at <= self.left
    }
}

fn weight(user: &str) -> f64 {
    match user {
        "alice" => 3.0,
        "carol" => 2.0,
        _ => 1.0,
    }
}

/// Whoever else comes: the priority of the one who has waited longest has every twentieth turn. `told` is in the order of
/// leaving.
fn assert_every_twentieth_turn_is_of_the_oldest(told: &[Told]) {
    let mut by_coming: Vec<usize> = (0..told.len()).collect();
    by_coming.sort_by_key(|place| told[*place].came);
    let mut coming = by_coming.into_iter().peekable();
    let mut waiting: BTreeSet<(Moment, usize)> = BTreeSet::new();
    let mut without: BTreeMap<u8, u64> = BTreeMap::new();
    for (place, one) in told.iter().enumerate() {
        while let Some(next) = coming.next_if(|next| told[*next].came <= one.left) {
            waiting.insert((told[next].came, next));
        }
        let (_, oldest) = waiting.first().unwrap();
        let priority = told[*oldest].priority;
        let turns = without.entry(priority).or_default();
        *turns = if one.priority == priority { 0 } else { *turns + 1 };
        assert!(
            *turns <= 20,
            "{turns} turns without one of priority {priority}, at {:?}",
            one.left
        );
        waiting.remove(&(one.came, place));
    }
}

/// While a call waited, others of its priority were billed no more than its user by their weights, and one call each.
fn assert_no_more_than_a_share_went_before(one: &Told, all: &[&Told]) {
    const LARGEST: f64 = 610.0;
    let beside: Vec<&&Told> = (all.iter())
        .filter(|other| other.priority == one.priority)
        .filter(|other| other.came <= one.left && other.left >= one.came)
        .collect();
    let users: BTreeSet<&str> = beside.iter().map(|other| other.user.as_str()).collect();
    let weights: f64 = users.iter().map(|user| weight(user)).sum();
    let (own, others): (Vec<&&Told>, Vec<&&Told>) = (beside.into_iter())
        .filter(|other| other.left < one.left)
        .partition(|other| other.user == one.user);
    let sum = |these: &[&&Told]| these.iter().map(|one| one.billed as f64).sum::<f64>();
    // The last of its user before it came may count in full.
    let own = sum(&own) + LARGEST;
    let most = own * weights / weight(&one.user) + LARGEST * users.len() as f64;
    assert!(sum(&others) <= most, "{}: {} > {most}", one.user, sum(&others));
}

/// What each user was billed, and what their weights would have given them: of each call that left, a share to everybody
/// of its priority who was waiting then. Those who came and went are one.
fn got_and_due(told: &[&Told]) -> BTreeMap<String, (f64, f64)> {
    let mut sums: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    let name = |user: &str| if user.starts_with("visitor") { "visitors" } else { user }.to_owned();
    for one in told {
        sums.entry(name(&one.user)).or_default().0 += one.billed as f64;
        let waiting: BTreeSet<&str> = (told.iter())
            .filter(|other| other.waits_at(one.left))
            .map(|other| other.user.as_str())
            .collect();
        let all: f64 = waiting.iter().map(|user| weight(user)).sum();
        for user in waiting {
            let due = one.billed as f64 * weight(user) / all;
            sums.entry(name(user)).or_default().1 += due;
        }
    }
    sums
}

#[test]
fn nobody_starves_while_hundreds_come_and_go_and_persons_use_up_an_hour() {
    in_virtual_time(async {
        let users = json!({"alice": {"weight": 3}, "carol": {"weight": 2}});
        let world = Arc::new(World::new(&plan(14, users)));
        let engine = world.fresh_engine();
        let start = world.truth.now();
        let hour = |hours: u64| start + Duration::from_secs(3_600 * hours);
        let end = hour(24);
        let batches =
            [("alice", 3, (10, 800)), ("carol", 3, (4_000, 4_000)), ("batch", 1, (10, 500))];
        let backlogs = batches.map(|(user, priority, sizes)| {
            let (world, engine) = (world.clone(), engine.clone());
            tokio::spawn(always_waiting(world, engine, user, priority, sizes, 1, end))
        });
        let mut random = fastrand::Rng::with_seed(7);
        let mut others = Vec::new();
        let mut visitors = 0;
        let mut going = |user: String, priority: u8, most: u64| {
            let one = world.call(&engine, call(&user, priority, most), None);
            others.push((user, priority, tokio::spawn(one)));
        };
        // In the thirteenth hour more persons come than there is room for, otherwise fewer.
        let busy = hour(12)..hour(13);
        let mut next_visitor = start;
        while world.truth.now() < end {
            let now = world.truth.now();
            let pause = if busy.contains(&now) { 5.0 } else { 60.0 };
            tokio::time::sleep(Duration::from_secs_f64(pause * random.f64())).await;
            going("person".to_owned(), random.u8(5..=6), 300);
            if now >= next_visitor {
                visitors += 1;
                let (calls, most) = (random.u64(1..=8), random.u64(20..=2_000));
                (0..calls).for_each(|_| going(format!("visitor {visitors}"), 3, most));
                next_visitor = now + Duration::from_secs_f64(300.0 * random.f64());
            }
        }
        assert!(visitors > 400, "{visitors}");
        let mut told = Vec::new();
        for (user, priority, one) in others {
            told.push(Told::new(&user, priority, &one.await.unwrap()));
        }
        for (backlog, (user, priority, _)) in backlogs.into_iter().zip(batches) {
            let done = backlog.await.unwrap();
            told.extend(done.iter().map(|(_, ended)| Told::new(user, priority, ended)));
        }
        world.assert_nothing_is_held(&engine);

        told.sort_by_key(|one| (one.left, one.came));
        assert_every_twentieth_turn_is_of_the_oldest(&told);
        let below: Vec<&Told> = told.iter().filter(|one| one.priority < 5).collect();
        for one in &below {
            assert_no_more_than_a_share_went_before(one, &below);
        }

        // Persons hardly wait, but for the hour in which there are too many, and until all of those have left.
        let too_many_end = (told.iter())
            .filter(|one| one.priority >= 5 && busy.contains(&one.came))
            .map(|one| one.left)
            .max();
        let calm = |one: &&Told| one.came < busy.start || one.came > too_many_end.unwrap();
        let mut waits: Vec<Duration> = (told.iter())
            .filter(|one| one.priority >= 5)
            .filter(calm)
            .map(|one| one.left.since(one.came))
            .collect();
        waits.sort();
        let p99 = waits[waits.len() * 99 / 100];
        eprintln!("p99 of {} persons: {p99:?}", waits.len());
        assert!(p99 <= REFILL + Duration::from_millis(200), "{p99:?}");

        // By what was billed, over the day and in every six hours of it.
        for (from, to) in [(0, 24), (0, 6), (6, 12), (12, 18), (18, 24)] {
            let these: Vec<&Told> = (told.iter())
                .filter(|one| one.priority == 3 && (hour(from)..hour(to)).contains(&one.left))
                .collect();
            for (user, (got, due)) in got_and_due(&these) {
                eprintln!("hours {from} to {to}, {user}: {:.4}", got / due);
                assert!((got / due - 1.0).abs() < 0.05, "{user}: {got} instead of {due}");
            }
        }
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
