//! What does an attempt leave behind in the ledgers of its lane?

use super::block::Block;
use super::choose::{Ending, Lane, Ledgers, Reservation, settle};
use super::failure::{Failure, FailureClass, Origin, Scope};
use super::hint::RateHint;
use super::moment::Moment;

/// How an attempt ended and what the provider said with it.
#[derive(Clone, Copy, Debug)]
pub struct Aftermath<'a> {
    /// What becomes of the reservation.
    pub ending: Ending,
    /// What the headers said about limits.
    pub rates: &'a [RateHint],
    /// The failure, if it was one.
    pub failure: Option<&'a Failure>,
    /// Randomness in `0.0..1.0`, to spread the ends of blocks.
    pub entropy: f64,
}

/// Settles the reservation, learns, and closes what the failure speaks of. Says what was closed, if anything.
pub fn book(
    ledgers: &mut Ledgers<'_>,
    lane: &Lane,
    held: &Reservation,
    aftermath: Aftermath<'_>,
    now: Moment,
) -> Option<Block> {
    settle(ledgers, lane, held, aftermath.ending, now);
    if !aftermath.rates.is_empty() {
        ledgers.get_mut(lane.group_model).learn(aftermath.rates, now);
    }
    let failure = aftermath.failure?;
    let place = match failure.scope {
        Scope::Call => return None,
        Scope::Key => lane.key_alone,
        Scope::Group => lane.group,
        Scope::GroupFreeModels => lane.free_models.unwrap_or(lane.group_model),
        Scope::GroupModel | Scope::Model => lane.group_model,
    };
    close(ledgers, place, failure, aftermath.entropy, now)
}

fn close(
    ledgers: &mut Ledgers<'_>,
    place: usize,
    failure: &Failure,
    entropy: f64,
    now: Moment,
) -> Option<Block> {
    // A request too large for a group says nothing about smaller ones.
    if failure.never_here {
        return None;
    }
    let ledger = ledgers.get_mut(place);
    let strikes = ledger.blocks().strikes(failure.class);
    if failure.needs_confirmation && strikes == 0 {
        let noted = Block {
            class: failure.class,
            until: now,
            origin: Origin::Guess,
            since: now,
            strikes: 1,
            probe_until: None,
        };
        ledger.block(noted, now);
        return None;
    }
    let block = Block::after(failure, strikes, now, entropy)?;
    ledger.block(block.clone(), now);
    Some(block)
}

impl Ending {
    /// What a failure means for what was reserved: refused before generation, unknown, or never sent.
    ///
    /// A request that failed on the provider's side still counts as a request (OpenAI and Gemini document that);
    /// its tokens do not, unless it may have been worked on.
    pub fn of(failure: &Failure) -> Ending {
        match failure.class {
            _ if failure.never_sent => Ending::NeverSent,
            FailureClass::Timeout | FailureClass::Network | FailureClass::ServerError => {
                Ending::Unknown
            }
            _ => Ending::Refused,
        }
    }
}
