//! The cost of a waiting line of 100,000 calls: joining, serving, memory.
//!
//! Prints one JSON object a line as `decisions` does.

#![expect(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use quotaflow::config::{Arguments, ConfigArgument, Settings, Sources};
use quotaflow::engine::{
    Content, Engine, Entropy, Message, Outgoing, Request, Role, Sending, Silent, SystemClock,
    Transport, World,
};
use quotaflow::kernel::{Amounts, Standing, WaitingLine};
use quotaflow::stores::MemoryStore;
use serde_json::json;

const WAITERS: usize = 100_000;
const TENANTS: usize = 1_000;

fn tell(what: &str, unit: &str, measured: f64, most: u64) {
    println!(
        r#"{{"what": "{what}", "unit": "{unit}", "measured": {measured:.1}, "most": {most}}}"#
    );
}

/// Memory that this process has in use, in bytes, as the kernel counts pages.
fn resident() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * 4_096.0
}

fn standings() -> Vec<Standing> {
    (0..WAITERS)
        .map(|place| Standing {
            priority: (place % 7) as u8,
            tenant: format!("tenant {}", place * 31 % TENANTS).into(),
            weight: 1_000 + (place % 5) as u32,
            size: Amounts {
                requests: 1,
                input_tokens: (place * 97 % 4_000) as u64,
                ..Amounts::default()
            },
        })
        .collect()
}

/// Joining and being served, at a length of a hundred thousand and on the way there and back.
fn decide() {
    let standings = standings();
    let mut line = WaitingLine::new(WAITERS);
    let began = Instant::now();
    for (place, standing) in standings.iter().enumerate() {
        black_box(line.join(standing.clone(), place).unwrap());
    }
    let joined = began.elapsed().as_nanos() as f64 / WAITERS as f64;
    tell("queue, joining a line of up to 100,000", "ns", joined, 5_000);
    let began = Instant::now();
    while let Some(ticket) = line.next_ticket() {
        let (who, paid) = line.serve(ticket).unwrap();
        line.settle(paid.unwrap(), &standings[who].size);
        black_box(who);
    }
    let served = began.elapsed().as_nanos() as f64 / WAITERS as f64;
    tell("queue, being next and being served", "ns", served, 5_000);
}

/// As much as the engine keeps of a call that waits: what it needs, who it is for, and the way to tell it.
type Kept = ([u64; 14], tokio::sync::oneshot::Sender<[u64; 32]>);

/// The line alone, with everything the engine keeps in it.
fn keep() {
    let standings = standings();
    let before = resident();
    let mut line: WaitingLine<Kept> = WaitingLine::new(WAITERS);
    let mut ends = Vec::with_capacity(WAITERS);
    for standing in standings {
        let (reply, end) = tokio::sync::oneshot::channel();
        ends.push(end);
        assert!(line.join(standing, ([7; 14], reply)).is_ok());
    }
    tell("queue, memory of a line of 100,000", "bytes", resident() - before, 200_000_000);
    black_box((line.len(), ends));
}

/// Answers nobody.
struct Mute;

impl Transport for Mute {
    fn post(&self, _request: Outgoing) -> Sending {
        Box::pin(std::future::pending())
    }
}

/// A hundred thousand prompts that wait in an engine, with all that belongs to them.
async fn wait_for_a_lane() {
    let config =
        json!({"providers": {"openai": {"keys": ["sk-test-1"], "limits": {"concurrency": 1}}}});
    let arguments = Arguments {
        config: Some(ConfigArgument::Value(config)),
        state: Some("memory".to_owned()),
        ..Arguments::default()
    };
    let world = World {
        transport: Arc::new(Mute),
        clock: Arc::new(SystemClock),
        entropy: Entropy::seeded(1),
        observer: Arc::new(Silent),
    };
    let settings = Settings::resolve(arguments, Sources::default()).unwrap();
    let engine = Engine::in_world(settings, Arc::new(MemoryStore::default()), world).unwrap();
    let ask = |place: usize| Request {
        model: Some("gpt-4o-mini".to_owned()),
        user: Some(format!("tenant {}", place % TENANTS)),
        ..Request::new(vec![Message {
            role: Role::User,
            content: Content::Text("Name a river in the north of Europe.".to_owned()),
            tool_calls: Vec::new(),
            tool_call_id: None,
            name: None,
        }])
    };
    let before = resident();
    let began = Instant::now();
    let calls: Vec<_> = (0..=WAITERS)
        .map(|place| {
            let (engine, ask) = (engine.clone(), Box::new(ask(place)));
            tokio::spawn(async move { engine.send(*ask).await.err() })
        })
        .collect();
    while engine.status().unwrap().waiting.iter().map(|line| line.waiting).sum::<usize>() < WAITERS
    {
        tokio::task::yield_now().await;
    }
    let joined = began.elapsed().as_nanos() as f64 / WAITERS as f64;
    tell("queue, a whole call until it waits", "ns", joined, 50_000);
    let each = (resident() - before) / WAITERS as f64;
    tell("queue, memory of a whole call that waits", "bytes", each, 2_000);
    let began = Instant::now();
    let cleared = engine.clear_queue(None, None).unwrap();
    for call in calls.into_iter().skip(1) {
        black_box(call.await.unwrap());
    }
    tell("queue, emptying it", "ns", began.elapsed().as_nanos() as f64 / cleared as f64, 50_000);
}

fn main() {
    decide();
    keep();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(wait_for_a_lane());
}
