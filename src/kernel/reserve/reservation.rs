//! Reservations: what one attempt holds of the meters of its lane.
//!
//! A reservation ends in exactly one way ([`Ending`]), which decides what stays counted:
//!
//! | ending | what stays counted |
//! |---|---|
//! | `Answered` | the request and the tokens billed (the estimate when the provider does not say) |
//! | `Refused` | the request, no tokens |
//! | `Unknown` (timeout, broken connection, dropped in flight) | everything; for the answer at least the usual length |
//! | `Failed` (server error) | everything but money |
//! | `CutOff` (a stream that broke off or was closed) | what was used until then |
//! | `NeverSent` (no connection, dropped before it left) | nothing |

use super::demand::Demand;
use super::lane::{Lane, Ledgers};
use crate::kernel::amounts::{Amounts, Usage};
use crate::kernel::ledger::Ledger;
use crate::kernel::ledger::output_sizes::{OutputSizes, USUAL_OUTPUT};
use crate::kernel::meters::charge::AnswerCharged;
use crate::kernel::moment::Moment;

/// What a call holds from all meters of its lane at once. It ends settled or released, never both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The place of the lane.
    pub lane: usize,
    /// What was taken.
    pub amounts: Amounts,
    /// The place of the ledger of the user's limits, if there is one.
    pub user: Option<usize>,
    /// What was taken from that.
    pub of_user: Amounts,
    /// When the provider charges the answer.
    pub answer: AnswerCharged,
    /// The longest answer that the caller allows, if it said so.
    pub longest_answer: Option<u64>,
    /// The prompt, estimated: what its bill is compared with.
    pub estimated: u64,
    /// The prompt, counted, if it was.
    pub counted: Option<u64>,
    /// When.
    pub at: Moment,
    /// What answers had returned by then to the ledgers that headers speak of, see [`Ledger::answers_returned`].
    returned: Returned,
}

/// See [`Ledger::answers_returned`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Returned {
    group: u64,
    group_model: u64,
}

impl Reservation {
    pub(in crate::kernel) fn new(
        place: usize,
        lane: &Lane,
        amounts: Amounts,
        demand: &Demand,
        ledgers: &Ledgers<'_>,
        now: Moment,
    ) -> Reservation {
        let returned = |ledger| ledgers.get(ledger).answers_returned();
        Reservation {
            lane: place,
            returned: Returned {
                group: returned(lane.group),
                group_model: returned(lane.group_model),
            },
            amounts,
            user: None,
            of_user: Amounts::default(),
            answer: demand.answer_charged(),
            longest_answer: demand.max_output_tokens,
            estimated: demand.input_tokens,
            counted: demand.counted_tokens,
            at: now,
        }
    }

    /// How many tokens answers have returned to the ledger at `place` since this was reserved.
    pub(in crate::kernel) fn answers_returned(
        &self,
        lane: &Lane,
        place: usize,
        ledger: &Ledger,
    ) -> u64 {
        let before = match place {
            _ if place == lane.group_model => self.returned.group_model,
            _ if place == lane.group => self.returned.group,
            // For other ledgers nothing was kept: their hints are taken as they are.
            _ => return 0,
        };
        ledger.answers_returned().saturating_sub(before)
    }

    /// What is counted when it ended like this, judged by the answers of its model so far.
    ///
    /// What was billed for an answer that never arrived is unknown: the usual length, or the longest so far if that is
    /// more, whatever could be reserved for it.
    fn used(&self, ending: &Ending, sizes: &OutputSizes) -> Amounts {
        let used = ending.used(&self.amounts);
        if *ending != Ending::Unknown
            || self.answer == AnswerCharged::AtOnce
            || used.output_tokens == 0
        {
            return used;
        }
        let usual = sizes.longest().unwrap_or(USUAL_OUTPUT);
        let most = self.longest_answer.unwrap_or(u64::MAX);
        Amounts { output_tokens: used.output_tokens.max(usual).min(most), ..used }
    }
}

/// How an attempt ended, as far as its reservation is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Answered; the tokens that count, if the provider said how many.
    Answered(Option<Amounts>),
    /// Refused before anything was generated: the request counts, its tokens do not.
    Refused,
    /// It is unknown whether it was worked on: all of it stays counted.
    Unknown,
    /// The server failed at it: what it may have worked on stays counted, and no money, for that is not billed.
    Failed,
    /// It broke off, or was no longer wanted, when this much had been used: that stays counted.
    CutOff(Amounts),
    /// It provably never left this machine: nothing counts.
    NeverSent,
}

impl Ending {
    /// What stays counted of what was reserved.
    pub fn used(&self, reserved: &Amounts) -> Amounts {
        match self {
            Ending::Answered(Some(used)) | Ending::CutOff(used) => *used,
            Ending::Answered(None) | Ending::Unknown => *reserved,
            Ending::Failed => Amounts { spend: 0, ..*reserved },
            Ending::Refused => Amounts { requests: reserved.requests, ..Amounts::default() },
            Ending::NeverSent => Amounts::default(),
        }
    }
}

/// Ends a reservation on every ledger of its lane, and on that of its user. Returns whether an answer opened
/// something that was closed.
pub fn settle_reservation(
    ledgers: &mut Ledgers<'_>,
    lane: &Lane,
    held: &Reservation,
    ending: Ending,
    now: Moment,
) -> bool {
    let mut recovered = false;
    let reserved = held.amounts;
    let used = held.used(&ending, ledgers.get(lane.group_model).outputs());
    // A server that failed has charged no answer: what is reserved for one only stays, and comes back by time.
    let answer = if ending == Ending::Failed { AnswerCharged::AtOnce } else { held.answer };
    for place in &lane.ledgers {
        let ledger = ledgers.get_mut(*place);
        ledger.ended(held.at);
        ledger.release(&reserved);
        ledger.correct(&reserved, &used, answer, held.at, now);
        // What was refused, or never left, was not charged.
        let was_charged = !matches!(ending, Ending::Refused | Ending::NeverSent);
        if held.answer == AnswerCharged::AtOnce && was_charged {
            ledger.answer_returned(reserved.output_tokens.saturating_sub(used.output_tokens));
        }
        match ending {
            Ending::Answered(_) => {
                recovered |= ledger.served(held.at, now);
                if *place == lane.group_model && used.output_tokens > 0 {
                    ledger.record_output_size(used.output_tokens, held.longest_answer);
                }
            }
            Ending::NeverSent => ledger.forget_send(),
            Ending::Refused | Ending::Unknown | Ending::Failed | Ending::CutOff(_) => {}
        }
    }
    if let Some(user) = held.user {
        settle_user(ledgers.get_mut(user), held, ending, now);
    }
    recovered
}

/// Ends what a reservation holds of the ledger of its user.
fn settle_user(user: &mut Ledger, held: &Reservation, ending: Ending, now: Moment) {
    user.ended(held.at);
    user.release(&held.of_user);
    // A call of many attempts is one request to its user; all that providers bill is the user's.
    let used = ending.used(&held.of_user);
    let used = Amounts { requests: used.requests.min(held.of_user.requests), ..used };
    user.correct(&held.of_user, &used, AnswerCharged::AtOnce, held.at, now);
    // A further attempt was not counted as one more.
    if matches!(ending, Ending::NeverSent) && held.of_user.requests > 0 {
        user.forget_send();
    }
}

/// What of a bill counts against a provider's token limits.
pub fn counted(usage: &Usage, counts_output: bool, counts_cached_input: bool) -> Amounts {
    let cached = if counts_cached_input { 0 } else { usage.cached_tokens };
    Amounts {
        requests: 1,
        input_tokens: usage.input_tokens.saturating_sub(cached),
        output_tokens: if counts_output { usage.output_tokens } else { 0 },
        spend: 0,
    }
}
