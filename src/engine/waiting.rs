//! Who waits before a target, and who lets them in?
//!
//! One task per line that has somebody in it asks for a lane on behalf of whoever is next, and sleeps until the instant
//! the kernel named or until something changed. So nobody overtakes, and a thousand waiters cost one timer.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Engine;
use super::booking::{Booked, Held};
use super::gauge::{Watch, named};
use super::roster::{Target, Vendor};
use crate::kernel::{Need, Obstacle, Origin, Patience, Refusal, Ticket, WaitingLine};
use crate::stores::StoreError;

/// The line before one target.
#[derive(Debug)]
pub(crate) struct Line {
    waiters: WaitingLine<Waiter>,
    served: bool,
}

#[derive(Debug)]
struct Waiter {
    need: Need,
    barred: Arc<[usize]>,
    patience: Patience,
    watch: Option<Arc<Watch>>,
    reply: oneshot::Sender<Waited>,
}

/// Where in the line a call belongs: its priority, and whether it had its turn before.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rank {
    New(u8),
    Again(u8),
}

/// How waiting ended.
#[derive(Debug)]
pub(crate) enum Waited {
    Reserved(Held),
    /// At the head of the line it turned out to be too far away.
    NotNow(Refusal),
    Never(Option<Refusal>),
    StateFailed(StoreError),
    LineFull,
    Closed,
}

impl Line {
    pub(crate) fn new(most: usize) -> Self {
        Line { waiters: WaitingLine::new(most), served: false }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiters.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Sends everybody home.
    pub(crate) fn close(&mut self) {
        while let Some(waiter) =
            self.waiters.next_ticket().and_then(|next| self.waiters.serve(next))
        {
            // Whoever has stopped listening has left already.
            let _ = waiter.reply.send(Waited::Closed);
        }
    }
}

/// Leaves the line when the call is dropped while it waits.
struct Place<'a> {
    target: &'a Target,
    ticket: Ticket,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.target.line.lock().waiters.leave(self.ticket).is_some() {
            self.target.changed.notify_one();
        }
    }
}

/// A block that was guessed, or is being probed, may be lifted by another process that tells nobody.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// After so many admissions in a row the line lets other tasks run.
const BREATHE_EVERY: u32 = 32;

impl Engine {
    /// Waits for a lane of `target` behind everybody who came before.
    pub(crate) async fn wait_in_line(
        self: &Arc<Self>,
        target: &Arc<Target>,
        rank: Rank,
        need: Need,
        barred: Vec<usize>,
        patience: Patience,
        watch: Option<Arc<Watch>>,
    ) -> Waited {
        let (reply, ended) = oneshot::channel();
        let waiter = Waiter { need, barred: barred.into(), patience, watch, reply };
        let ticket = {
            let mut line = target.line.lock();
            if self.is_closed() {
                return Waited::Closed;
            }
            let joined = match rank {
                Rank::New(priority) => line.waiters.join(priority, waiter),
                Rank::Again(priority) => line.waiters.rejoin(priority, waiter),
            };
            let Ok(ticket) = joined else { return Waited::LineFull };
            if !std::mem::replace(&mut line.served, true) {
                tokio::spawn(serve(self.clone(), target.clone()));
            }
            ticket
        };
        target.changed.notify_one();
        let _place = Place { target, ticket };
        ended.await.unwrap_or(Waited::Closed)
    }

    /// Something was given back or opened: whoever is next may try.
    pub(crate) fn wake_lines(&self, vendor: &Vendor) {
        for target in vendor.waited_for() {
            target.changed.notify_one();
        }
    }
}

async fn serve(engine: Arc<Engine>, target: Arc<Target>) {
    let mut admitted: u32 = 0;
    loop {
        let next = {
            let mut line = target.line.lock();
            let next = line.waiters.next_ticket();
            match next.and_then(|ticket| Some((ticket, line.waiters.head()?))) {
                Some((ticket, head)) => {
                    (ticket, head.need, head.barred.clone(), head.patience, head.watch.clone())
                }
                None => {
                    line.served = false;
                    return;
                }
            }
        };
        let (ticket, need, barred, patience, watch) = next;
        let outcome = match engine.try_reserve(&target, &need, &barred) {
            Ok(Booked::Reserved(held)) => Waited::Reserved(held),
            Ok(Booked::Never(refusal)) => Waited::Never(refusal),
            Err(error) => Waited::StateFailed(error),
            Ok(Booked::NotNow(refusal)) => {
                let now = engine.clock.now();
                if refusal.is_kept() && admit_urgent(&engine, &target) {
                    continue;
                }
                if refusal.at.is_none_or(|at| patience.covers(at, now)) {
                    if let Some(watch) = watch {
                        watch.is_held_up_by(named(&refusal.obstacle, &target.name), now);
                    }
                    rest(&engine, &target, &refusal).await;
                    continue;
                }
                Waited::NotNow(refusal)
            }
        };
        let waiter = target.line.lock().waiters.serve(ticket);
        if let Some(waiter) = waiter {
            // A call that was dropped meanwhile gives its lane back by dropping what is sent to it.
            let _ = waiter.reply.send(outcome);
        }
        admitted += 1;
        if admitted.is_multiple_of(BREATHE_EVERY) {
            tokio::task::yield_now().await;
        }
    }
}

/// What stands in the way of the one whose turn it is is kept for those who matter more: the most urgent one may go
/// before it. Says whether it did.
fn admit_urgent(engine: &Arc<Engine>, target: &Arc<Target>) -> bool {
    let urgent = {
        let line = target.line.lock();
        line.waiters.urgent().map(|(ticket, who)| (ticket, who.need, who.barred.clone()))
    };
    let Some((ticket, need, barred)) = urgent else { return false };
    let Ok(Booked::Reserved(held)) = engine.try_reserve(target, &need, &barred) else {
        return false;
    };
    if let Some(waiter) = target.line.lock().waiters.leave(ticket) {
        let _ = waiter.reply.send(Waited::Reserved(held));
    }
    true
}

async fn rest(engine: &Engine, target: &Target, refusal: &Refusal) {
    let unsure = match &refusal.obstacle {
        Obstacle::Block(block) => block.origin == Origin::Guess,
        _ => false,
    };
    // While one lane waits for a call to end, another one may open.
    let soon = engine.clock.now() + LOOK_AGAIN;
    let at = match refusal.at {
        Some(at) if unsure => at.min(soon),
        Some(at) => at,
        None => soon,
    };
    tokio::select! {
        biased;
        () = target.changed.notified() => {}
        () = engine.clock.sleep_until(at) => {}
    }
}
