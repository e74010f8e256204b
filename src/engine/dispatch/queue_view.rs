//! The queue as users see it: waiting calls with position, obstacle and ETA.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::backoff::A_PAUSE;
use super::lanes::conform;
use super::types::{Dispatch, Target};
use super::users::User;
use crate::error::Error;
use crate::kernel::{
    Amounts, Ledger, LedgerId, Ledgers, Moment, Obstacle, Standing, eta, user_eta,
};
use crate::stores::StoreError;

/// One call that waits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Queued {
    /// The provider it waits for.
    pub provider: String,
    /// The model; `None` when it named none.
    pub model: Option<String>,
    /// 0 to 9, higher goes first.
    pub priority: u8,
    /// The user on whose behalf; `None`: no user.
    pub user: Option<String>,
    /// Its place in the line of its target, from 1; calls that pause after a failure come last.
    pub position: usize,
    /// For how many seconds it has waited in this line.
    pub waited: f64,
    /// In how many seconds its turn comes or its pause is over, if no call joins or leaves; `None` when that is
    /// unknown.
    pub eta: Option<f64>,
    /// How many tokens it will take, estimated.
    pub tokens: u64,
    /// Which limit or block it waits for, or a pause after a failure; `None` when that is not known yet.
    pub obstacle: Option<String>,
}

/// How many places of a longer line are estimated; those between are interpolated.
const ESTIMATED: usize = 128;
/// How many users with limits of their own are estimated, the first in line first.
const USERS_ESTIMATED: usize = 256;

/// The calls of one user with limits of their own: their places among those listed, and what they need together up to
/// each of them.
#[derive(Default)]
struct OwnLine {
    places: Vec<usize>,
    ahead: Vec<Amounts>,
}

/// Users with limits of their own, by the name of their ledger.
type OwnLines = BTreeMap<LedgerId, (Arc<User>, OwnLine)>;

/// A call at a place of the line of a target, without its wait and its ETA.
fn queued(target: &Target, priority: u8, user: &str, size: &Amounts, position: usize) -> Queued {
    Queued {
        provider: target.vendor.provider.name.clone(),
        model: (target.model != "*").then(|| target.model.clone()),
        priority,
        user: (!user.is_empty()).then(|| user.to_owned()),
        position,
        waited: 0.0,
        eta: None,
        tokens: size.input_tokens.saturating_add(size.output_tokens),
        obstacle: None,
    }
}

/// Lists the pausing calls after those of the line, which begins at `began`.
fn list_resting(target: &Target, began: usize, all: &mut Vec<Queued>, now: Moment) {
    for (until, sleeper) in target.resting.lock().in_order() {
        let position = all.len() - began + 1;
        let one = queued(target, sleeper.priority, &sleeper.user.name, &sleeper.size, position);
        all.push(Queued {
            waited: now.since(sleeper.since).as_secs_f64(),
            eta: Some(until.since(now).as_secs_f64()),
            obstacle: Some(A_PAUSE.to_owned()),
            ..one
        });
    }
}

impl Dispatch {
    /// All waiting calls, by target, in the order in which they will be served. Then the calls that pause.
    pub(in crate::engine) fn queue(&self) -> Result<Vec<Queued>, StoreError> {
        let now = self.now();
        let mut all = Vec::new();
        for vendor in self.known_vendors() {
            for target in vendor.known_targets() {
                let began = all.len();
                self.list(&target, &mut all, now)?;
                list_resting(&target, began, &mut all, now);
            }
        }
        Ok(all)
    }

    /// Cancels waiting and pausing calls: those of one provider, of a priority below `below`, or all. Returns how many.
    pub(in crate::engine) fn clear_queue(
        &self,
        provider: Option<&str>,
        below: Option<u8>,
    ) -> Result<usize, Error> {
        let vendors = match provider {
            Some(name) => vec![self.vendor(name)?],
            None => self.known_vendors(),
        };
        let targets = vendors.iter().flat_map(|vendor| vendor.known_targets());
        Ok(targets
            .map(|target| {
                let cleared = target.line.lock().clear(below);
                target.changed.notify_one();
                cleared + target.resting.lock().clear(below)
            })
            .sum())
    }

    fn list(
        &self,
        target: &Arc<Target>,
        all: &mut Vec<Queued>,
        now: Moment,
    ) -> Result<(), StoreError> {
        let began = all.len();
        let mut ahead = Vec::new();
        let mut sum = Amounts::default();
        let mut own_ends = Vec::new();
        let mut own_lines = OwnLines::new();
        let in_the_way;
        {
            let line = target.line.lock();
            in_the_way = line.in_the_way().cloned();
            let words = in_the_way.as_ref().map(|refusal| refusal.obstacle.to_string());
            for (place, (standing, waiter)) in line.in_order().enumerate() {
                sum = sum.plus(&standing.size);
                ahead.push(sum);
                let own = line.user_limit(&standing.tenant, now);
                own_ends.push(own.and_then(Obstacle::until));
                let own = own.map(|own| format!("of its user: {own}"));
                count_own(&mut own_lines, waiter.user(), place, &standing.size);
                let Standing { priority, tenant, size, .. } = standing;
                let waited = now.since(waiter.since).as_secs_f64();
                let obstacle = own.or_else(|| words.clone());
                let one = queued(target, *priority, tenant, size, place + 1);
                all.push(Queued { waited, obstacle, ..one });
            }
        }
        if ahead.is_empty() {
            return Ok(());
        }
        let is_unknown = in_the_way.as_ref().is_some_and(|refusal| refusal.at.is_none());
        let first = in_the_way.and_then(|refusal| {
            let at = refusal.at?;
            let soon = target.usual_latency().filter(|_| refusal.may_return);
            Some(soon.map_or(at, |latency| at.min(now + latency)))
        });
        let estimates =
            if is_unknown { vec![None; ahead.len()] } else { self.estimates(target, &ahead, now)? };
        self.own_estimates(own_lines, &mut own_ends, now)?;
        for ((queued, estimate), own) in all[began..].iter_mut().zip(estimates).zip(own_ends) {
            let at = estimate.map(|at| at.max(first.unwrap_or(at)));
            let at = own.map(|own| at.map_or(own, |at| at.max(own))).or(at);
            queued.eta = at.map(|at| at.since(now).as_secs_f64());
        }
        Ok(())
    }

    /// When these amounts can have gone through, for each of a growing series.
    fn estimates(
        &self,
        target: &Target,
        ahead: &[Amounts],
        now: Moment,
    ) -> Result<Vec<Option<Moment>>, StoreError> {
        let lanes = target.lanes();
        let mut copies: Vec<Ledger> = Vec::new();
        self.store.update(&lanes.ids, &mut |ledgers| {
            conform(ledgers, &lanes, now);
            copies = (0..ledgers.len()).map(|place| ledgers.get(place).clone()).collect();
        })?;
        // The store is not locked while this is worked out.
        let places: Vec<usize> = (0..copies.len()).collect();
        let ledgers = Ledgers::new(&mut copies, &places);
        let of = |ahead: &Amounts| eta(&ledgers, &lanes.lanes, &[], ahead, now);
        Ok(series(ahead, ahead.len().div_ceil(ESTIMATED), of))
    }

    /// Moves the ETA of calls of users with limits of their own to when these limits let through what goes before each
    /// call.
    fn own_estimates(
        &self,
        lines: OwnLines,
        ends: &mut [Option<Moment>],
        now: Moment,
    ) -> Result<(), StoreError> {
        if lines.is_empty() {
            return Ok(());
        }
        let ids: Vec<LedgerId> = lines.keys().cloned().collect();
        let mut copies: Vec<Ledger> = Vec::new();
        self.store.update(&ids, &mut |ledgers| {
            for (place, (user, _)) in lines.values().enumerate() {
                if let Some(own) = &user.own {
                    ledgers.get_mut(place).conform(&own.limits, now);
                }
            }
            copies = (0..ledgers.len()).map(|place| ledgers.get(place).clone()).collect();
        })?;
        let stride = ends.len().div_ceil(ESTIMATED);
        for ((_, line), ledger) in lines.into_values().zip(&copies) {
            let of = |ahead: &Amounts| match user_eta(ledger, ahead, now) {
                Some((_, at)) => at,
                None => Some(now),
            };
            for (place, at) in line.places.iter().zip(series(&line.ahead, stride, of)) {
                let end = &mut ends[*place];
                // Beyond the horizon, it is at least as far as the known end.
                let at = at.filter(|at| *at > now);
                *end = at.map(|at| end.map_or(at, |end| end.max(at))).or(*end);
            }
        }
        Ok(())
    }
}

fn count_own(lines: &mut OwnLines, user: &Arc<User>, place: usize, size: &Amounts) {
    let Some(own) = &user.own else { return };
    if lines.len() >= USERS_ESTIMATED && !lines.contains_key(&own.id) {
        return;
    }
    let (_, line) =
        lines.entry(own.id.clone()).or_insert_with(|| (user.clone(), OwnLine::default()));
    line.places.push(place);
    line.ahead.push(line.ahead.last().map_or(*size, |before| before.plus(size)));
}

/// The estimates `of` a growing series: each `stride`th is worked out, those between are interpolated.
fn series(
    ahead: &[Amounts],
    stride: usize,
    of: impl Fn(&Amounts) -> Option<Moment>,
) -> Vec<Option<Moment>> {
    let Some(first) = ahead.first() else { return Vec::new() };
    let mut estimates = Vec::with_capacity(ahead.len());
    let mut before = of(first);
    estimates.push(before);
    for start in (0..ahead.len() - 1).step_by(stride.max(1)) {
        let end = (start + stride.max(1)).min(ahead.len() - 1);
        let after = of(&ahead[end]);
        for place in start + 1..=end {
            estimates.push(match (before, after) {
                (Some(before), Some(after)) => {
                    let share = (place - start) as f64 / (end - start) as f64;
                    Some(before + after.since(before).mul_f64(share))
                }
                _ => None,
            });
        }
        before = after;
    }
    estimates
}
