//! The trace in tests/sim/README.md, compared with the simulation.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::world::{Plan, World, ask_task};
use crate::{at, in_virtual_time};

const SEED: u64 = 4;
const BEGIN: &str = "<!-- excerpt: begin -->\n```text\n";
const END: &str = "```\n<!-- excerpt: end -->\n";

/// Two keys with a minute's limit, a day's limit at the second, an overloaded moment, and a fallback.
fn story() -> String {
    let plan = Plan {
        seed: SEED,
        start: at("2026-03-08T01:59:50[America/Los_Angeles]"),
        config: json!({
            "providers": {
                "openai": {"keys": [{"key": "sk-test-a", "label": "openai-1"}],
                           "limits": {"rpm": {"amount": 6, "refill": "bucket", "burst": 2}}},
                "gemini": {"keys": [{"key": "test-g", "label": "gemini-1"}]},
            },
            "models": {
                "chat": {"provider": "openai", "model": "gpt-4o-mini"},
                "sort": {"provider": "gemini", "model": "gemini-2.5-flash",
                         "fallback": {"provider": "openai", "model": "gpt-4o-mini"}},
            },
        }),
        providers: json!({
            "seed": SEED,
            "latency": {"min": 0.2, "max": 0.9},
            "keys": [
                {"key": "sk-test-a", "label": "openai-1", "provider": "openai", "limits": {"rpm": 6, "burst": 2}},
                {"key": "test-g", "label": "gemini-1", "provider": "gemini", "limits": {"rpd": 1}},
            ],
            "faults": [{"when": {"key": "openai-1", "nth": [2]}, "do": {"status": 503}}],
        }),
    };
    in_virtual_time(async {
        let world = World::new(&plan);
        let engine = world.fresh_engine();
        let mut going = Vec::new();
        for (task, pause) in [("chat", 0), ("chat", 100), ("sort", 2_000), ("sort", 1_000)] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            going.push(tokio::spawn(world.call(&engine, ask_task(task, "Good night"), None)));
        }
        for call in going {
            assert!(call.await.unwrap().is_answered());
        }
        world.assert_nothing_is_held(&engine);
        world.trace.text() + "\n"
    })
}

#[test]
#[expect(clippy::disallowed_methods, reason = "whoever changes the story asks for a new excerpt")]
fn the_excerpt_in_the_readme_is_what_its_seed_tells() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim/README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("the README has an excerpt");
    let (excerpt, after) = rest.split_once(END).expect("the excerpt ends");
    let story = story();
    if std::env::var_os("QUOTAFLOW_WRITE_EXCERPT").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{story}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(
        crate::trace::first_difference(excerpt, &story),
        None,
        "write it anew: see README.md"
    );
}
