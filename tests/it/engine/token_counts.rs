//! Token counts: estimates corrected by bills, each answer charged once.

use quotaflow::engine::TokenUsage;
use quotaflow::providers::Tokenizer;

use super::*;

/// 400 ASCII characters: 110 tokens and a frame of 7 by the rule of thumb.
fn long() -> String {
    "abcd ".repeat(80)
}
const ESTIMATED: u64 = 117;
/// What it likely is: the same without the tenth for safety.
const LIKELY: u64 = 107;

/// An answer that says its prompt was this many tokens.
fn billed(prompt_tokens: u64) -> Reply {
    let message = json!({"role": "assistant", "content": "fine"});
    let usage = json!({"prompt_tokens": prompt_tokens, "completion_tokens": 5});
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
    Reply::answer(200, json!({"model": "m", "choices": [choice], "usage": usage}))
}

fn asked(provider: &str, model: &str, prompt: &str, max_tokens: u64) -> Request {
    let mut ask = ask(prompt);
    ask.provider = Some(provider.to_owned());
    ask.model = Some(model.to_owned());
    ask.params.insert("max_tokens".to_owned(), max_tokens.into());
    ask
}

/// What the only key has used of its tokens.
fn tokens_used(stage: &Stage, provider: &str) -> u64 {
    let key = stage.keys_of(provider).remove(0);
    let limit = key.limits.iter().find(|limit| limit.resource.to_string() == "tokens");
    limit.unwrap().used
}

/// A limit of which nothing comes back while a test looks.
fn tokens_a_day(amount: u64) -> Value {
    json!({"tpd": {"amount": amount, "refill": "rolling"}})
}

fn groq() -> Value {
    json!({"providers": {"groq": {"keys": ["gsk-a"], "limits": tokens_a_day(1_000_000)}}})
}

#[tokio::test(start_paused = true)]
async fn what_is_reserved_for_a_prompt_follows_what_prompts_were_billed() {
    let mut replies = vec![billed(2 * ESTIMATED); 200];
    replies.push(billed(2 * ESTIMATED).after(10));
    let stage = Stage::new(groq(), replies);
    let ask = || asked("groq", "llama-x", &long(), 100);
    let size = || stage.engine.prompt_size(&ask()).unwrap();
    assert_eq!((size().tokens, size().at_most, size().is_exact), (LIKELY, ESTIMATED, false));
    for _ in 0..200 {
        stage.send(ask()).await.unwrap();
    }
    let before = tokens_used(&stage, "groq");
    let _last = stage.send_aside(ask()).await;
    let reserved = tokens_used(&stage, "groq") - before - 100;
    assert!((2 * ESTIMATED..=2 * ESTIMATED + 20).contains(&reserved), "{reserved}");
    assert_eq!((size().tokens, size().at_most), (2 * ESTIMATED, reserved));
    // Written down with the ledger: a new process need not learn it again.
    let again = stage.restarted([]);
    assert_eq!(again.engine.prompt_size(&ask()).unwrap().tokens, 2 * ESTIMATED);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_counts_no_cached_input_learns_from_the_whole_of_it() {
    let mut cached = billed(2 * ESTIMATED);
    if let Outcome::Answer { body, .. } = &mut cached.outcome {
        body["usage"]["prompt_tokens_details"] = json!({"cached_tokens": 2 * ESTIMATED - 1});
    }
    let stage = Stage::new(groq(), vec![cached; 50]);
    for _ in 0..50 {
        stage.send(asked("groq", "llama-x", &long(), 100)).await.unwrap();
    }
    let size = stage.engine.prompt_size(&asked("groq", "llama-x", &long(), 100)).unwrap();
    assert_eq!(size.tokens, 2 * ESTIMATED);
}

#[tokio::test(start_paused = true)]
async fn where_tokens_are_limited_a_prompt_is_counted_with_its_models_own_tokenizer() {
    Tokenizer::O200k.load();
    let ask = || asked("openai", "gpt-4o", &long(), 100);
    let request = quotaflow::providers::ChatRequest {
        messages: ask().messages,
        params: serde_json::Map::new(),
    };
    let exact = Tokenizer::O200k.count_chat(&request, &request.params).unwrap();
    assert_ne!(exact, ESTIMATED);
    for (counts, reserved) in [(false, ESTIMATED), (true, exact)] {
        let stage = Stage::new(openai(&["sk-a"], tokens_a_day(100_000)), [billed(exact).after(10)]);
        if counts {
            stage.engine.count_exactly();
        }
        let call = stage.send_aside(ask()).await;
        assert_eq!(tokens_used(&stage, "openai"), reserved + 100);
        call.await.unwrap().unwrap();
        assert_eq!(tokens_used(&stage, "openai"), exact + 5);
    }
}

/// Whether the tables were there from the first prompt on or not: what bills say of counts is known after a few.
#[tokio::test(start_paused = true)]
async fn bills_that_contradict_what_was_counted_are_followed() {
    for model in ["gpt-4o", "gpt-4"] {
        let replies = (0..7).map(|_| billed(300).after(1));
        let stage = Stage::new(openai(&["sk-a"], tokens_a_day(1_000_000)), replies);
        stage.engine.count_exactly();
        let ask = || asked("openai", model, &long(), 100);
        for _ in 0..6 {
            stage.send(ask()).await.unwrap();
        }
        let known = stage.engine.prompt_size(&ask()).unwrap();
        assert!(!known.is_exact && known.tokens.abs_diff(300) <= 1, "{known:?}");
        let sizes = stage.engine.prompt_sizes(&ask(), vec![ask().messages]).unwrap();
        assert_eq!(sizes, [known.tokens]);
        let exact = asked("openai", model, "hello", 100);
        let fresh = Stage::new(openai(&["sk-a"], tokens_a_day(1_000_000)), []);
        assert!(fresh.engine.prompt_size(&exact).unwrap().is_exact);
        // So is what is reserved; answers come beside it, as long as the call allows.
        let before = tokens_used(&stage, "openai");
        let call = stage.send_aside(ask()).await;
        assert_eq!(tokens_used(&stage, "openai") - before, known.tokens + 100);
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_prompt_too_long_to_count_in_passing_is_estimated() {
    Tokenizer::O200k.load();
    let prompt = "abcd ".repeat(8_000);
    let config = openai(&["sk-a"], tokens_a_day(1_000_000));
    let stage = Stage::new(config, [billed(9_000).after(10)]);
    stage.engine.count_exactly();
    let call = stage.send_aside(asked("openai", "gpt-4o", &prompt, 100)).await;
    assert_eq!(tokens_used(&stage, "openai"), 40_000 / 4 * 11 / 10 + 7 + 100);
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_after_failures_is_paid_for_once() {
    let replies = [Reply::refusal(500, "oh"), Reply::refusal(429, "slow down"), billed(1_000_000)];
    let stage = Stage::new(openai(&["sk-a"], tokens_a_day(100_000_000)), replies);
    let answer = stage.send(asked("openai", "gpt-4o-mini", "hello", 100)).await.unwrap();
    assert_eq!(answer.attempts.len(), 3);
    assert_eq!(answer.cost(), Some(150_000_000_000 + 5 * 600_000));
    // What the 500 may have been worked on stays counted beside it; the 429 was not.
    let first = 10 + 100;
    assert_eq!(tokens_used(&stage, "openai"), 1_000_005 + first);
}

#[tokio::test(start_paused = true)]
async fn costs_are_told_in_whole_millionths_rounded_up() {
    let mut config = openai(&["sk-a"], json!({}));
    config["prices"] = json!({"openai": {"mine": {"input": 1, "output": 0.5}}});
    let stage = Stage::new(config, []);
    let usage = |input_tokens, output_tokens| TokenUsage {
        input_tokens,
        output_tokens,
        ..TokenUsage::default()
    };
    let cost = |provider: &str, model: &str, usage: TokenUsage| {
        stage.engine.cost_of(provider, model, &usage, START)
    };
    assert_eq!(cost("openai", "mine", usage(10, 0)), Some(10));
    assert_eq!(cost("openai", "mine", usage(10, 1)), Some(11));
    assert_eq!(cost("openai", "gpt-4o-mini", usage(1_000_000, 0)), Some(150_000));
    assert_eq!(cost("ollama", "llama3", usage(1_000_000, 0)), Some(0));
    assert_eq!(cost("openai", "strange", usage(1, 1)), None);
    assert_eq!(cost("nobody", "strange", usage(1, 1)), None);
}

#[tokio::test(start_paused = true)]
async fn estimates_of_cost_need_no_key_and_learn_how_long_answers_are() {
    let config = json!({"providers": {"openai": {"keys": ["sk-a"]}}});
    let stage = Stage::new(config, vec![billed(50); 20]);
    let ask = |model: &str| {
        let mut ask = ask(&long());
        ask.model = Some(model.to_owned());
        ask
    };
    let estimate = |model: &str| stage.engine.estimate_cost(&ask(model)).unwrap();
    // No key of Anthropic is there.
    let claude = estimate("claude-sonnet-4-5").unwrap();
    assert_eq!((claude.output_tokens, claude.most_output_tokens, claude.high), (256, None, None));
    assert_eq!(
        (claude.low, claude.expected),
        (LIKELY * 3_000_000, LIKELY * 3_000_000 + 256 * 15_000_000)
    );
    for _ in 0..20 {
        stage.send(ask("gpt-4o-mini")).await.unwrap();
    }
    assert!(estimate("gpt-4o-mini").unwrap().output_tokens <= 8);
    assert_eq!(estimate("gpt-strange"), None);
    let mut unknown = ask("llama3");
    assert!(stage.engine.estimate_cost(&unknown).is_err());
    unknown.provider = Some("ollama".to_owned());
    assert_eq!(stage.engine.estimate_cost(&unknown).unwrap().unwrap().expected, 0);
}
