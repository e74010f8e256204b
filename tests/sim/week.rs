//! A week of five keys at three providers, with all that can happen in one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quotaflow::engine::{Clock, Engine, Request};
use quotaflow::kernel::{Moment, Period, Resource};
use quotaflow::stores::{MemoryStore, QuotaStore, SqliteStore};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::network::Arrival;
use crate::trace::first_difference;
use crate::world::{End, Ended, Plan, World, ask_task, is_promised, max_tokens};
use crate::{at, in_virtual_time};

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;
/// The engine's clock is so far ahead, and after the step so far behind: three seconds back in one step.
const CLOCK_ERROR: i64 = 1_500;

/// Quota groups: name, provider, labels of its keys, requests per day.
const GROUPS: [(&str, &str, &[&str], u64); 4] = [
    ("acme", "openai", &["openai-1", "openai-2"], 1_500),
    ("solo", "openai", &["openai-3"], 700),
    ("claude", "anthropic", &["claude-1"], 900),
    ("google", "gemini", &["gemini-1"], 450),
];

fn limits_of(group: usize) -> Value {
    let (.., per_day) = GROUPS[group];
    let bucket =
        |amount: u64, burst: u64| json!({"amount": amount, "refill": "bucket", "burst": burst});
    match group {
        0 => json!({"rpm": bucket(40, 15), "tpm": 12_000, "rpd": per_day}),
        1 => json!({"rpm": bucket(20, 20), "tpm": 8_000, "rpd": per_day}),
        2 => {
            json!({"rpm": bucket(30, 10), "input_tpm": 8_000, "output_tpm": 2_500, "rpd": per_day})
        }
        _ => json!({"rpm": 15, "tpm": 6_000, "rpd": per_day}),
    }
}

fn plan(seed: u64, start: Moment) -> Plan {
    let (mut configured, mut simulated) = (BTreeMap::<&str, Vec<Value>>::new(), Vec::new());
    for (place, (group, provider, labels, _)) in GROUPS.iter().enumerate() {
        for label in *labels {
            let (key, limits) = (format!("test-{label}"), limits_of(place));
            // Only the two keys that share one are put into a group; the others are found to be in theirs, or stay alone.
            let group_name = (place == 0).then_some(group);
            configured
                .entry(provider)
                .or_default()
                .push(json!({"key": key, "label": label, "group": group_name, "limits": limits}));
            simulated.push(json!({"key": key, "label": label, "provider": provider,
                                  "organization": group, "limits": limits}));
        }
    }
    let providers: serde_json::Map<String, Value> = configured
        .into_iter()
        .map(|(provider, keys)| (provider.to_owned(), json!({"keys": keys})))
        .collect();
    let gpt = json!({"provider": "openai", "model": "gpt-4o-mini"});
    let claude = json!({"provider": "anthropic", "model": "claude-sonnet-4"});
    let gemini = json!({"provider": "gemini", "model": "gemini-2.5-flash"});
    let task = |target: &Value, fallback: &[&Value]| {
        let mut task = target.clone();
        task["fallback"] = json!(fallback);
        task
    };
    Plan {
        seed,
        start,
        config: json!({
            "providers": providers,
            "models": {
                "default": gpt,
                "chat": task(&gpt, &[]),
                "summary": task(&claude, &[&gpt]),
                "sort": task(&gemini, &[]),
                "batch": task(&gpt, &[&gemini, &claude]),
            },
            "timeouts": {"read": 30},
        }),
        providers: json!({
            "seed": seed,
            "latency": {"min": 0.2, "max": 6.0},
            // Within one bin of the histogram from which the engine learns how long answers are.
            "tokens": {"output": {"min": 47, "max": 64}},
            "keys": simulated,
            "faults": outages(),
            "timeline": 0,
        }),
    }
}

/// What breaks, and when; hours since the start.
fn outages() -> Value {
    let between = |from: f64, hours: f64| json!([from * HOUR as f64, (from + hours) * HOUR as f64]);
    json!([
        {"when": {"provider": "anthropic", "between": between(34.0, 0.7)}, "do": {"status": 529}},
        {"when": {"provider": "openai", "between": between(60.0, 1.0), "rate": 0.5}, "do": {"status": 500}},
        {"when": {"provider": "gemini", "between": between(80.0, 0.3)}, "do": {"status": 503}},
        {"when": {"key": "openai-3", "between": between(106.0, 0.5)}, "do": "timeout"},
        {"when": {"provider": "openai", "between": between(130.0, 0.2)}, "do": {"status": 429, "retry_after": 20}},
        {"when": {"rate": 0.004}, "do": "reset"},
        {"when": {"rate": 0.003}, "do": {"status": 500}},
        {"when": {"rate": 0.002}, "do": "half_body"},
        {"when": {"rate": 0.002}, "do": {"slow": 25.0}},
    ])
}

/// What happens at an instant of the week.
enum Happening {
    Call {
        ask: Box<Request>,
        dropped_after: Option<Duration>,
    },
    /// The process ends in the middle of things and another one begins.
    Restart,
    /// Somebody compares what is counted.
    Audit,
    /// The clock is set right, and a little too far.
    ClockStep,
}

/// The week, in milliseconds since its start, in order.
fn happenings(seed: u64) -> Vec<(u64, Happening)> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut week: Vec<(u64, Happening)> = Vec::new();
    for hour in 0..WEEK / HOUR {
        let per_hour = if (8..20).contains(&(hour % 24)) { 150 } else { 10 };
        for _ in 0..random.u64(per_hour / 2..=per_hour + per_hour / 2) {
            let time = (hour * HOUR) * 1_000 + random.u64(0..HOUR * 1_000);
            week.push((time, call(&mut random, None)));
        }
        week.push((hour * HOUR * 1_000, Happening::Audit));
    }
    for day in 0..7 {
        for _ in 0..4 {
            let start = (day * DAY + random.u64(9 * HOUR..19 * HOUR)) * 1_000;
            let task = TASKS[random.usize(..TASKS.len())];
            for _ in 0..random.u64(30..110) {
                let time = start + random.u64(0..3_000);
                week.push((time, call(&mut random, Some(task))));
            }
            // Some restarts fall into the middle of a burst.
            if random.bool() {
                week.push((start + random.u64(0..20_000), Happening::Restart));
            }
        }
        week.push((random.u64(day * DAY * 1_000..(day + 1) * DAY * 1_000), Happening::Restart));
    }
    week.push((random.u64(2 * DAY * 1_000..5 * DAY * 1_000), Happening::ClockStep));
    week.sort_by_key(|(time, _)| *time);
    week
}

const TASKS: [&str; 4] = ["chat", "summary", "sort", "batch"];

fn call(random: &mut fastrand::Rng, task: Option<&str>) -> Happening {
    let task = task.unwrap_or(TASKS[random.usize(..TASKS.len())]);
    let words = if random.u8(..10) == 0 { random.usize(500..1_500) } else { random.usize(5..150) };
    let mut ask = ask_task(task, &"word ".repeat(words));
    ask.priority = if task == "batch" { 1 } else { random.u8(3..7) };
    if random.u8(..3) == 0 {
        ask.params = max_tokens(random.u64(20..400));
    }
    if random.u8(..4) == 0 {
        ask.timeout = Some(Duration::from_millis(random.u64(500..120_000)));
    }
    let dropped = random.u8(..40) == 0;
    let dropped_after = dropped.then(|| Duration::from_millis(random.u64(0..20_000)));
    Happening::Call { ask: Box::new(ask), dropped_after }
}

/// Where the counts are while processes come and go.
enum Memory {
    Lasting(Arc<MemoryStore>),
    File(std::path::PathBuf),
}

impl Memory {
    fn open(&self) -> Arc<dyn QuotaStore> {
        match self {
            Memory::Lasting(store) => store.clone(),
            Memory::File(path) => Arc::new(SqliteStore::open(path, "0123456789abcdef").unwrap()),
        }
    }
}

/// How the week went.
#[derive(Debug, Default)]
struct Balance {
    asked: usize,
    answered: usize,
    failed: BTreeMap<String, usize>,
    dropped: usize,
    cut_off: usize,
    slowest: Duration,
    restarts: usize,
}

impl Balance {
    fn add(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        let Ok(ended) = ended.map_err(|error| assert!(error.is_cancelled(), "{error}")) else {
            self.cut_off += 1;
            return;
        };
        self.slowest = self.slowest.max(ended.lasted);
        match &ended.end {
            End::Answered(_) => self.answered += 1,
            End::Dropped => self.dropped += 1,
            End::Failed(error) => {
                assert!(is_promised(error), "{error:?}");
                *self.failed.entry(format!("{:?}", error.kind)).or_default() += 1;
            }
        }
    }
}

async fn live(world: &World, seed: u64, memory: &Memory) -> Balance {
    let (start, mut balance) = (world.truth.now(), Balance::default());
    world.watch.set_ahead_by(CLOCK_ERROR);
    let mut engine = world.engine(memory.open());
    let mut going = JoinSet::new();
    for (time, happening) in happenings(seed) {
        world.until(start + Duration::from_millis(time)).await;
        while let Some(ended) = going.try_join_next() {
            balance.add(ended);
        }
        match happening {
            Happening::Call { ask, dropped_after } => {
                balance.asked += 1;
                going.spawn(world.call(&engine, *ask, dropped_after));
            }
            Happening::Audit => audit(world, &engine, start),
            Happening::ClockStep => {
                world.trace.line(None, "the clock is stepped back by three seconds");
                world.watch.set_ahead_by(-CLOCK_ERROR);
            }
            Happening::Restart => {
                world.trace.line(None, "the process ends, another one begins");
                balance.restarts += 1;
                going.abort_all();
                while let Some(ended) = going.join_next().await {
                    balance.add(ended);
                }
                engine = world.engine(memory.open());
                audit(world, &engine, start);
            }
        }
    }
    // An hour after the last call everybody has an answer or an error.
    let end = start + Duration::from_secs(WEEK + HOUR);
    tokio::select! {
        () = world.until(end) => {}
        () = async { while let Some(ended) = going.join_next().await { balance.add(ended) } } => {}
    }
    assert!(going.is_empty(), "{} still wait after an hour", going.len());
    world.until(end).await;
    audit(world, &engine, start);
    world.assert_nothing_is_held(&engine);
    balance
}

/// What the engine has counted for each group's day is at least what the group's provider has.
fn audit(world: &World, engine: &Engine, start: Moment) {
    let status = engine.status().unwrap();
    let now = world.truth.now();
    for (_, provider, labels, per_day) in GROUPS {
        let key = status.keys.iter().find(|key| key.label == labels[0]).unwrap();
        let day = key.limits.iter().find(|limit| {
            limit.model == "*"
                && limit.period == Period::Day
                && limit.resource == Resource::Requests
        });
        let counted = day.map_or(0, |day| day.used);
        let seen = world.network.arrivals(|arrivals| {
            let ours =
                arrivals.iter().filter(|one| one.counted && labels.contains(&one.key.as_str()));
            match provider {
                "gemini" => since_midnight(ours, now),
                _ => missing_in_bucket(ours, per_day, now),
            }
        });
        let since = now.since(start).as_secs() / HOUR;
        assert!(
            counted >= seen,
            "hour {since}, {labels:?}: counted {counted}, the provider saw {seen}"
        );
    }
}

fn since_midnight<'a>(arrivals: impl Iterator<Item = &'a Arrival>, now: Moment) -> u64 {
    let zone = jiff::tz::TimeZone::get("America/Los_Angeles").unwrap();
    // A clock that is wrong by so much may not have seen midnight yet, or have seen it already.
    let error = Duration::from_millis(CLOCK_ERROR.unsigned_abs());
    let midnight = |now: Moment| Moment::from_zoned(&now.in_zone(&zone).start_of_day().unwrap());
    let midnight = midnight(now.before(error)).max(midnight(now + error));
    arrivals.filter(|one| one.at >= midnight).count() as u64
}

/// What a bucket that refills all day misses: a level in whole numbers, moved from arrival to arrival.
fn missing_in_bucket<'a>(
    arrivals: impl Iterator<Item = &'a Arrival>,
    per_day: u64,
    now: Moment,
) -> u64 {
    // In requests times nanoseconds of the day. Answers may be known a tenth of a second later than given.
    let (day, rate) = (i128::from(DAY) * 1_000_000_000, i128::from(per_day));
    let refill = |from: Moment, to: Moment| i128::from(to.as_nanos() - from.as_nanos()) * rate;
    let (mut missing, mut last) = (0_i128, Moment::EPOCH);
    for arrival in arrivals {
        missing = (missing - refill(last, arrival.at)).max(0) + day;
        last = arrival.at;
    }
    let missing = missing - refill(last, now + Duration::from_millis(100));
    u64::try_from(missing.div_euclid(day).max(0)).unwrap()
}

/// A week around the night on which the clocks of California change.
fn live_through(first_day: &str, seed: u64, memory: &Memory) -> String {
    in_virtual_time(async {
        let start = at(&format!("{first_day}T00:00[America/Los_Angeles]"));
        let world = World::new(&plan(seed, start));
        let balance = live(&world, seed, memory).await;
        let stats = world.network.stats();
        eprintln!(
            "week of {first_day}: {balance:?}, {} requests, {:?}",
            stats.requests, stats.refused
        );
        let refused = world.network.refusals();
        assert!(refused.is_empty(), "refused for rate: {refused:?}");
        // It was a week worth talking about.
        assert!(balance.asked > 9_000 && balance.answered * 10 > balance.asked * 8);
        assert!(stats.refused["injected"] > 100 && balance.restarts >= 10);
        assert!(balance.failed.contains_key("Failure(DailyQuota)"), "no day was used up");
        assert!(balance.slowest < Duration::from_secs(HOUR));
        world.trace.text()
    })
}

#[test]
fn a_week_in_march_in_memory_and_the_same_week_again() {
    let live = || live_through("2026-03-05", 11, &Memory::Lasting(Arc::default()));
    let (first, again) = (live(), live());
    assert_eq!(first_difference(&first, &again), None);
    assert!(first.lines().count() > 30_000);
}

#[test]
fn a_week_in_november_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    live_through("2026-10-29", 12, &Memory::File(folder.path().join("state.sqlite3")));
}
