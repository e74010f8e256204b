//! Token counts of prompts: a tokenizer where it pays, an estimate elsewhere.
//!
//! A prompt for an OpenAI model is counted with its tokenizer when the target has a token limit
//! (`Target.counts_tokens`), the prompt has at most 32 KiB, and the tables are loaded. The first such call starts a
//! thread that loads them (0.2 s, 50 MB), and is estimated itself. The count is kept in the call's stop, so retries
//! do not count again. Up to eight prompts that were billed before the tables were loaded are kept
//! (`Target.uncounted`) until a plan or an estimate needs counts. Only `Engine::start` enables this: in virtual time
//! the result would depend on loading time. Tools, response formats and pictures are always estimated, because their
//! form before the model is not public. Long texts are split between words where no token can reach across. The
//! library panics on text that its patterns cannot split; that is caught and becomes an estimate.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::Map;

use super::Calls;
use super::request::Request;
use super::route::Stop;
use crate::engine::dispatch::lanes::Lanes;
use crate::engine::dispatch::types::{HeldReservation, Target, Uncounted};
use crate::error::Error;
use crate::kernel::{InputFactor, OutputSizes};
use crate::providers::{ChatRequest, Content, Tokenizer};

/// A longer prompt is estimated for admission: counting it would delay other calls. In bytes.
const LONGEST_COUNTED: u64 = 32 * 1024;

/// How many prompts are kept that were billed before they could be counted.
const MOST_UNCOUNTED: usize = 8;

/// How many tokens a prompt is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptSize {
    /// The provider it is for.
    pub provider: String,
    /// The model it is for.
    pub model: String,
    /// The tokens: counted, or estimated and corrected by earlier bills of the model.
    pub tokens: u64,
    /// No more than this, 95 times of 100; the same as `tokens` when they were counted.
    pub at_most: u64,
    /// Whether they were counted with the model's own tokenizer, and bills do not contradict that by far.
    pub is_exact: bool,
}

/// What was learned from the answers of a model.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct Lessons {
    pub(in crate::engine) inputs: InputFactor,
    /// The bills of prompts that were counted.
    pub(in crate::engine) counts: InputFactor,
    pub(in crate::engine) outputs: OutputSizes,
}

impl Stop {
    /// The prompt counted with the model's own tokenizer, where that matters and takes little time.
    pub(in crate::engine) fn counted(&self, calls: &Calls, request: &ChatRequest) -> Option<u64> {
        if !self.target.counts_tokens.load(Ordering::Relaxed) {
            return None;
        }
        *self.counted.get_or_init(|| {
            let tokenizer = self.target.tokenizer?;
            if !calls.counts_exactly.load(Ordering::Relaxed) || bytes(request) > LONGEST_COUNTED {
                return None;
            }
            if !tokenizer.is_ready() {
                load_aside(tokenizer);
                return None;
            }
            tokenizer.count_chat(request, &self.params)
        })
    }
}

impl Stop {
    /// The prompt changed: its count no longer holds.
    pub(in crate::engine) fn forget_count(&mut self) {
        self.counted.take();
    }
}

impl Calls {
    /// Counts prompts for targets with a token limit with the model's own tokenizer, once its tables are loaded.
    pub(in crate::engine) fn count_exactly(&self) {
        self.counts_exactly.store(true, Ordering::Relaxed);
    }

    /// How many tokens the prompt of `ask` is for its model; needs no key and sends nothing. Loads the tables of the
    /// model's tokenizer if it has to (about 0.2 s).
    pub(in crate::engine) fn prompt_size(&self, ask: &Request) -> Result<PromptSize, Error> {
        let named = self.named(ask)?;
        let vendor = self.dispatch.vendor(&named.provider)?;
        let mut params = named.params;
        params.extend(ask.params.clone());
        let request = ChatRequest { messages: ask.messages.clone(), params: Map::new() };
        let tokenizer = Tokenizer::of_model(&named.model);
        let counted = tokenizer.and_then(|tokenizer| tokenizer.count_chat(&request, &params));
        let target = self.dispatch.target(&vendor, &named.model);
        self.catch_up(&target)?;
        let lessons = self.lessons(&target)?;
        let (tokens, at_most) = match counted {
            Some(counted) => {
                let tokens = lessons.counts.of_count(counted);
                (tokens, tokens)
            }
            None => {
                let estimated = request.estimated_input_tokens(&params);
                let inputs = lessons.inputs;
                let tokens = inputs.expected(estimated);
                (tokens, inputs.bound(estimated).max(tokens))
            }
        };
        let (provider, model) = (vendor.provider.name.clone(), named.model);
        let is_exact = counted.is_some() && !lessons.counts.doubts_counts();
        Ok(PromptSize { provider, model, tokens, at_most, is_exact })
    }

    /// The provider and the model that `ask` names, or its task.
    pub(in crate::engine) fn whose(&self, ask: &Request) -> Result<(String, String), Error> {
        let named = self.named(ask)?;
        Ok((self.dispatch.vendor(&named.provider)?.provider.name.clone(), named.model))
    }

    /// How many tokens a text is for the model of `ask`, without the frame of a message.
    pub(in crate::engine) fn text_size(&self, ask: &Request, text: &str) -> Result<u64, Error> {
        let named = self.named(ask)?;
        let vendor = self.dispatch.vendor(&named.provider)?;
        let tokenizer = Tokenizer::of_model(&named.model);
        if let Some(tokens) = tokenizer.and_then(|tokenizer| tokenizer.count(text)) {
            return Ok(tokens);
        }
        let target = self.dispatch.target(&vendor, &named.model);
        Ok(self.lessons(&target)?.inputs.expected(ChatRequest::estimated_tokens(text)))
    }

    /// Keeps a prompt that was billed, but not counted because the tables were not loaded. A few are kept until counts
    /// are needed, so that the bills correct counts from the first one on.
    pub(in crate::engine) fn compare_later(
        &self,
        held: &mut HeldReservation,
        request: &ChatRequest,
        stop: &Stop,
        billed: u64,
    ) {
        let target = &stop.target;
        if held.reservation.counted.is_some()
            || target.tokenizer.is_none_or(Tokenizer::is_ready)
            || !target.counts_tokens.load(Ordering::Relaxed)
            || !self.counts_exactly.load(Ordering::Relaxed)
            || bytes(request) > LONGEST_COUNTED
        {
            return;
        }
        let mut uncounted = target.uncounted.lock();
        if uncounted.len() < MOST_UNCOUNTED {
            let (request, params) = (request.clone(), stop.params.clone());
            let lane = held.reservation.lane;
            uncounted.push(Uncounted { request, params, lane, billed });
        }
    }

    /// Counts what was billed before it could be counted.
    pub(in crate::engine) fn catch_up(&self, target: &Target) -> Result<(), Error> {
        let uncounted = std::mem::take(&mut *target.uncounted.lock());
        let Some(tokenizer) = target.tokenizer.filter(|_| !uncounted.is_empty()) else {
            return Ok(());
        };
        let counted = uncounted.into_iter().filter_map(|prompt| {
            let counted = tokenizer.count_chat(&prompt.request, &prompt.params)?;
            Some((prompt.lane, counted, prompt.billed))
        });
        let counted: Vec<_> = counted.collect();
        let lanes = target.lanes();
        self.dispatch.store.update(&lanes.ids, &mut |ledgers| {
            for (lane, counted, billed) in &counted {
                let place = lanes.lanes[*lane].group_model;
                ledgers.get_mut(place).record_token_count(*counted, *billed);
            }
        })?;
        Ok(())
    }

    /// What was learned of a target's prompts and answers, from the key with most answers.
    pub(in crate::engine) fn lessons(&self, target: &Arc<Target>) -> Result<Lessons, Error> {
        let lanes: Arc<Lanes> = target.lanes();
        let mut lessons = Lessons::default();
        self.dispatch.store.update(&lanes.ids, &mut |ledgers| {
            for lane in &lanes.lanes {
                let ledger = ledgers.get(lane.group_model);
                if ledger.inputs().seen() > lessons.inputs.seen() {
                    lessons.inputs = *ledger.inputs();
                }
                if ledger.counts().seen() > lessons.counts.seen() {
                    lessons.counts = *ledger.counts();
                }
                if ledger.outputs().seen() > lessons.outputs.seen() {
                    lessons.outputs = ledger.outputs().clone();
                }
            }
        })?;
        Ok(lessons)
    }
}

/// Loads the tables on a thread of its own; twice at worst.
fn load_aside(tokenizer: Tokenizer) {
    if tokenizer.begins_to_load() {
        // Without a thread there are estimates.
        let _ = std::thread::Builder::new()
            .name("quotaflow-tokens".to_owned())
            .spawn(move || tokenizer.load());
    }
}

/// About how long the texts of a prompt are.
fn bytes(request: &ChatRequest) -> u64 {
    let length = |content: &Content| match content {
        Content::Text(text) => text.len(),
        Content::Parts(parts) => {
            parts.iter().filter_map(|part| part.get("text")?.as_str().map(str::len)).sum()
        }
        Content::Nothing(()) => 0,
    };
    request.messages.iter().map(|message| length(&message.content) as u64).sum()
}
