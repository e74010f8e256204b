//! The demand of a call: what it takes from a lane, and how long it may wait.
//!
//! Reserved are one request, the input, and for the output: `max_tokens` in full at providers that charge it at
//! admission; else the smaller of `max_tokens` and the 95th percentile of this model's answers (256, and an eighth of
//! the limit at most, while fewer than eight are known). A guess alone never makes a call impossible. Where answers do
//! not count (Gemini), nothing is reserved for them. Where money is limited, the price of prompt and expected answer is
//! reserved too.

use std::time::Duration;

use super::lane::{Lane, Ledgers};
use crate::kernel::amounts::{Amounts, Price};
use crate::kernel::ledger::Ledger;
use crate::kernel::ledger::output_sizes::USUAL_OUTPUT;
use crate::kernel::limits::Resource;
use crate::kernel::meters::charge::AnswerCharged;
use crate::kernel::moment::Moment;

/// What a call needs, before it is known how long its answer will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The prompt, estimated; what answers of the model taught corrects it.
    pub input_tokens: u64,
    /// The prompt, counted with the model's own tokenizer; taken instead of the estimate, as it is unless bills
    /// contradict it by far.
    pub counted_tokens: Option<u64>,
    /// The longest answer the caller allows, if it said so.
    pub max_output_tokens: Option<u64>,
    /// The provider charges `max_output_tokens` when it admits the call (OpenAI, not Anthropic or Gemini).
    pub reserves_max_tokens: bool,
    /// The provider counts the answer against its token limits at all (Gemini does not).
    pub counts_output: bool,
    /// What it costs; `None` where no money is limited, or the price is unknown.
    pub price: Option<Price>,
    /// An attempt of the same call was sent before: its user has paid with a request already.
    pub is_again: bool,
    /// Go ahead of the local limits (`skip_rate_limit=`): they are counted and not waited for. Blocks still hold.
    pub ahead_of_limits: bool,
    /// How many thousandths of every limit are left to calls that matter more (`pause_threshold`).
    pub kept: u16,
    /// The place of the ledger of its user's limits, if it has any.
    pub user: Option<usize>,
    /// Only this key may take it; its place in the provider's list of keys.
    pub only_key: Option<usize>,
    /// Everything is closed: a lane that is closed by our guess alone may be tried, by one call a minute.
    pub last_resort: bool,
}

/// What of a limit such a guess takes at most: an eighth.
const UNLEARNED_SHARE: u64 = 8;

impl Demand {
    /// A call whose size is known: it takes `tokens` and asks for no answer.
    ///
    /// ```
    /// use quotaflow::kernel::Demand;
    /// assert_eq!(Demand::of(1_000).input_tokens, 1_000);
    /// ```
    pub const fn of(tokens: u64) -> Demand {
        Demand {
            input_tokens: tokens,
            counted_tokens: Some(tokens),
            max_output_tokens: Some(0),
            reserves_max_tokens: false,
            counts_output: false,
            price: None,
            is_again: false,
            ahead_of_limits: false,
            kept: 0,
            user: None,
            only_key: None,
            last_resort: false,
        }
    }

    /// How large the call is before a lane is known: what its user pays with in the waiting line.
    pub fn size(&self) -> Amounts {
        let output_tokens = match self.max_output_tokens {
            _ if !self.counts_output => 0,
            Some(max) if self.reserves_max_tokens => max,
            Some(max) => max.min(USUAL_OUTPUT),
            None => USUAL_OUTPUT,
        };
        Amounts { requests: 1, input_tokens: self.input_tokens, output_tokens, spend: 0 }
    }

    /// What to reserve on a lane, judged by its answers so far, never more than its limits allow for a part that is
    /// only a guess; and whether it is a guess that a small limit cut short.
    pub(super) fn amounts(&self, lane: &Lane, ledgers: &Ledgers<'_>) -> (Amounts, bool) {
        let input_tokens = self
            .counted_tokens
            .map(|counted| ledgers.get(lane.group_model).counts().of_count(counted))
            .unwrap_or_else(|| ledgers.get(lane.group_model).inputs().bound(self.input_tokens));
        let mut amounts = Amounts { requests: 1, input_tokens, output_tokens: 0, spend: 0 };
        if !self.counts_output && self.price.is_none() {
            return (amounts, false);
        }
        let sizes = ledgers.get(lane.group_model).outputs();
        let learned = sizes.p95().or_else(|| sizes.longest());
        let mut cut_short = false;
        let mut output = match self.max_output_tokens {
            Some(max) if self.reserves_max_tokens => max,
            Some(max) => learned.unwrap_or(USUAL_OUTPUT).min(max),
            None => learned.unwrap_or(USUAL_OUTPUT),
        };
        let most = |resource| {
            lane.ledgers.iter().filter_map(|place| ledgers.get(*place).most(resource)).min()
        };
        if let Some(price) = self.price {
            let spend = price.spend(input_tokens, output);
            amounts.spend = self.cut_spend(spend, input_tokens, most(Resource::Spend));
        }
        if !self.counts_output {
            return (amounts, false);
        }
        if self.answer_charged() == AnswerCharged::AtOnce {
            return (Amounts { output_tokens: output, ..amounts }, false);
        }
        let limits = [(Resource::Tokens, input_tokens), (Resource::OutputTokens, 0)];
        for (resource, taken) in limits {
            let Some(most) = most(resource) else { continue };
            output = output.min(most.saturating_sub(taken));
            if learned.is_none() {
                // A guess must not make a call wait until a small limit is whole again.
                cut_short |= output > most / UNLEARNED_SHARE;
                output = output.min(most / UNLEARNED_SHARE);
            }
        }
        amounts.output_tokens = output;
        (amounts, cut_short)
    }

    /// What of `spend` is reserved where at most `most` can ever be: what is only a guess, the length of an answer that
    /// nothing bounds, makes no call too expensive.
    fn cut_spend(&self, spend: u64, input_tokens: u64, most: Option<u64>) -> u64 {
        let (Some(price), Some(most), None) = (self.price, most, self.max_output_tokens) else {
            return spend;
        };
        spend.min(most.max(price.spend(input_tokens, 0)))
    }

    /// When the provider charges the answer.
    pub(in crate::kernel) fn answer_charged(&self) -> AnswerCharged {
        match self.max_output_tokens {
            Some(_) if self.reserves_max_tokens => AnswerCharged::AtOnce,
            _ => AnswerCharged::WhenMade,
        }
    }

    /// What the call takes from the ledger of its user's limits, if it takes `amounts` from its lane.
    pub(super) fn of_user(&self, amounts: &Amounts, user: &Ledger) -> Amounts {
        let most = user.most(Resource::Spend);
        let spend = self.cut_spend(amounts.spend, amounts.input_tokens, most);
        Amounts { requests: u64::from(!self.is_again), spend, ..*amounts }
    }

    /// What it takes at least, wherever it goes.
    pub(super) fn least(&self) -> Amounts {
        let spend = self.price.map_or(0, |price| price.spend(self.input_tokens, 0));
        Amounts { input_tokens: self.input_tokens, spend, ..Amounts::default() }
    }
}

/// How long something may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Until this instant.
    Until(Moment),
    /// This long from whenever the call is at the head of the line.
    AtHead(Duration),
}

impl Patience {
    /// Whatever it takes.
    pub const FOR_EVER: Patience = Patience::Until(Moment::FAR_FUTURE);

    /// Whether something that happens `at` can be waited for.
    pub fn covers(self, at: Moment, now: Moment) -> bool {
        match self {
            Patience::Until(end) => at <= end,
            Patience::AtHead(span) => at.since(now) <= span,
        }
    }
}
