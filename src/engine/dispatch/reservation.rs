//! The reservation of a lane: reserved in one store change, settled once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::lanes::{Lanes, conform, conform_user, with_own};
use super::types::{Dispatch, HeldReservation, Target};
use super::users::User;
use crate::engine::world::observer::Notice;
use crate::kernel::{
    Amounts, Change, Choice, Demand, Ending, Hints, Ledgers, Moment, Obstacle, Outcome, Refusal,
    Reservation, Usage, observe_headers, reserve, reserve_anyway, settle,
};
use crate::stores::StoreError;

/// The outcome of asking for a lane.
#[derive(Debug)]
pub(crate) enum ReserveResult {
    Reserved(Box<HeldReservation>),
    NotNow(Refusal),
    Never(Option<Refusal>),
}

impl Dispatch {
    /// Asks for a lane of `target`, in one change of the store.
    pub(crate) fn try_reserve(
        self: &Arc<Self>,
        target: &Arc<Target>,
        demand: &Demand,
        excluded: &[usize],
        user: &Arc<User>,
    ) -> Result<ReserveResult, StoreError> {
        let lanes = target.lanes();
        let now = self.now();
        let mut choice = Choice::Never(None);
        let mut candidates = None;
        let mut has_moved = false;
        self.store.update(&with_own(&lanes.ids, user), &mut |ledgers| {
            has_moved = !target.has_lanes(&lanes);
            if has_moved {
                return;
            }
            conform(ledgers, &lanes, now);
            if self.world.observer.wants_decisions() {
                candidates = Some(describe(ledgers, target, &lanes, now));
            }
            let user = conform_user(ledgers, &lanes, user, now);
            let demand = Demand { user, ..*demand };
            choice = reserve(ledgers, &lanes.lanes, excluded, &demand, now);
        })?;
        if has_moved {
            return self.try_reserve(target, demand, excluded, user);
        }
        Ok(match choice {
            Choice::Reserved(reservation) => {
                if let Some(candidates) = candidates {
                    self.tell_decision(target, &reservation, candidates);
                }
                ReserveResult::Reserved(Box::new(HeldReservation::new(
                    self,
                    target,
                    lanes,
                    reservation,
                    user.clone(),
                )))
            }
            Choice::NotNow(refusal) => ReserveResult::NotNow(refusal),
            Choice::Never(refusal) => ReserveResult::Never(refusal),
        })
    }

    /// Takes a lane of `target` for a request that was sent without a reservation.
    pub(crate) fn reserve_anyway(
        self: &Arc<Self>,
        target: &Arc<Target>,
        demand: &Demand,
    ) -> Result<Option<HeldReservation>, StoreError> {
        let lanes = target.lanes();
        let now = self.now();
        let mut taken = None;
        let mut has_moved = false;
        self.store.update(&lanes.ids, &mut |ledgers| {
            has_moved = !target.has_lanes(&lanes);
            if has_moved {
                return;
            }
            conform(ledgers, &lanes, now);
            taken = reserve_anyway(ledgers, &lanes.lanes, demand, now);
        })?;
        if has_moved {
            return self.reserve_anyway(target, demand);
        }
        Ok(taken.map(|reservation| {
            HeldReservation::new(self, target, lanes, reservation, self.user(None))
        }))
    }

    fn tell_decision(&self, target: &Target, reservation: &Reservation, candidates: String) {
        let key = target.vendor.keys[reservation.lane].label.clone();
        let target = target.name.clone();
        self.notice(&Notice::Decision { target, key, candidates });
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

impl HeldReservation {
    fn new(
        dispatch: &Arc<Dispatch>,
        target: &Arc<Target>,
        lanes: Arc<Lanes>,
        reservation: Reservation,
        user: Arc<User>,
    ) -> Self {
        let (dispatch, target) = (dispatch.clone(), target.clone());
        HeldReservation {
            dispatch,
            target,
            lanes,
            user,
            reservation,
            paid: None,
            probes: false,
            bill: None,
            left: false,
            so_far: None,
            over: false,
        }
    }

    /// The place of its key.
    pub(crate) fn key(&self) -> usize {
        self.lanes.lanes[self.reservation.lane].key
    }

    /// The user on whose behalf it is held.
    pub(crate) fn user(&self) -> &User {
        &self.user
    }

    /// The limits that its lane was configured with, ledger by ledger.
    pub(crate) fn limits(&self) -> impl Iterator<Item = &crate::kernel::Configured> {
        self.lanes.alone[self.reservation.lane].configured.iter()
    }

    /// From now on the provider may have seen it.
    pub(crate) fn leaves(&mut self) {
        self.left = true;
    }

    /// An answer is arriving and has used this much: what stays counted if the rest is not read.
    pub(crate) fn used_so_far(&mut self, used: Usage) {
        self.so_far = Some(used);
    }

    /// What the answer used so far, if one is arriving.
    pub(crate) fn taken_so_far(&self) -> Option<Usage> {
        self.so_far
    }

    /// Records the limits in the head of its answer, before the rest has arrived.
    pub(crate) fn observe_headers(&self, hints: &Hints) -> Result<(), StoreError> {
        if hints.rates.is_empty() {
            return Ok(());
        }
        self.note_what_is_counted(hints);
        let lanes = &self.lanes.alone[self.reservation.lane];
        let now = self.dispatch.now();
        self.dispatch.store.update(&lanes.ids, &mut |ledgers| {
            conform(ledgers, lanes, now);
            observe_headers(ledgers, &lanes.lanes[0], &self.reservation, &hints.rates, now);
        })
    }

    fn note_what_is_counted(&self, hints: &Hints) {
        if hints.rates.iter().any(|rate| rate.resource.is_of_prompts()) {
            self.target.counts_tokens.store(true, Ordering::Relaxed);
        }
    }

    /// What counts against limits of this usage. `body` is the whole answer, or empty.
    pub(crate) fn billed(&self, usage: &Usage, body: &[u8]) -> Amounts {
        self.dispatch.billed(self, usage, body)
    }

    /// Its ending if it is cut off now.
    pub(crate) fn cut_off(&self) -> Ending {
        match (self.left, self.so_far) {
            (false, _) => Ending::NeverSent,
            (true, Some(used)) => Ending::CutOff(self.billed(&used, b"")),
            (true, None) => Ending::Unknown,
        }
    }

    /// Settles the reservation. Returns what that changed.
    pub(crate) fn settle(
        mut self,
        ending: Ending,
        hints: &Hints,
        failure: Option<&crate::kernel::Failure>,
    ) -> Result<Change, StoreError> {
        self.note_what_is_counted(hints);
        let entropy = if failure.is_some() { self.dispatch.world.entropy.draw() } else { 0.0 };
        let bill = self.bill;
        self.end(Outcome { ending, bill, rates: &hints.rates, failure, entropy })
    }

    fn end(&mut self, outcome: Outcome<'_>) -> Result<Change, StoreError> {
        self.over = true;
        match outcome.ending {
            _ if outcome.failure.is_some() => {
                self.target.breaker.lock().record(outcome.failure, self.dispatch.now());
            }
            Ending::Answered(_) => self.target.breaker.lock().record(None, self.dispatch.now()),
            _ if self.probes => self.target.breaker.lock().abandon(),
            _ => {}
        }
        let now = self.dispatch.now();
        let mut change = Change::default();
        let written = loop {
            let (written, has_moved) = self.write(&outcome, &mut change, now);
            if !has_moved {
                break written;
            }
        };
        if let Some(paid) = self.paid.take() {
            let used = outcome.ending.used(&self.reservation.amounts);
            self.target.line.lock().settle(*paid, &used);
        }
        // Written or not: it is no longer in flight, so waiting calls may try again.
        self.target.vendor.bring_back(&self.user);
        self.target.vendor.wake_lines();
        written.map(|()| change)
    }

    /// Settles it in the ledgers of the group its key is in now. Returns whether the key moved, so that nothing was
    /// written.
    fn write(
        &self,
        outcome: &Outcome<'_>,
        change: &mut Change,
        now: Moment,
    ) -> (Result<(), StoreError>, bool) {
        let place = self.reservation.lane;
        let taken_from = &self.lanes.alone[place].lanes[0];
        // What a key took while it was alone has moved with it to its group; what it took in a group stays there.
        let follows = taken_from.group == taken_from.key_alone;
        let current = if follows { self.target.lanes() } else { self.lanes.clone() };
        let lanes = &current.alone[place];
        let mut has_moved = false;
        let written =
            self.dispatch.store.update(&with_own(&lanes.ids, &self.user), &mut |ledgers| {
                has_moved = follows && !self.target.has_lanes(&current);
                if has_moved {
                    return;
                }
                conform(ledgers, lanes, now);
                let mut held = self.reservation;
                held.user = conform_user(ledgers, lanes, &self.user, now);
                *change = settle(ledgers, &lanes.lanes[0], &held, *outcome, now);
            });
        (written, has_moved)
    }
}

impl Drop for HeldReservation {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let ending = self.cut_off();
        let outcome = Outcome { ending, bill: None, rates: &[], failure: None, entropy: 0.0 };
        // An error of the store cannot be reported here; what stays counted is on the safe side.
        let _ = self.end(outcome);
    }
}
