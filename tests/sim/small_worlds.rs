//! The promises in randomly generated worlds.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use quotaflow::engine::Request;
use quotaflow::kernel::Moment;
use serde_json::{Map, Value, json};

use crate::world::{End, Ended, Plan, World, ask, is_promised, max_tokens};
use crate::{at, in_virtual_time};

/// So many cases; the seeds of cases that failed once are kept and tried first ever after.
pub(crate) fn kept(cases: u32) -> ProptestConfig {
    let file = FileFailurePersistence::Direct("tests/sim/kept-seeds.txt");
    ProptestConfig { cases, failure_persistence: Some(Box::new(file)), ..ProptestConfig::default() }
}

/// One limit as both sides write it.
fn limit(amount: u64, refill: &str, burst: u64) -> Value {
    match refill {
        "bucket" => json!({"amount": amount, "refill": refill, "burst": burst.clamp(1, amount)}),
        _ => json!({"amount": amount, "refill": refill}),
    }
}

/// The limits of one group: every refill that its provider can have.
fn limits(refills: &'static [&'static str]) -> impl Strategy<Value = Map<String, Value>> {
    let refill = || prop::sample::select(refills);
    let of_day = || {
        prop::sample::select(if refills.len() > 1 {
            &["bucket", "rolling", "calendar"][..]
        } else {
            refills
        })
    };
    (
        prop::option::of((1_u64..8, refill())),
        prop::option::of((1_u64..120, refill(), 1_u64..120)),
        prop::option::of((700_u64..6_000, refill())),
        prop::option::of((5_u64..60, of_day(), 1_u64..60)),
        prop::option::of((3_000_u64..20_000, of_day())),
    )
        .prop_map(|(rps, rpm, tpm, rpd, tpd)| {
            let mut limits = Map::new();
            let mut set = |name: &str, limit| limits.insert(name.to_owned(), limit);
            rps.map(|(amount, refill)| set("rps", limit(amount, refill, amount)));
            rpm.map(|(amount, refill, burst)| set("rpm", limit(amount, refill, burst)));
            tpm.map(|(amount, refill)| set("tpm", limit(amount, refill, amount)));
            rpd.map(|(amount, refill, burst)| set("rpd", limit(amount, refill, burst)));
            tpd.map(|(amount, refill)| set("tpd", limit(amount, refill, amount)));
            limits
        })
}

/// A quota group: how many keys, what they may do together.
type Group = (usize, Map<String, Value>);

#[derive(Clone, Debug)]
struct Asked {
    /// Since the one before, in milliseconds.
    after: u64,
    words: usize,
    priority: u8,
    max_tokens: Option<u64>,
    timeout: Option<u64>,
    dropped_after: Option<u64>,
}

/// A world whose limits the client knows.
#[derive(Clone, Debug)]
struct Small {
    seed: u64,
    provider: &'static str,
    groups: Vec<Group>,
    asked: Vec<Asked>,
    output: u64,
    slowest: f64,
    faults: Vec<Value>,
    /// Minutes after 22:00 in Los Angeles on the eve of a day on which the clocks change.
    minute: u64,
    spring: bool,
}

fn asked() -> impl Strategy<Value = Asked> {
    (
        prop_oneof![4 => 0_u64..200, 2 => 200_u64..5_000, 1 => 5_000_u64..120_000],
        1_usize..200,
        prop_oneof![3 => Just(3_u8), 1 => 0_u8..10],
        prop::option::of(1_u64..300),
        prop::option::weighted(0.2, 50_u64..100_000),
        prop::option::weighted(0.1, 0_u64..20_000),
    )
        .prop_map(|(after, words, priority, max_tokens, timeout, dropped_after)| Asked {
            after,
            words,
            priority,
            max_tokens,
            timeout,
            dropped_after,
        })
}

fn fault() -> impl Strategy<Value = Value> {
    let effect = prop_oneof![
        Just(json!({"status": 500})),
        Just(json!({"status": 503})),
        Just(json!({"status": 529})),
        Just(json!({"status": 429, "retry_after": 7})),
        Just(json!("timeout")),
        Just(json!("reset")),
        Just(json!("half_body")),
        Just(json!({"slow": 20.0})),
    ];
    (0.0_f64..0.15, effect).prop_map(|(rate, effect)| json!({"when": {"rate": rate}, "do": effect}))
}

fn small() -> impl Strategy<Value = Small> {
    // OpenAI's headers describe buckets and nothing else; Gemini has no headers and may be anything.
    let of_provider = prop_oneof![
        Just(("openai", &["bucket"][..])),
        Just(("gemini", &["bucket", "rolling"][..])),
    ];
    of_provider.prop_flat_map(|(provider, refills)| {
        (
            (any::<u32>(), Just(provider), any::<bool>(), 0_u64..240),
            prop::collection::vec((1_usize..3, limits(refills)), 1..4),
            prop::collection::vec(asked(), 1..80),
            (1_u64..200, 0.0_f64..10.0),
            prop::collection::vec(fault(), 0..3),
        )
            .prop_map(
                |((seed, provider, spring, minute), groups, asked, (output, slowest), faults)| {
                    let seed = u64::from(seed);
                    Small { seed, provider, groups, asked, output, slowest, faults, minute, spring }
                },
            )
    })
}

impl Small {
    fn plan(&self) -> Plan {
        let (mut keys, mut simulated) = (Vec::new(), Vec::new());
        for (group, (members, limits)) in self.groups.iter().enumerate() {
            for member in 0..*members {
                let label = format!("{group}-{member}");
                let group = format!("group-{group}");
                let key = format!("test-{label}");
                keys.push(json!({"key": key, "label": label, "group": group, "limits": limits}));
                simulated.push(json!({"key": key, "label": label, "provider": self.provider,
                                      "organization": group, "limits": limits}));
            }
        }
        let eve = if self.spring { "2026-03-07" } else { "2026-10-31" };
        let start = at(&format!("{eve}T22:00[America/Los_Angeles]"));
        Plan {
            seed: self.seed,
            start: start + Duration::from_secs(60 * self.minute),
            config: json!({
                "providers": {self.provider: {"keys": keys}},
                "timeouts": {"read": 30},
            }),
            providers: json!({
                "seed": self.seed,
                "latency": {"min": 0.0, "max": self.slowest},
                "tokens": {"output": self.output},
                "keys": simulated,
                "faults": self.faults,
            }),
        }
    }

    fn ask(&self, asked: &Asked) -> Request {
        let model = if self.provider == "openai" { "gpt-4o-mini" } else { "gemini-2.5-flash" };
        let mut ask = ask(self.provider, model, &"word ".repeat(asked.words));
        ask.priority = asked.priority;
        ask.timeout = asked.timeout.map(Duration::from_millis);
        ask.params = asked.max_tokens.map(max_tokens).unwrap_or_default();
        ask
    }

    /// Lives through it all. Says how each call ended.
    async fn live(&self, world: &World) -> Vec<Ended> {
        let engine = world.fresh_engine();
        let mut going = Vec::new();
        for asked in &self.asked {
            tokio::time::sleep(Duration::from_millis(asked.after)).await;
            let drop_after = asked.dropped_after.map(Duration::from_millis);
            going.push(tokio::spawn(world.call(&engine, self.ask(asked), drop_after)));
        }
        let mut ended = Vec::new();
        for call in going {
            ended.push(call.await.unwrap());
        }
        // What was dropped on its way may still be at the provider.
        tokio::time::sleep(Duration::from_secs(90)).await;
        world.assert_nothing_is_held(&engine);
        ended
    }

    /// When each call left first, by priority, in the order of the calls.
    fn first_departures(&self, world: &World) -> BTreeMap<u8, Vec<Moment>> {
        let mut first: BTreeMap<u32, Moment> = BTreeMap::new();
        for departure in world.network.departures() {
            first.entry(departure.call.unwrap()).or_insert(departure.at);
        }
        let mut by_priority: BTreeMap<u8, Vec<Moment>> = BTreeMap::new();
        for (call, at) in first {
            by_priority.entry(self.asked[call as usize].priority).or_default().push(at);
        }
        by_priority
    }
}

proptest! {
    #![proptest_config(kept(256))]

    /// With its limits configured no provider refuses for rate, whoever comes when and whatever breaks; every call
    /// ends with an answer or an error that was promised, in its time; every reservation ends; equal priority leaves
    /// in order of arrival.
    #[test]
    fn every_promise_holds_in_any_small_world(small in small()) {
        in_virtual_time(async {
            let world = World::new(&small.plan());
            let ended = small.live(&world).await;
            let refused = world.network.refusals();
            prop_assert!(refused.is_empty(), "refused: {:?}\n{}", refused, world.trace.text());
            for (ended, asked) in ended.iter().zip(&small.asked) {
                match (&ended.end, asked.timeout) {
                    (End::Failed(error), _) => prop_assert!(is_promised(error), "{:?}", error),
                    (End::Dropped, _) => prop_assert!(asked.dropped_after.is_some()),
                    (End::Answered(_), _) => {}
                }
                if let Some(timeout) = asked.timeout {
                    prop_assert!(ended.lasted <= Duration::from_millis(timeout + 1), "{:?}", ended);
                }
            }
            for (priority, departures) in small.first_departures(&world) {
                prop_assert!(departures.is_sorted(), "priority {}\n{}", priority, world.trace.text());
            }
            Ok(())
        })?;
    }

}

proptest! {
    #![proptest_config(kept(64))]

    /// The same seed tells the same story, line by line.
    #[test]
    fn one_seed_one_trace(small in small()) {
        let story = || in_virtual_time(async {
            let world = World::new(&small.plan());
            small.live(&world).await;
            world.trace.text()
        });
        prop_assert_eq!(crate::trace::first_difference(&story(), &story()), None);
    }
}
