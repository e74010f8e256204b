//! Plans, compared with what then happens.

use proptest::prelude::*;
use quotaflow::engine::{Engine, Load, Plan as Planned, PlannedRun, Request};
use serde_json::{Value, json};

use crate::world::{Ended, Plan, World, ask, ask_task, max_tokens};
use crate::{at, in_virtual_time};

/// A world of keys at one provider, each with these limits, known to both sides.
fn plan(keys: u64, limits: &Value, latency: &Value, output: &Value) -> Plan {
    let key = |number: u64| format!("sk-test-{number}");
    let simulated = (0..keys).map(|number| {
        json!({"key": key(number), "label": key(number), "provider": "openai", "limits": limits})
    });
    Plan {
        seed: 5,
        start: at("2026-06-01T09:00[UTC]"),
        config: json!({
            "providers": {"openai": {"keys": (0..keys).map(key).collect::<Vec<_>>()}},
            "limits": {"openai": limits},
        }),
        providers: json!({"seed": 5, "latency": latency, "tokens": {"output": output},
                          "keys": simulated.collect::<Vec<_>>()}),
    }
}

const LOAD: Load =
    Load { most_in_flight: 10_000, most_waiting: 10_000, latency: None, output_tokens: None };

/// The plan of the same prompt so often.
fn plan_of(engine: &Engine, prompt: &Request, prompts: u64, load: &Load) -> Planned {
    let size = engine.prompt_sizes(prompt, vec![prompt.messages.clone()]).unwrap()[0];
    let run = PlannedRun { ask: 0, size, count: prompts };
    engine.plan(&[prompt], &[run], load, &|| true).unwrap().unwrap()
}

/// Plans, sends, and says what was planned and in how many seconds everybody was answered.
async fn planned_and_done(
    world: &World,
    prompt: Request,
    prompts: u64,
    warm: u64,
) -> (Planned, f64, Vec<Ended>) {
    let engine = world.fresh_engine();
    for _ in 0..warm {
        world.carry_out(&engine, prompt.clone()).await;
    }
    let planned = plan_of(&engine, &prompt, prompts, &LOAD);
    let calls: Vec<_> = (0..prompts).map(|_| world.call(&engine, prompt.clone(), None)).collect();
    let ended = World::all(calls).await;
    let done = ended.iter().filter(|ended| ended.is_answered()).map(|ended| ended.lasted).max();
    (planned, done.unwrap_or_default().as_secs_f64(), ended)
}

fn seconds(planned: &Planned) -> f64 {
    planned.finish - planned.start
}

#[track_caller]
fn assert_within_a_twentieth(planned: f64, done: f64) {
    eprintln!("planned {planned:.2} s, done in {done:.2} s: {:.4}", done / planned);
    assert!((done / planned - 1.0).abs() <= 0.05, "planned {planned} s, done in {done} s");
}

#[test]
fn requests_a_minute_over_three_keys() {
    in_virtual_time(async {
        let limits = json!({"rpm": 40});
        let latency = json!({"min": 0.5, "max": 1.5});
        let world = World::new(&plan(3, &limits, &latency, &json!(20)));
        let (planned, done, ended) =
            planned_and_done(&world, ask("openai", "gpt-4o-mini", "Name a river."), 1_000, 0).await;
        assert!(ended.iter().all(Ended::is_answered));
        assert_within_a_twentieth(seconds(&planned), done);
        assert_eq!((planned.answered, planned.refused), (1_000, 0));
        assert_eq!(planned.limits[0].limit, "40 requests per minute");
        let doubled = planned.finish_if_doubled.unwrap() - planned.start;
        assert!((0.4..0.6).contains(&(doubled / seconds(&planned))), "{doubled}");
        let share: Vec<u64> = planned.keys.iter().map(|key| key.requests).collect();
        assert_eq!(share.iter().sum::<u64>(), 1_000);
        assert!(share.iter().all(|requests| (330..337).contains(requests)), "{share:?}");
    });
}

#[test]
fn tokens_a_minute_with_answers_of_many_lengths() {
    in_virtual_time(async {
        let limits = json!({"rpm": 600, "tpm": 20_000});
        let output = json!({"min": 20, "max": 400});
        let world = World::new(&plan(2, &limits, &json!(0.8), &output));
        let prompt = ask("openai", "gpt-4o-mini", &"A river, a lake and a sea. ".repeat(20));
        let (planned, done, ended) = planned_and_done(&world, prompt, 2_000, 300).await;
        assert!(ended.iter().all(Ended::is_answered));
        assert_within_a_twentieth(seconds(&planned), done);
        assert_eq!(planned.limits[0].limit, "20000 tokens per minute");
    });
}

#[test]
fn a_day_that_ends_goes_on_at_the_fallback() {
    in_virtual_time(async {
        let mut made = plan(2, &json!({"rpm": 60, "rpd": 100}), &json!(1.0), &json!(20));
        let second = json!({"key": "sk-test-claude", "label": "claude", "provider": "anthropic",
                            "limits": {"rpm": 20}});
        made.providers["keys"].as_array_mut().unwrap().push(second);
        made.config["providers"]["anthropic"] = json!({"keys": ["sk-test-claude"]});
        made.config["limits"]["anthropic"] = json!({"rpm": 20});
        made.config["models"] = json!({
            "default": {"provider": "openai", "model": "gpt-4o-mini"},
            "fallback": [{"provider": "anthropic", "model": "claude-sonnet-4"}],
        });
        let world = World::new(&made);
        let (planned, done, ended) =
            planned_and_done(&world, ask_task("batch", "Name a river."), 400, 0).await;
        assert!(ended.iter().all(Ended::is_answered));
        assert_within_a_twentieth(seconds(&planned), done);
        let at_openai: u64 = (planned.keys.iter())
            .filter(|key| key.provider == "openai")
            .map(|key| key.requests)
            .sum();
        let answered = ended.iter().filter(|ended| ended.answer().provider == "openai").count();
        assert_eq!((at_openai, answered as u64), (180, 180), "nine tenths of two days");
    });
}

#[test]
fn a_day_that_ends_with_nowhere_to_go_refuses_as_many_as_it_said() {
    in_virtual_time(async {
        let world = World::new(&plan(3, &json!({"rpd": 200, "rpm": 60}), &json!(1.0), &json!(20)));
        let (planned, done, ended) =
            planned_and_done(&world, ask("openai", "gpt-4o-mini", "Name a river."), 700, 30).await;
        let answered = ended.iter().filter(|ended| ended.is_answered()).count() as u64;
        assert_eq!((planned.answered, planned.refused), (answered, 700 - answered));
        assert!(
            (510..516).contains(&answered),
            "nine tenths of three days, less what was sent before"
        );
        assert_within_a_twentieth(seconds(&planned), done);
        let why = planned.why_refused.unwrap();
        assert!(why.contains("200 requests per day"), "{why}");
        let patient = planned.patient_finish.unwrap() - planned.start;
        let due = f64::from(700 - 513) / 600.0 * 86_400.0;
        assert!((0.95..1.05).contains(&(patient / due)), "{patient}");
    });
}

#[test]
fn nothing_stated_is_felt_out_and_bound_by_how_long_answers_take() {
    in_virtual_time(async {
        let mut made = plan(1, &json!({}), &json!(2.0), &json!(20));
        made.config["limits"] = json!({});
        let world = World::new(&made);
        let (planned, done, ended) =
            planned_and_done(&world, ask("openai", "gpt-4o-mini", "Name a river."), 600, 3).await;
        assert!(ended.iter().all(Ended::is_answered));
        assert_within_a_twentieth(seconds(&planned), done);
        assert_eq!(planned.finish_if_doubled, None, "no limit is known that could be doubled");
    });
}

#[test]
fn a_first_burst_while_the_key_finds_its_organisation_is_counted_as_it_is_billed() {
    in_virtual_time(async {
        let limits = json!({"tpm": 60_000, "concurrency": 5});
        let latency = json!({"min": 0.2, "max": 2.0});
        let mut made = plan(2, &limits, &latency, &json!({"min": 20, "max": 400}));
        for key in made.providers["keys"].as_array_mut().unwrap() {
            key["organization"] = json!("acme");
        }
        made.config["limits"]["openai"]["tpd"] = json!({"amount": 10_000_000, "refill": "rolling"});
        let world = World::new(&made);
        let engine = world.fresh_engine();
        let prompt = ask("openai", "gpt-4o-mini", "Name a river.");
        let calls: Vec<_> = (0..60).map(|_| world.call(&engine, prompt.clone(), None)).collect();
        let ended = World::all(calls).await;
        // Places at the provider are given to the organisation: until its name is known, two keys may have ten.
        let refused = ended.iter().filter(|ended| ended.answer().attempts.len() > 1).count();
        assert!(refused <= 5, "{refused}");
        let billed = |ended: &Ended| {
            let usage = ended.answer().usage.unwrap();
            usage.input_tokens + usage.output_tokens
        };
        let billed: u64 = ended.iter().map(billed).sum();
        let status = engine.status().unwrap();
        let of_the_day =
            status.keys[0].limits.iter().find(|limit| limit.limit == 10_000_000).unwrap();
        assert_eq!(of_the_day.used, billed);
        world.assert_nothing_is_held(&engine);
    });
}

proptest! {
    #![proptest_config(crate::small_worlds::kept(24))]

    #[test]
    fn whatever_the_limits(
        keys in 1_u64..4,
        rpm in 5_u64..120,
        tpm in prop::option::of(4_000_u64..60_000),
        concurrency in prop::option::of(1_u64..20),
        slowest in 0.1_f64..4.0,
        prompts in 600_u64..1_200,
    ) {
        let mut limits = json!({"rpm": rpm});
        if let Some(tpm) = tpm { limits["tpm"] = json!(tpm); }
        if let Some(concurrency) = concurrency { limits["concurrency"] = json!(concurrency); }
        in_virtual_time(async {
            let latency = json!({"min": slowest / 2.0, "max": slowest});
            let world = World::new(&plan(keys, &limits, &latency, &json!({"min": 5, "max": 60})));
            let prompt = ask("openai", "gpt-4o-mini", &"Name a river, please. ".repeat(12));
            let (planned, done, ended) = planned_and_done(&world, prompt, prompts, 150).await;
            prop_assert!(ended.iter().all(Ended::is_answered));
            let planned = seconds(&planned);
            prop_assert!((done - planned).abs() <= (0.05 * planned).max(slowest + 0.5), "planned {}, done {}", planned, done);
            Ok(())
        })?;
    }
}

/// A plan before anything was sent: nothing is known of the model but its limits, and how long answers are if that is
/// said.
#[test]
fn what_nobody_was_asked_yet() {
    let shapes = [
        ("tpm", None, Some(50), json!({"min": 20, "max": 80})),
        ("tpm", None, None, json!(256)),
        ("tpm", Some(50), None, json!(50)),
        ("tpm", Some(400), Some(50), json!({"min": 20, "max": 80})),
        ("input_tpm", None, Some(50), json!(50)),
        ("input_tpm", Some(100), Some(50), json!(50)),
        ("output_tpm", None, Some(50), json!(50)),
        ("output_tpm", Some(100), Some(50), json!({"min": 20, "max": 80})),
    ];
    in_virtual_time(async {
        for (provider, model) in [
            ("openai", "gpt-4o-mini"),
            ("groq", "llama-3.1-8b-instant"),
            ("anthropic", "claude-sonnet-4"),
            ("gemini", "gemini-2.5-flash"),
        ] {
            for (limit, most, told, output) in &shapes {
                let amount = if *limit == "output_tpm" { 4_000 } else { 40_000 };
                let mut made =
                    plan(1, &json!({*limit: amount}), &json!({"min": 0.2, "max": 2.0}), output);
                made.providers["keys"][0]["provider"] = json!(provider);
                made.config = json!({
                    "providers": {provider: {"keys": ["sk-test-0"]}},
                    "limits": {provider: {*limit: amount}},
                });
                let world = World::new(&made);
                let mut prompt = ask(provider, model, &"A river, a lake and a sea. ".repeat(20));
                prompt.params = most.map(max_tokens).unwrap_or_default();
                let engine = world.fresh_engine();
                let load = Load { output_tokens: *told, ..LOAD };
                let planned = plan_of(&engine, &prompt, 1_000, &load);
                let calls = (0..1_000).map(|_| world.call(&engine, prompt.clone(), None));
                let ended = World::all(calls.collect::<Vec<_>>()).await;
                eprintln!("{provider}, {limit}, {most:?}, {told:?}, {output}");
                assert!(ended.iter().all(|ended| ended.answer().attempts.len() == 1));
                let done = ended.iter().map(|ended| ended.lasted).max().unwrap();
                // Gemini counts no output: there is nothing to wait for but an answer.
                if seconds(&planned) > 10.0 {
                    assert_within_a_twentieth(seconds(&planned), done.as_secs_f64());
                } else {
                    assert!(provider == "gemini" && *limit == "output_tpm");
                }
            }
        }
    });
}
