//! Blocks: a ledger is closed until an instant, and one probe tests it again.
//!
//! A ledger has at most one block per failure class; a later end wins. With the provider's word (`Retry-After`, a body,
//! a documented midnight) a block stands until then. Without it the block is a guess that doubles: 1 s to 60 s for
//! requests, 5 s to 60 s for tokens, 1 h for a day, 10 min to 1 h for credit, 24 h for permission and a missing model.
//!
//! When a guess ends, the next call probes. Other calls wait for it, for 60 s at most. An answer removes the guesses
//! that were made before its call left; it never removes the provider's word. Overload and server errors without an end
//! close nothing. When all lanes are closed by guesses, one call a minute may try one that is at least a minute old
//! (the last resort).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::kernel::failure::{Failure, FailureClass, Origin};
use crate::kernel::moment::Moment;

/// "Not before this instant", with its reason and where it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// What kind of refusal closed it.
    pub class: FailureClass,
    /// The first instant at which trying makes sense.
    pub until: Moment,
    /// The provider's word, or our guess.
    pub origin: Origin,
    /// When it was closed.
    pub since: Moment,
    /// How often in a row we had to guess; each guess is twice as long as the one before.
    pub strikes: u32,
    /// A probe tests whether it is open again; no other call tries before this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_until: Option<Moment>,
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.origin {
            Origin::Provider => "the provider's word",
            Origin::Guess => "our guess",
        };
        let until = self.probe_until.unwrap_or(self.until);
        if until == Moment::FAR_FUTURE {
            write!(f, "{} until it is reconfigured ({who})", self.class)
        } else {
            write!(f, "{} until {until} ({who})", self.class)
        }
    }
}

/// How long a probe may take before the next call may try.
const PROBE_LASTS: Duration = Duration::from_secs(60);

impl FailureClass {
    /// Whether it is about quota: too much was counted, or there is no money.
    pub const fn is_quota(self) -> bool {
        matches!(
            self,
            FailureClass::RateLimited
                | FailureClass::TokenLimited
                | FailureClass::DailyQuota
                | FailureClass::CreditExhausted
        )
    }

    /// The first guess and the longest one when no end was stated; `None`: it closes nothing, because the next call may
    /// well succeed.
    const fn guess(self) -> Option<(Duration, Duration)> {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 3_600;
        let (first, longest) = match self {
            FailureClass::RateLimited => (1, MINUTE),
            FailureClass::TokenLimited => (5, MINUTE),
            FailureClass::DailyQuota => (HOUR, HOUR),
            FailureClass::CreditExhausted => (10 * MINUTE, HOUR),
            FailureClass::Permission | FailureClass::NotFound => (24 * HOUR, 24 * HOUR),
            _ => return None,
        };
        Some((Duration::from_secs(first), Duration::from_secs(longest)))
    }
}

/// The blocks of one ledger, one per class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Blocks(Vec<Block>);

impl Blocks {
    /// The block that lasts longest at `now`, if any is in force. A probe that is under way counts as closed.
    pub fn in_force(&self, now: Moment) -> Option<Block> {
        self.0
            .iter()
            .map(|block| block.read_at(now))
            .filter(|block| block.until > now)
            .max_by_key(|block| block.until)
    }

    /// The same without what is only our guess, is a minute old, and is not being probed.
    pub(in crate::kernel) fn beyond_doubt(&self, now: Moment) -> Option<Block> {
        self.0
            .iter()
            .filter(|block| !block.is_doubtful(now))
            .map(|block| block.read_at(now))
            .filter(|block| block.until > now)
            .max_by_key(|block| block.until)
    }

    /// A call tries although doubtful blocks are in force. Returns whether there was one.
    pub(in crate::kernel) fn start_early_probe(&mut self, now: Moment) -> bool {
        let doubtful =
            self.0.iter_mut().filter(|block| block.until > now && block.is_doubtful(now));
        doubtful.map(|block| block.probe_until = Some(now + PROBE_LASTS)).count() > 0
    }

    /// Closes, or closes for longer: the later end wins, and the provider's word over a guess of the same end.
    pub fn add(&mut self, block: Block, now: Moment) {
        match self.0.iter_mut().find(|known| known.class == block.class) {
            Some(known) => {
                let until = known.until.max(block.until);
                let origin = if block.until >= known.until { block.origin } else { known.origin };
                *known = Block { until, origin, ..block };
            }
            None => self.0.push(block),
        }
        // What ended long ago is only history.
        self.0.retain(|block| block.until + Duration::from_secs(86_400) > now);
    }

    /// How often in a row this class was guessed.
    pub fn strikes(&self, class: FailureClass) -> u32 {
        self.0.iter().find(|block| block.class == class).map_or(0, |block| block.strikes)
    }

    /// If a guessed block has just ended, the call that passes now finds out whether that was right.
    pub(in crate::kernel) fn start_probe(&mut self, now: Moment) {
        for block in &mut self.0 {
            if block.origin == Origin::Guess && block.until <= now {
                block.probe_until = Some(now + PROBE_LASTS);
            }
        }
    }

    /// Ends the probe that left at `left_at`, whatever it found. Returns whether there was one.
    pub(in crate::kernel) fn abandon_probe(&mut self, left_at: Moment) -> bool {
        let its_own = |probe: &mut Moment| *probe <= left_at + PROBE_LASTS;
        self.0.iter_mut().filter_map(|block| block.probe_until.take_if(its_own)).count() > 0
    }

    /// Forgets what the answer to a call that left at `left_at` proved to be over: what ended, and guesses made before
    /// it left. Returns whether there was anything.
    pub(in crate::kernel) fn clear_after_success(&mut self, left_at: Moment, now: Moment) -> bool {
        let before = self.0.len();
        self.0.retain(|block| {
            let word = block.until > now && block.origin == Origin::Provider;
            word || block.since > left_at
        });
        before != self.0.len()
    }

    /// Forgets the blocks of these classes. Returns whether there was any.
    pub(in crate::kernel) fn lift(&mut self, opens: impl Fn(FailureClass) -> bool) -> bool {
        let before = self.0.len();
        self.0.retain(|block| !opens(block.class));
        before != self.0.len()
    }

    /// What a clock closed that was stepped back since was closed at the latest now.
    pub(in crate::kernel) fn mend_clock(&mut self, now: Moment) {
        for block in &mut self.0 {
            if block.since > now {
                *block = block.read_at(now);
                block.since = now;
            }
            block.probe_until = block.probe_until.map(|probe| probe.min(now + PROBE_LASTS));
        }
    }

    /// The blocks as they are.
    pub fn iter(&self) -> impl Iterator<Item = &Block> {
        self.0.iter()
    }
}

impl FromIterator<Block> for Blocks {
    fn from_iter<I: IntoIterator<Item = Block>>(blocks: I) -> Self {
        Blocks(blocks.into_iter().collect())
    }
}

impl Block {
    fn is_doubtful(&self, now: Moment) -> bool {
        self.origin == Origin::Guess
            && now.since(self.since) >= PROBE_LASTS
            && self.probe_until.is_none_or(|probe| probe <= now)
    }

    /// The block as a clock that reads `now` must see it: one made in the future was made before the clock was stepped
    /// back and lasts as long as it was meant to; a probe under way keeps it closed.
    fn read_at(&self, now: Moment) -> Block {
        let mut block = self.clone();
        if block.since > now && block.until != Moment::FAR_FUTURE {
            block.until = now + block.until.since(block.since);
            block.probe_until = None;
        }
        if let Some(probe) = block.probe_until {
            block.until = block.until.max(probe.min(now + PROBE_LASTS));
        }
        block
    }

    /// The block that `failure` leaves behind after `strikes` guesses in a row; `None` when it closes nothing.
    ///
    /// `entropy` in `0.0..1.0` moves the end upwards by up to a tenth, one second at the most, so that not all calls
    /// comes back at the same instant.
    ///
    /// ```
    /// use quotaflow::kernel::{Block, Failure, FailureClass, Moment, Scope};
    /// let failure = Failure::new(FailureClass::RateLimited, Scope::GroupModel, "slow down");
    /// let now = Moment::from_seconds(1_800_000_000);
    /// let third = Block::after(&failure, 2, now, 0.0).unwrap();
    /// assert_eq!((third.until - now).as_secs(), 4);
    /// ```
    pub fn after(failure: &Failure, strikes: u32, now: Moment, entropy: f64) -> Option<Block> {
        let (until, origin) = match failure.until {
            Some(until) if until.at > now => (until.at, until.origin),
            _ if failure.class == FailureClass::Auth => (Moment::FAR_FUTURE, Origin::Provider),
            _ => {
                let (first, longest) = failure.class.guess()?;
                let doubled = first.saturating_mul(1_u32 << strikes.min(16));
                (now + doubled.min(longest), Origin::Guess)
            }
        };
        let spread = until.since(now).mul_f64(0.1).min(Duration::from_secs(1)).mul_f64(entropy);
        Some(Block {
            class: failure.class,
            until: if until == Moment::FAR_FUTURE { until } else { until + spread },
            origin,
            since: now,
            strikes: if origin == Origin::Guess { strikes + 1 } else { 0 },
            probe_until: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::failure::{Scope, Until};

    const NOW: Moment = Moment::from_seconds(1_800_000_000);

    fn rate_limited(until: Option<Until>) -> Failure {
        Failure { until, ..Failure::new(FailureClass::RateLimited, Scope::GroupModel, "slow") }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_later_block_wins_over_an_earlier_one_and_never_the_other_way_round() {
        let word = |s| rate_limited(Some(Until { at: NOW + seconds(s), origin: Origin::Provider }));
        let mut blocks = Blocks::default();
        blocks.add(Block::after(&word(50), 0, NOW, 0.0).unwrap(), NOW);
        blocks.add(Block::after(&word(10), 0, NOW, 0.0).unwrap(), NOW);
        assert_eq!(blocks.in_force(NOW).unwrap().until, NOW + seconds(50));
        blocks.add(Block::after(&word(70), 0, NOW, 0.0).unwrap(), NOW);
        assert_eq!(blocks.in_force(NOW).unwrap().until, NOW + seconds(70));
    }

    #[test]
    fn a_guess_is_probed_by_one_call_and_a_providers_word_by_none() {
        let mut blocks = Blocks::default();
        blocks.add(Block::after(&rate_limited(None), 0, NOW, 0.0).unwrap(), NOW);
        let ended = NOW + seconds(1);
        assert!(blocks.in_force(ended).is_none());
        blocks.start_probe(ended);
        assert!(blocks.in_force(ended).is_some(), "a second call must wait for the probe");
        assert!(blocks.clear_after_success(ended, ended + seconds(1)));
        assert!(blocks.in_force(ended).is_none());
    }

    #[test]
    fn an_answer_to_a_call_that_left_before_the_refusal_proves_nothing() {
        let mut blocks = Blocks::default();
        blocks.add(Block::after(&rate_limited(None), 0, NOW, 0.0).unwrap(), NOW);
        assert!(!blocks.clear_after_success(NOW.before(seconds(1)), NOW));
        assert!(blocks.in_force(NOW).is_some());
    }

    #[test]
    fn guesses_in_a_row_grow_to_their_ceiling() {
        let spans: Vec<u64> = (0..9)
            .map(|strikes| {
                (Block::after(&rate_limited(None), strikes, NOW, 0.0).unwrap().until - NOW)
                    .as_secs()
            })
            .collect();
        assert_eq!(spans, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn overload_and_server_errors_never_close_anything() {
        for class in [
            FailureClass::Overloaded,
            FailureClass::ServerError,
            FailureClass::Timeout,
            FailureClass::Network,
        ] {
            assert!(Block::after(&Failure::new(class, Scope::Call, ""), 0, NOW, 0.0).is_none());
        }
    }

    #[test]
    fn a_clock_stepped_back_makes_no_block_longer() {
        let mut blocks = Blocks::default();
        blocks.add(
            Block::after(
                &rate_limited(Some(Until { at: NOW + seconds(30), origin: Origin::Provider })),
                0,
                NOW,
                0.0,
            )
            .unwrap(),
            NOW,
        );
        let hour_before = NOW.before(seconds(3_600));
        assert_eq!(blocks.in_force(hour_before).unwrap().until, hour_before + seconds(30));
    }
}
