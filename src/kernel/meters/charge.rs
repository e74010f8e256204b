//! Charges: when a provider charges what a call takes.
//!
//! Where `max_tokens` is charged at admission (OpenAI, Groq, Cerebras, Azure), the whole reservation counts from when
//! the call left, and what was too much comes back to that instant. Everywhere else the provider charges an answer when
//! it has made it. What was reserved for it is given up when the call ends, and what it used is taken at that moment,
//! so that a bucket refills no earlier than the provider's.

use crate::kernel::amounts::Amounts;
use crate::kernel::limits::Resource;

/// What a call takes from one limit, by when the provider charges it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// When it admits the call.
    pub at_once: u64,
    /// When the answer has been made; reserved until then.
    pub with_answer: u64,
}

impl Charge {
    /// All of it when the call is admitted.
    pub const fn at_once(amount: u64) -> Charge {
        Charge { at_once: amount, with_answer: 0 }
    }

    /// All of it, whenever it is charged.
    pub fn all(self) -> u64 {
        self.at_once.saturating_add(self.with_answer)
    }
}

/// When the provider of a call charges its answer.
///
/// OpenAI and its like charge `max_tokens` when they admit a call that states it, and the answer of any other when it
/// has been made; Anthropic counts output as it is produced, whatever `max_tokens` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerCharged {
    /// In full when the call is admitted.
    AtOnce,
    /// When it has been made.
    WhenMade,
}

impl AnswerCharged {
    /// What `amounts` take of a limit on `resource`, and when.
    ///
    /// ```
    /// use quotaflow::kernel::{Amounts, AnswerCharged, Resource};
    /// let amounts = Amounts { requests: 1, input_tokens: 30, output_tokens: 12, spend: 0 };
    /// let charge = AnswerCharged::WhenMade.charge(Resource::Tokens, &amounts);
    /// assert_eq!((charge.at_once, charge.with_answer), (30, 12));
    /// assert_eq!(AnswerCharged::AtOnce.charge(Resource::Tokens, &amounts).at_once, 42);
    /// ```
    pub fn charge(self, resource: Resource, amounts: &Amounts) -> Charge {
        match (self, resource) {
            (AnswerCharged::WhenMade, Resource::Tokens | Resource::OutputTokens) => {
                let with_answer = amounts.output_tokens;
                Charge { at_once: amounts.of(resource) - with_answer, with_answer }
            }
            _ => Charge::at_once(amounts.of(resource)),
        }
    }
}
