//! The task that serves the waiting line of one target.
//!
//! A call that cannot have a lane, or that finds others waiting, joins the line of its target. While a line is not
//! empty, one task serves it. It asks for a lane for the head. Then it sleeps until the instant that the kernel
//! named, or until something changes (`Target::changed`). A thousand waiting calls cost one timer, and no call
//! overtakes another.
//!
//! A call that pauses after a failure stands in no line and holds nothing (`backoff.rs`). `queue()` lists it after
//! the waiting calls. `clear_queue()` ends its pause and the call.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::oneshot;

use super::gauge::{Watch, named};
use super::lanes::{conform, with_own};
use super::reservation::ReserveResult;
use super::types::{Dispatch, HeldReservation, Line, Target, Vendor, Waited, Waiter};
use super::users::User;
use crate::kernel::{
    Amounts, Demand, Late, Ledger, Moment, Obstacle, Origin, Paid, Patience, Refusal, Standing,
    Ticket, WaitingLine, eta, user_eta,
};
use crate::stores::StoreError;

/// A call that joins a line.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) demand: Demand,
    /// Lanes it must not use.
    pub(crate) excluded: Vec<usize>,
    pub(crate) patience: Patience,
    /// Whether it waits for what calls in flight may give back, although quota is known to come too late.
    pub(crate) may_wait_for_refund: bool,
    pub(crate) user: Arc<User>,
    /// Records what it waits for.
    pub(crate) watch: Option<Arc<Watch>>,
}

/// Where in the line a call belongs: its priority, whether it had its turn before, or whether it goes before all
/// others because it waits for no limit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rank {
    New(u8),
    Again(u8),
    Ahead(u8),
}

impl Line {
    pub(crate) fn new(most: usize) -> Self {
        let waiters = WaitingLine::new(most);
        Line { waiters, served: false, in_the_way: None, user_limits: BTreeMap::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiters.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// What is served before a call that would join now.
    pub(in crate::engine) fn ahead_of(&self, standing: &Standing) -> Amounts {
        self.waiters.ahead_of(standing)
    }

    /// Cancels all waiting calls.
    pub(crate) fn close(&mut self) {
        for waiter in self.waiters.clear(None) {
            // A call that no longer listens has left already.
            let _ = waiter.reply.send(Waited::Closed.into());
        }
    }

    /// Cancels the calls of a priority below `below`, all of them when it is `None`. Returns how many.
    pub(in crate::engine) fn clear(&mut self, below: Option<u8>) -> usize {
        let gone = self.waiters.clear(below);
        gone.into_iter().filter_map(|waiter| waiter.reply.send(Waited::Cleared.into()).ok()).count()
    }

    /// Corrects the share of a user by what an admitted call used.
    pub(in crate::engine) fn settle(&mut self, paid: Paid, used: &Amounts) {
        self.waiters.settle(paid, used);
    }

    /// All waiting calls in the order in which they will be served.
    pub(in crate::engine) fn in_order(&self) -> impl Iterator<Item = (&Standing, &Waiter)> {
        self.waiters.in_order().into_iter().map(|(_, standing, waiter)| (standing, waiter))
    }

    /// What stood in the way of the head when it was last tried.
    pub(in crate::engine) fn in_the_way(&self) -> Option<&Refusal> {
        self.in_the_way.as_ref()
    }

    /// The limit of the user's own that holds its calls up.
    pub(in crate::engine) fn user_limit(&self, user: &str, now: Moment) -> Option<&Obstacle> {
        self.user_limits.get(user).filter(|own| own.until().is_some_and(|until| until > now))
    }

    /// Sets a call aside whose user is held up by a limit of its own, so that calls of other users do not wait for it.
    fn set_aside(
        &mut self,
        ticket: Ticket,
        user: &User,
        obstacle: Obstacle,
        until: Moment,
        now: Moment,
    ) {
        // What was reserved may be given back before that.
        let crowd = 1 + self.waiters.set_aside_count() / LOOKED_AT_A_SECOND;
        let soon = now + LOOK_AGAIN.saturating_mul(u32::try_from(crowd).unwrap_or(u32::MAX));
        self.waiters.set_aside(ticket, until.min(soon));
        self.user_limits.retain(|_, own| own.until().is_some_and(|until| until > now));
        self.user_limits.insert(user.name.clone(), obstacle);
    }
}

/// A place in a line. Dropped with the call that waits, it leaves the line.
pub(crate) struct Place {
    target: Arc<Target>,
    ticket: Ticket,
    ended: oneshot::Receiver<Box<Waited>>,
}

impl Place {
    /// Waits for the outcome.
    pub(crate) async fn ends(&mut self) -> Waited {
        (&mut self.ended).await.map_or(Waited::Closed, |waited| *waited)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.target.line.lock().waiters.leave(self.ticket).is_some() {
            self.target.changed.notify_one();
        }
    }
}

/// A block that was guessed, or is being probed, may be lifted by another process without notice.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// After so many admissions in a row the line lets other tasks run.
const BREATHE_EVERY: u32 = 32;
/// How many calls that are set aside are tried again in a second.
const LOOKED_AT_A_SECOND: usize = 64;

impl Dispatch {
    /// Joins the line of `target`; or returns at once why waiting is no use.
    pub(crate) fn stand_in_line(
        self: &Arc<Self>,
        target: &Arc<Target>,
        rank: Rank,
        newcomer: Newcomer,
    ) -> Result<Place, Box<Waited>> {
        let Newcomer { demand, excluded, patience, may_wait_for_refund, user, watch } = newcomer;
        let (Rank::New(priority) | Rank::Again(priority) | Rank::Ahead(priority)) = rank;
        let tenant = user.name.clone();
        let standing = Standing { priority, tenant, weight: user.weight, size: demand.size() };
        match self.too_late(target, rank, &standing, &demand, &excluded, patience, &user) {
            Ok(None) => {}
            Ok(Some(ended)) => return Err(ended.into()),
            Err(error) => return Err(Waited::StateFailed(error).into()),
        }
        let (reply, ended) = oneshot::channel();
        let since = self.now();
        let (excluded, waiting_for_refund_since) = (excluded.into(), OnceLock::new());
        let waiter = Waiter {
            demand,
            excluded,
            patience,
            may_wait_for_refund,
            user,
            since,
            waiting_for_refund_since,
            watch,
            reply,
        };
        let ticket = {
            let mut line = target.line.lock();
            if self.is_closed() {
                return Err(Waited::Closed.into());
            }
            let joined = match rank {
                Rank::New(_) => line.waiters.join(standing, waiter),
                Rank::Again(_) => line.waiters.rejoin(standing, waiter),
                Rank::Ahead(_) => line.waiters.join_ahead(standing, waiter),
            };
            let Ok(ticket) = joined else { return Err(Waited::LineFull.into()) };
            if !std::mem::replace(&mut line.served, true) {
                tokio::spawn(serve(self.clone(), target.clone()));
            }
            ticket
        };
        target.changed.notify_one();
        Ok(Place { target: target.clone(), ticket, ended })
    }

    /// How waiting ends at once for a call whose turn cannot come in time, because too many calls go before it.
    #[expect(clippy::too_many_arguments, reason = "all of what is known of a newcomer")]
    fn too_late(
        &self,
        target: &Target,
        rank: Rank,
        standing: &Standing,
        demand: &Demand,
        excluded: &[usize],
        patience: Patience,
        user: &User,
    ) -> Result<Option<Waited>, StoreError> {
        let (Rank::New(_), Patience::Until(end)) = (rank, patience) else { return Ok(None) };
        let (ahead, own_ahead) = {
            let line = target.line.lock();
            (line.waiters.ahead_of(standing), line.waiters.ahead_of_tenant(standing))
        };
        let is_own_concern = user.own.is_some() && own_ahead.requests > 0;
        if ahead.requests == 0 && !is_own_concern {
            return Ok(None);
        }
        // Estimates may be too large, and what is reserved for answers comes back when they are short.
        let through = |ahead: &Amounts| Amounts {
            requests: ahead.requests + 1,
            input_tokens: (ahead.input_tokens + demand.input_tokens) / 2,
            output_tokens: 0,
            spend: 0,
        };
        let lanes = target.lanes();
        let now = self.now();
        let (mut at, mut held_up) = (None, None);
        self.store.update(&with_own(&lanes.ids, user), &mut |ledgers| {
            conform(ledgers, &lanes, now);
            at = eta(ledgers, &lanes.lanes, excluded, &through(&ahead), now);
            if let Some(own) = user.own.as_ref().filter(|_| is_own_concern) {
                let place = lanes.ids.len();
                ledgers.get_mut(place).conform(&own.limits, now);
                held_up =
                    user_refusal(ledgers.get(place), &through(&own_ahead), own_ahead.requests, now);
            }
        })?;
        if let Some(refusal) = held_up.filter(|refusal| refusal.at.is_some_and(|at| at > end)) {
            return Ok(Some(Waited::NotNow(refusal)));
        }
        let in_time = at.is_some_and(|at| at <= end);
        let is_late = ahead.requests > 0 && !in_time;
        Ok(is_late.then_some(Waited::TooLate(Late { ahead: ahead.requests, at })))
    }
}

impl Vendor {
    /// Something was given back or opened: the heads of its lines may try again.
    pub(in crate::engine) fn wake_lines(&self) {
        for target in self.waited_for() {
            target.changed.notify_one();
        }
    }

    /// A call of `user` gave back what it did not need of that user's own limits: calls that are set aside for these
    /// may try again at once.
    pub(super) fn bring_back(&self, user: &User) {
        if user.own.is_none() {
            return;
        }
        for target in self.waited_for() {
            target.line.lock().waiters.bring_back_tenant(&user.name);
        }
    }
}

/// The limit of its user that decides when it is the turn of a call behind `ahead` others of theirs.
fn user_refusal(ledger: &Ledger, through: &Amounts, ahead: u64, now: Moment) -> Option<Refusal> {
    let (limit, at) = user_eta(ledger, through, now)?;
    let until = at.unwrap_or(Moment::FAR_FUTURE);
    let obstacle = Obstacle::Limit { limit, until, is_kept: false };
    let used = ledger.used_of(&obstacle, now);
    Some(Refusal::by_user(obstacle, used, ahead, false))
}

/// Whose turn it is.
enum Turn {
    Of(Ticket, Asking),
    /// All waiting calls are held up by limits of their users, until then.
    AllAside(Option<Moment>),
    Over,
}

/// What is asked for on behalf of a waiting call.
#[derive(Clone)]
struct Asking {
    demand: Demand,
    excluded: Arc<[usize]>,
    patience: Patience,
    may_wait_for_refund: bool,
    user: Arc<User>,
    watch: Option<Arc<Watch>>,
}

impl Waiter {
    /// The user on whose behalf it waits.
    pub(in crate::engine) fn user(&self) -> &Arc<User> {
        &self.user
    }

    fn asking(&self) -> Asking {
        let (demand, patience, may_wait_for_refund) =
            (self.demand, self.patience, self.may_wait_for_refund);
        let (user, watch) = (self.user.clone(), self.watch.clone());
        Asking {
            demand,
            excluded: self.excluded.clone(),
            patience,
            may_wait_for_refund,
            user,
            watch,
        }
    }
}

impl Line {
    /// Until when the one with `ticket` waits for what calls in flight may give back.
    fn refund_deadline(&self, ticket: Ticket, patience: Patience, now: Moment) -> Moment {
        let waiter = self.waiters.get(ticket);
        let since =
            waiter.map_or(now, |waiter| *waiter.waiting_for_refund_since.get_or_init(|| now));
        match patience {
            Patience::Until(end) => end,
            Patience::AtHead(span) => since + span,
        }
    }

    fn turn(&mut self, now: Moment) -> Turn {
        self.waiters.bring_back(now);
        let next = self.waiters.next_ticket();
        match next.and_then(|ticket| Some((ticket, self.waiters.get(ticket)?.asking()))) {
            Some((ticket, mut asking)) => {
                if self.waiters.takes_what_is_kept() {
                    asking.demand.kept = 0;
                }
                Turn::Of(ticket, asking)
            }
            None if self.waiters.is_empty() => {
                self.served = false;
                self.in_the_way = None;
                Turn::Over
            }
            None => Turn::AllAside(self.waiters.next_back()),
        }
    }
}

async fn serve(dispatch: Arc<Dispatch>, target: Arc<Target>) {
    let mut admitted: u32 = 0;
    loop {
        let turn = target.line.lock().turn(dispatch.now());
        let (ticket, head) = match turn {
            Turn::Of(ticket, head) => (ticket, head),
            Turn::AllAside(until) => {
                rest(&dispatch, &target, None, until).await;
                continue;
            }
            Turn::Over => return,
        };
        let mut outcome =
            match dispatch.try_reserve(&target, &head.demand, &head.excluded, &head.user) {
                Ok(ReserveResult::Reserved(held)) => Waited::Reserved(held),
                Ok(ReserveResult::NotNow(refusal) | ReserveResult::Never(Some(refusal)))
                    if refusal.is_by_user() =>
                {
                    held_up(&dispatch, &target, ticket, &head, refusal);
                    continue;
                }
                Ok(ReserveResult::Never(refusal)) => Waited::Never(refusal),
                Err(error) => Waited::StateFailed(error),
                Ok(ReserveResult::NotNow(refusal)) => {
                    let now = dispatch.now();
                    target.line.lock().in_the_way = Some(refusal.clone());
                    let mut also = None;
                    if !head.excluded.is_empty() {
                        match admit_elsewhere(&dispatch, &target, &head.excluded) {
                            Elsewhere::Admitted => continue,
                            Elsewhere::NotBefore(at) => also = at,
                        }
                    }
                    let in_time = refusal.is_worth_waiting(head.patience, now);
                    let may_wait_for_refund =
                        refusal.may_return && head.may_wait_for_refund && !in_time;
                    let refund_deadline = may_wait_for_refund
                        .then(|| target.line.lock().refund_deadline(ticket, head.patience, now));
                    if in_time
                        || refund_deadline.is_some_and(|refund_deadline| now < refund_deadline)
                    {
                        if let Some(watch) = &head.watch {
                            watch.is_held_up_by(named(&refusal, &target.name), now);
                        }
                        rest(
                            &dispatch,
                            &target,
                            Some(&refusal),
                            also.into_iter().chain(refund_deadline).min(),
                        )
                        .await;
                        continue;
                    }
                    Waited::NotNow(refusal)
                }
            };
        let waiter = {
            let mut line = target.line.lock();
            match &mut outcome {
                Waited::Reserved(held) => {
                    line.in_the_way = None;
                    line.waiters.serve(ticket).map(|(waiter, paid)| {
                        held.paid = paid.map(Box::new);
                        waiter
                    })
                }
                _ => line.waiters.leave(ticket),
            }
        };
        if let Some(waiter) = waiter {
            // If the call was dropped, dropping its outcome gives the lane back.
            let _ = waiter.reply.send(outcome.into());
        }
        admitted += 1;
        if admitted.is_multiple_of(BREATHE_EVERY) {
            tokio::task::yield_now().await;
        }
    }
}

/// A limit of its user refuses a call: it waits aside, or ends if it cannot wait so long.
fn held_up(
    dispatch: &Dispatch,
    target: &Target,
    ticket: Ticket,
    asking: &Asking,
    refusal: Refusal,
) {
    let now = dispatch.now();
    if let Some(watch) = &asking.watch {
        watch.is_held_up_by(named(&refusal, &target.name), now);
    }
    let mut line = target.line.lock();
    let refund_deadline =
        refusal.may_return.then(|| line.refund_deadline(ticket, asking.patience, now));
    let refund_deadline = refund_deadline.filter(|refund_deadline| now < *refund_deadline);
    let in_time = refusal.at.filter(|_| refusal.is_worth_waiting(asking.patience, now));
    match in_time.or(refund_deadline) {
        Some(until) => line.set_aside(ticket, &asking.user, refusal.obstacle, until, now),
        None => {
            if let Some(waiter) = line.waiters.leave(ticket) {
                let _ = waiter.reply.send(Waited::NotNow(refusal).into());
            }
        }
    }
}

/// The outcome of admitting another call to lanes that are excluded for the head.
enum Elsewhere {
    Admitted,
    /// When to try again.
    NotBefore(Option<Moment>),
}

/// Lanes that failed the head are excluded for it. The first call that had no turn yet may take one of them, and only
/// of them, so that it takes nothing from the head.
fn admit_elsewhere(
    dispatch: &Arc<Dispatch>,
    target: &Arc<Target>,
    closed_to_head: &[usize],
) -> Elsewhere {
    let first = {
        let line = target.line.lock();
        line.waiters.first_of_the_new().map(|(ticket, who)| (ticket, who.asking()))
    };
    let Some((ticket, asking)) = first else { return Elsewhere::NotBefore(None) };
    let lanes = target.lanes().lanes.len();
    let excluded: Vec<usize> = (0..lanes)
        .filter(|lane| !closed_to_head.contains(lane) || asking.excluded.contains(lane))
        .collect();
    match dispatch.try_reserve(target, &asking.demand, &excluded, &asking.user) {
        Ok(ReserveResult::Reserved(held)) => admit(target, ticket, held),
        Ok(ReserveResult::NotNow(refusal) | ReserveResult::Never(Some(refusal)))
            if refusal.is_by_user() =>
        {
            held_up(dispatch, target, ticket, &asking, refusal)
        }
        Ok(ReserveResult::NotNow(refusal)) => return Elsewhere::NotBefore(refusal.at),
        _ => return Elsewhere::NotBefore(None),
    }
    Elsewhere::Admitted
}

/// Admits a call out of turn.
fn admit(target: &Target, ticket: Ticket, mut held: Box<HeldReservation>) {
    // The lock is not held while sending: an outcome without a listener is dropped, and that settles with the line.
    let served = target.line.lock().waiters.serve_out_of_turn(ticket);
    if let Some((waiter, paid)) = served {
        held.paid = paid.map(Box::new);
        let _ = waiter.reply.send(Waited::Reserved(held).into());
    }
}

/// Sleeps until trying makes sense: when the obstacle ends, at `also`, when a call that was set aside comes back, or
/// when something changes.
async fn rest(
    dispatch: &Dispatch,
    target: &Target,
    refusal: Option<&Refusal>,
    also: Option<Moment>,
) {
    // While one lane waits for a call to end, another one may open.
    let soon = dispatch.now() + LOOK_AGAIN;
    let at = refusal.map(|refusal| {
        let unsure = match &refusal.obstacle {
            Obstacle::Block(block) => block.origin == Origin::Guess,
            _ => false,
        };
        match refusal.at {
            Some(at) if unsure => at.min(soon),
            Some(at) => at,
            None => refusal.opens.map_or(soon, |at| at.min(soon)),
        }
    });
    let back = target.line.lock().waiters.next_back();
    let at = at.into_iter().chain(also).chain(back).min().unwrap_or(soon);
    tokio::select! {
        biased;
        () = target.changed.notified() => {}
        () = dispatch.world.clock.sleep_until(at) => {}
    }
}
