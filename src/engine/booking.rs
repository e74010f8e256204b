//! How is a lane held, and how is it certain that it is let go of?

use std::sync::Arc;

use super::Engine;
use super::roster::{Lanes, Target};
use crate::kernel::{
    Aftermath, Amounts, Change, Choice, Ending, Hints, Ledgers, Moment, Need, Obstacle, Refusal,
    Reservation, book, reserve, reserve_anyway,
};
use crate::stores::StoreError;

/// A reserved lane. It is settled once, or its drop settles it: what never left is given back, what may have left
/// stays counted.
#[derive(Debug)]
#[must_use = "dropping it gives the reservation back"]
pub(crate) struct Held {
    engine: Arc<Engine>,
    pub(crate) target: Arc<Target>,
    lanes: Arc<Lanes>,
    pub(crate) reservation: Reservation,
    /// It finds out whether its target is well again.
    pub(crate) probes: bool,
    left: bool,
    /// What was used of it until now, once an answer has begun to arrive.
    so_far: Option<Amounts>,
    over: bool,
}

/// What comes of asking for a lane.
#[derive(Debug)]
pub(crate) enum Booked {
    Reserved(Held),
    NotNow(Refusal),
    Never(Option<Refusal>),
}

impl Engine {
    /// Asks for a lane of `target`, in one change of the store.
    pub(crate) fn try_reserve(
        self: &Arc<Self>,
        target: &Arc<Target>,
        need: &Need,
        barred: &[usize],
    ) -> Result<Booked, StoreError> {
        let lanes = target.lanes();
        let now = self.clock.now();
        let mut choice = Choice::Never(None);
        let mut candidates = None;
        self.store.update(&lanes.ids, &mut |ledgers| {
            conform(ledgers, &lanes, now);
            if self.observer.wants_decisions() {
                candidates = Some(describe(ledgers, target, &lanes, now));
            }
            choice = reserve(ledgers, &lanes.lanes, barred, need, now);
        })?;
        Ok(match choice {
            Choice::Reserved(reservation) => {
                if let Some(candidates) = candidates {
                    self.tell_decision(target, &reservation, candidates);
                }
                Booked::Reserved(Held::new(self, target, lanes, reservation))
            }
            Choice::NotNow(refusal) => Booked::NotNow(refusal),
            Choice::Never(refusal) => Booked::Never(refusal),
        })
    }

    /// Takes a lane of `target` for a request that was sent without asking.
    pub(crate) fn reserve_anyway(
        self: &Arc<Self>,
        target: &Arc<Target>,
        need: &Need,
    ) -> Result<Option<Held>, StoreError> {
        let lanes = target.lanes();
        let now = self.clock.now();
        let mut taken = None;
        self.store.update(&lanes.ids, &mut |ledgers| {
            conform(ledgers, &lanes, now);
            taken = reserve_anyway(ledgers, &lanes.lanes, need, now);
        })?;
        Ok(taken.map(|reservation| Held::new(self, target, lanes, reservation)))
    }

    fn tell_decision(&self, target: &Target, reservation: &Reservation, candidates: String) {
        let key = target.vendor.keys[reservation.lane].label.clone();
        let target = target.name.clone();
        self.observer.notice(&super::Notice::Decides { target, key, candidates });
    }
}

/// Brings the ledgers under their limits, once for each.
pub(super) fn conform(ledgers: &mut Ledgers<'_>, lanes: &Lanes, now: Moment) {
    for (place, configured) in lanes.configured.iter().enumerate() {
        ledgers.get_mut(place).conform(configured, now);
    }
}

fn describe(ledgers: &Ledgers<'_>, target: &Target, lanes: &Lanes, now: Moment) -> String {
    let one = |lane: &crate::kernel::Lane| {
        let label = &target.vendor.keys[lane.key].label;
        let block =
            lane.ledgers.iter().find_map(|place| ledgers.get(*place).blocks().in_force(now));
        let full = lane.ledgers.iter().map(|place| ledgers.get(*place).fullness(now)).max();
        match block {
            Some(block) => format!("{label} ({})", Obstacle::Block(block)),
            None => format!("{label} ({} % used)", full.unwrap_or(0) * 100 / 1024),
        }
    };
    lanes.lanes.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl Held {
    fn new(
        engine: &Arc<Engine>,
        target: &Arc<Target>,
        lanes: Arc<Lanes>,
        reservation: Reservation,
    ) -> Self {
        let (engine, target) = (engine.clone(), target.clone());
        Held {
            engine,
            target,
            lanes,
            reservation,
            probes: false,
            left: false,
            so_far: None,
            over: false,
        }
    }

    /// The place of its key.
    pub(crate) fn key(&self) -> usize {
        self.lanes.lanes[self.reservation.lane].key
    }

    /// From now on the provider may have seen it.
    pub(crate) fn leaves(&mut self) {
        self.left = true;
    }

    /// An answer is arriving and has taken this much: what stays counted if nobody waits for the rest.
    pub(crate) fn used_so_far(&mut self, used: Amounts) {
        self.so_far = Some(used);
    }

    /// How it ends if it is cut off now.
    pub(crate) fn cut_off(&self) -> Ending {
        match (self.left, self.so_far) {
            (false, _) => Ending::NeverSent,
            (true, Some(used)) => Ending::CutOff(used),
            (true, None) => Ending::Unknown,
        }
    }

    /// Ends the reservation. Says what that changed.
    pub(crate) fn settle(
        mut self,
        ending: Ending,
        hints: &Hints,
        failure: Option<&crate::kernel::Failure>,
    ) -> Result<Change, StoreError> {
        let entropy = if failure.is_some() { self.engine.entropy.draw() } else { 0.0 };
        self.end(Aftermath { ending, rates: &hints.rates, failure, entropy })
    }

    fn end(&mut self, aftermath: Aftermath<'_>) -> Result<Change, StoreError> {
        self.over = true;
        match aftermath.ending {
            _ if aftermath.failure.is_some() => {
                self.target.breaker.lock().saw(aftermath.failure, self.engine.clock.now());
            }
            Ending::Answered(_) => self.target.breaker.lock().saw(None, self.engine.clock.now()),
            _ if self.probes => self.target.breaker.lock().abandon(),
            _ => {}
        }
        let lanes = &self.lanes.alone[self.reservation.lane];
        let now = self.engine.clock.now();
        let mut change = Change::default();
        let written = self.engine.store.update(&lanes.ids, &mut |ledgers| {
            conform(ledgers, lanes, now);
            change = book(ledgers, &lanes.lanes[0], &self.reservation, aftermath, now);
        });
        // Written down or not: it is no longer in flight, and whoever waits for that must hear of it.
        self.engine.wake_lines(&self.target.vendor);
        written.map(|()| change)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let ending = self.cut_off();
        let aftermath = Aftermath { ending, rates: &[], failure: None, entropy: 0.0 };
        // Nobody is left to hear that the store failed; what stays is counted on the safe side.
        let _ = self.end(aftermath);
    }
}
