//! The cost of a reservation and its settlement.
//!
//! Does what `engine/dispatch/reservation.rs` does for a call, over the public parts of kernel and stores, and prints one JSON object
//! a line: what, threads, nanoseconds a pair (wall time over pairs: the median of short batches with one thread, the
//! best of some rounds with eight), and the same for a yardstick that is measured in between.

#![expect(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quotaflow::engine::{Clock, SystemClock};
use quotaflow::kernel::{
    Amounts, Choice, Configured, Demand, Ending, Lane, LedgerId, Ledgers, Limit, Moment, Outcome,
    Period, RateHint, Refill, Resource, Source, reserve, settle,
};
use quotaflow::stores::{MemoryStore, QuotaStore, SqliteStore};

/// The lanes of one model and their ledgers, as the engine keeps them ready.
struct Lanes {
    ids: Vec<LedgerId>,
    configured: Vec<Configured>,
    lanes: Vec<Lane>,
}

impl Lanes {
    /// Ledgers of keys that are a group of their own; both limits must be the same object each time, as in the engine.
    fn of_keys(keys: impl Iterator<Item = usize>, none: &Configured, limits: &Configured) -> Self {
        let mut lanes = Lanes { ids: Vec::new(), configured: Vec::new(), lanes: Vec::new() };
        for (place, key) in keys.enumerate() {
            let group = format!("key-{key}");
            lanes.ids.push(LedgerId::new("openai", &group, "gpt-4o-mini"));
            lanes.ids.push(LedgerId::new("openai", &group, "*"));
            lanes.configured.extend([none.clone(), limits.clone()]);
            lanes.lanes.push(Lane::new(place, 2 * place, 2 * place + 1, 2 * place + 1, None));
        }
        lanes
    }

    fn conform(&self, ledgers: &mut Ledgers<'_>, now: Moment) {
        for (place, configured) in self.configured.iter().enumerate() {
            ledgers.get_mut(place).conform(configured, now);
        }
    }
}

/// A number of keys and what their provider tells with each answer.
struct Scene {
    name: &'static str,
    all: Lanes,
    alone: Vec<Lanes>,
    hints: Vec<RateHint>,
}

impl Scene {
    fn new(name: &'static str, keys: usize, limits: Vec<Limit>, hints: Vec<RateHint>) -> Self {
        let (none, limits): (Configured, Configured) = (Vec::new().into(), limits.into());
        let all = Lanes::of_keys(0..keys, &none, &limits);
        let alone = (0..keys).map(|key| Lanes::of_keys(key..key + 1, &none, &limits)).collect();
        Scene { name, all, alone, hints }
    }

    fn pair(&self, store: &dyn QuotaStore) {
        const DEMAND: Demand = Demand {
            input_tokens: 40,
            counted_tokens: None,
            max_output_tokens: None,
            reserves_max_tokens: true,
            counts_output: true,
            price: None,
            is_again: false,
            ahead_of_limits: false,
            kept: 0,
            user: None,
            only_key: None,
            last_resort: false,
        };
        let now = SystemClock.now();
        let mut choice = Choice::Never(None);
        let reserving = store.update(&self.all.ids, &mut |ledgers| {
            self.all.conform(ledgers, now);
            choice = reserve(ledgers, &self.all.lanes, &[], &DEMAND, now);
        });
        reserving.unwrap();
        let Choice::Reserved(held) = choice else {
            unreachable!("the limits are too large to stand in the way: {choice:?}")
        };
        let now = SystemClock.now();
        let own = &self.alone[held.lane];
        let used = Amounts { requests: 1, input_tokens: 38, output_tokens: 16, spend: 0 };
        let ending = Ending::Answered(Some(used));
        let settling = store.update(&own.ids, &mut |ledgers| {
            own.conform(ledgers, now);
            let rates = &self.hints;
            let outcome = Outcome { ending, bill: None, rates, failure: None, entropy: 0.0 };
            settle(ledgers, &own.lanes[0], &held, outcome, now);
        });
        settling.unwrap();
    }
}

fn limit(resource: Resource, period: Period, amount: u64, refill: Refill) -> Limit {
    let amount = NonZeroU64::new(amount).unwrap();
    Limit { resource, period, amount, refill, source: Source::Configured }
}

fn scenes() -> Vec<Scene> {
    const LARGE: u64 = 4_000_000_000;
    let bucket = |resource, period| {
        let burst = NonZeroU64::new(LARGE).unwrap();
        limit(resource, period, LARGE, Refill::Bucket { burst })
    };
    let buckets = || {
        vec![
            bucket(Resource::Requests, Period::Minute),
            bucket(Resource::Requests, Period::Day),
            bucket(Resource::Tokens, Period::Minute),
        ]
    };
    let pacific = Refill::Calendar { zone: "America/Los_Angeles".to_owned() };
    let windows = vec![
        limit(Resource::Requests, Period::Minute, LARGE, Refill::Rolling),
        limit(Resource::Requests, Period::Day, LARGE, pacific),
        limit(Resource::InputTokens, Period::Minute, LARGE, Refill::Rolling),
    ];
    let told = |resource| RateHint {
        resource,
        period: Period::Minute,
        amount: Some(LARGE),
        remaining: Some(LARGE - 1),
        reset_after: None,
        refills_continuously: true,
        zone: None,
    };
    let hints = vec![told(Resource::Requests), told(Resource::Tokens)];
    vec![
        Scene::new("buckets", 1, buckets(), Vec::new()),
        Scene::new("buckets, told in answers", 1, buckets(), hints),
        Scene::new("rolling and civil day", 1, windows, Vec::new()),
        Scene::new("buckets, 3 keys", 3, buckets(), Vec::new()),
    ]
}

type Act<'a> = &'a (dyn Fn() + Sync);

/// Nanoseconds of wall time for each of `pairs`.
fn nanos_each(pairs: usize, act: Act<'_>) -> f64 {
    let began = Instant::now();
    (0..pairs).for_each(|_| act());
    began.elapsed().as_nanos() as f64 / pairs as f64
}

/// The same with eight threads, all of which work on the same.
fn nanos_of_eight(pairs: usize, act: Act<'_>) -> f64 {
    let began = Instant::now();
    std::thread::scope(|scope| {
        (0..8).for_each(|_| drop(scope.spawn(|| (0..pairs / 8).for_each(|_| act()))));
    });
    began.elapsed().as_nanos() as f64 / pairs as f64
}

/// The middle of many short batches: most of them are shorter than what other programs leave us at a time.
fn one_thread(pairs: usize, ours: Act<'_>, bare: Act<'_>) -> (f64, f64) {
    const BATCHES: usize = 200;
    let batch = (pairs / BATCHES).max(1);
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..BATCHES {
        mine.push(nanos_each(batch, ours));
        theirs.push(nanos_each(batch, bare));
    }
    let middle = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    (middle(mine), middle(theirs))
}

/// The best of some rounds: eight threads cannot be measured in a moment without other programs, only in a good one.
fn eight_threads(pairs: usize, ours: Act<'_>, bare: Act<'_>) -> (f64, f64) {
    const ROUNDS: usize = 9;
    let mut best = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS {
        best.0 = best.0.min(nanos_of_eight(pairs / 4, ours));
        best.1 = best.1.min(nanos_of_eight(pairs / 4, bare));
    }
    best
}

fn tell(what: &str, store: &str, yardstick: &str, pairs: usize, ours: Act<'_>, bare: Act<'_>) {
    let _warm = nanos_each(pairs / 10, ours) + nanos_each(pairs / 10, bare);
    let one = one_thread(pairs, ours, bare);
    let eight = eight_threads(pairs, ours, bare);
    for (threads, (ours, theirs)) in [(1, one), (8, eight)] {
        println!(
            r#"{{"what": "{what}", "store": "{store}", "threads": {threads}, "nanos": {ours:.0}, "yardstick": "{yardstick}", "yardstick_nanos": {theirs:.0}}}"#
        );
    }
}

/// The least a shared count in memory costs: two locked changes of a map's entry.
fn bare_memory() -> impl Fn() + Sync {
    let id = LedgerId::new("openai", "key-0", "*");
    let counts: Mutex<HashMap<LedgerId, u64>> = Mutex::new(HashMap::from([(id.clone(), 0)]));
    move || {
        for _ in 0..2 {
            let now = SystemClock.now();
            if let Some(count) = counts.lock().get_mut(&id) {
                *count += now.as_nanos() as u64 & 1;
            }
        }
    }
}

/// The least SQLite costs for the same promise: two transactions that each write one row of 400 bytes.
fn bare_sqlite(path: &Path) -> impl Fn() + Sync + use<> {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
             CREATE TABLE counts (name TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;",
        )
        .unwrap();
    let connection = Arc::new(Mutex::new(connection));
    let state = "x".repeat(400);
    move || {
        for _ in 0..2 {
            let connection = connection.lock();
            let run =
                |text| connection.prepare_cached(text).and_then(|mut ready| ready.execute([]));
            run("BEGIN IMMEDIATE").unwrap();
            let mut write = connection
                .prepare_cached("INSERT OR REPLACE INTO counts (name, state) VALUES ('one', ?1)")
                .unwrap();
            write.execute([&state]).unwrap();
            run("COMMIT").unwrap();
        }
    }
}

fn main() {
    // `ledger 5` only works on the first scene in memory for five seconds, `ledger 5 sqlite` in a file: for a profiler.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let open = |name: &str| SqliteStore::open(&folder.path().join(name), "salt").unwrap();
    if let Some(seconds) = arguments.first() {
        let end = Instant::now() + Duration::from_secs(seconds.parse().unwrap());
        let store: Arc<dyn QuotaStore> = match arguments.get(1) {
            Some(_) => Arc::new(open("profiled")),
            None => Arc::new(MemoryStore::default()),
        };
        let scene = &scenes()[0];
        while Instant::now() < end {
            (0..1_000).for_each(|_| scene.pair(&*store));
        }
        return;
    }
    for (number, scene) in scenes().iter().enumerate() {
        let memory = MemoryStore::default();
        let bare = bare_memory();
        let pair = || scene.pair(&memory);
        tell(scene.name, "memory", "two locked counts in a map", 100_000, &pair, &bare);
        let sqlite = open(&format!("ours-{number}"));
        let bare = bare_sqlite(&folder.path().join(format!("bare-{number}")));
        let pair = || scene.pair(&sqlite);
        tell(scene.name, "sqlite", "two bare transactions, one row", 4_000, &pair, &bare);
    }
}
