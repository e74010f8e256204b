//! What is left when a process dies between any two of its steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quotaflow::engine::{Clock, Engine, Outgoing, Sending, Transport};
use quotaflow::kernel::{LedgerId, Ledgers, Period, Resource};
use quotaflow::stores::{QuotaStore, SqliteStore, StoreError, StoreTrouble};
use serde_json::json;

use crate::network::Wire;
use crate::world::{Plan, World, ask};
use crate::{at, in_virtual_time};

/// Counts what a process does to the world outside; after so many deeds it is dead and does nothing any more,
/// whatever its code still runs (no destructor reaches the file or the wire).
struct Fuse(AtomicU64);

impl Fuse {
    fn alive(&self) -> bool {
        let burn = |left: u64| left.checked_sub(1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, burn).is_ok()
    }

    fn is_blown(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

struct MortalStore {
    file: SqliteStore,
    fuse: Arc<Fuse>,
}

impl QuotaStore for MortalStore {
    fn update(
        &self,
        ids: &[LedgerId],
        act: &mut dyn FnMut(&mut Ledgers<'_>),
    ) -> Result<(), StoreError> {
        if self.fuse.alive() {
            return self.file.update(ids, act);
        }
        let detail = "the process is dead".to_owned();
        Err(StoreError { trouble: StoreTrouble::Other, path: None, detail })
    }

    fn ids(&self) -> Result<Vec<LedgerId>, StoreError> {
        self.file.ids()
    }

    fn salt(&self) -> &str {
        self.file.salt()
    }
}

struct MortalWire {
    wire: Wire,
    fuse: Arc<Fuse>,
}

impl Transport for MortalWire {
    fn post(&self, request: Outgoing) -> Sending {
        if self.fuse.alive() { self.wire.post(request) } else { Box::pin(std::future::pending()) }
    }
}

/// A limit of the day on requests and tokens, at a provider that counts in calendar days and one that refills.
fn plan(provider: &str) -> Plan {
    let limits = json!({"rpd": 30, "tpd": 100_000});
    Plan {
        seed: 7,
        start: at("2026-06-01T09:00[UTC]"),
        config: json!({"providers": {provider: {
            "keys": [{"key": "test-key", "label": "key"}],
            "limits": limits,
        }}, "limits": {provider: {"pause_threshold": 1.0}}}),
        providers: json!({
            "latency": {"min": 0.05, "max": 0.4},
            "keys": [{"key": "test-key", "label": "key", "provider": provider, "limits": limits}],
        }),
    }
}

fn used(engine: &Engine, resource: Resource) -> u64 {
    let status = engine.status().unwrap();
    let key = status.keys.iter().find(|key| key.label == "key").unwrap();
    let day = key.limits.iter().filter(|limit| limit.period == Period::Day);
    day.filter(|limit| limit.model == "*" && limit.resource == resource)
        .map(|limit| limit.used)
        .sum()
}

/// Runs a process until it has done `deeds` things and dies, and a second one on the same file. Says whether the
/// first one died before its work was done.
async fn live_and_die(provider: &str, model: &str, deeds: u64) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.sqlite3");
    let world = World::new(&plan(provider));
    let began = world.truth.now();
    let fuse = Arc::new(Fuse(AtomicU64::new(u64::MAX)));
    let file = SqliteStore::open(&path, "0123456789abcdef").unwrap();
    let first = world.engine_with(
        Arc::new(MortalStore { file, fuse: fuse.clone() }),
        Arc::new(MortalWire { wire: Wire(world.network.clone()), fuse: fuse.clone() }),
    );
    // What an engine does while it is made is not worth a crash: it only looks.
    fuse.0.store(deeds, Ordering::Relaxed);
    let mut going = tokio::task::JoinSet::new();
    for _ in 0..12 {
        going.spawn(world.call(&first, ask(provider, model, "How are you?"), None));
        tokio::time::sleep(Duration::from_millis(70)).await;
    }
    let mut finished = 0;
    while !fuse.is_blown() {
        match going.join_next().await {
            Some(ended) => finished += u64::from(ended.unwrap().is_answered()),
            None => break,
        }
    }
    let died = fuse.is_blown();
    // Reservations that were written and not settled: at most the calls that had not ended.
    while let Some(ended) = going.try_join_next() {
        finished += u64::from(ended.unwrap().is_answered());
    }
    let in_flight = 12 - finished;
    going.abort_all();
    // What has left arrives.
    tokio::time::sleep(Duration::from_secs(2)).await;

    let second = world.engine(Arc::new(SqliteStore::open(&path, "fedcba9876543210").unwrap()));
    let stats = world.network.stats();
    let (seen, tokens) = (stats.accepted, tokens_of(&stats.keys["key"], provider));
    let (requests_used, tokens_used) =
        (used(&second, Resource::Requests), used(&second, Resource::Tokens));
    assert!(requests_used >= seen, "after {deeds} deeds: {requests_used} counted, {seen} seen");
    // OpenAI's day refills all the time, here as well as there: what came back is used no more.
    let passed = world.truth.now().since(began).as_secs_f64();
    let came_back = if provider == "openai" { 100_000.0 / 86_400.0 * passed } else { 0.0_f64 };
    assert!(
        tokens_used + came_back.ceil() as u64 >= tokens,
        "after {deeds} deeds: {tokens_used} tokens counted, {came_back} came back, {tokens} seen"
    );
    assert!(
        requests_used <= seen + in_flight,
        "after {deeds} deeds: {requests_used} counted, {seen} seen, {in_flight} in flight"
    );

    // The rest of the day is still there, all of it but what was in flight, and not one more.
    let rest = (0..30).map(|_| world.call(&second, ask(provider, model, "And you?"), None));
    let answered = World::all(rest.collect::<Vec<_>>())
        .await
        .iter()
        .filter(|ended| ended.is_answered())
        .count() as u64;
    assert_eq!(answered, 30 - requests_used, "after {deeds} deeds");
    assert!(world.network.refusals().is_empty());
    world.assert_nothing_is_held(&second);
    died
}

fn tokens_of(stats: &quotaflow::simulator::KeyStats, provider: &str) -> u64 {
    stats.input_tokens + if provider == "gemini" { 0 } else { stats.output_tokens }
}

#[test]
fn a_process_that_dies_between_any_two_of_its_deeds_never_leaves_too_little_counted() {
    for (provider, model) in [("gemini", "gemini-2.5-flash"), ("openai", "gpt-4o-mini")] {
        let dies_after = |deeds| in_virtual_time(live_and_die(provider, model, deeds));
        let points = (0..1_000).take_while(|deeds| dies_after(*deeds)).count();
        eprintln!("{provider}: died at {points} instants");
        // Twelve calls reserve, send and settle.
        assert!((36..60).contains(&points), "{points}");
    }
}
