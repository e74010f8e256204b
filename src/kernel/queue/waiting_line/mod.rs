//! The waiting line of one target: by priority, fair between users, then FIFO.
//!
//! Higher priorities go first (0 to 9). Within one priority, calls go first that had a turn before and failed; then
//! users share by tokens and weight ([`fair_share`](super::fair_share)), each in order of arrival.
//!
//! Every tenth turn goes to the priority of the call that has waited longest. While a call of priority 5 or above
//! waits, that turn is put off, for ten more turns at most; then it takes what is kept for those as well. Calls that
//! wait for no limit stand before all others and take no turn. A call that a limit of its user holds up is set aside
//! and holds up no other.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::fair_share::{Payment, Shares};
use crate::kernel::amounts::Amounts;
use crate::kernel::moment::Moment;

/// A place in a waiting line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// The standing of a call that joins: its priority, tenant, weight and size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// 0 to 9, higher goes first.
    pub priority: u8,
    /// On whose behalf; those of one priority share by tenant. The empty name is a tenant like any other.
    pub tenant: Arc<str>,
    /// The tenant's weight, in thousandths; 1000 is the usual one.
    pub weight: u32,
    /// What it will need, estimated: its tokens are what its tenant pays with.
    pub size: Amounts,
}

/// Every tenth turn belongs to the priority of the call that waited longest: no call starves, and a long line of batch
/// calls still cannot hold up an urgent one for more than one turn.
const TURNS_BY_AGE: u64 = 10;
/// A call of this priority or above is probably interactive: a turn by age is put off for it, but not for ever.
const PERSONS: u8 = 5;
/// The last turn to which one by age is put off.
const PUT_OFF_TO: u64 = 2 * TURNS_BY_AGE;
/// Within its priority a turn by age is shared like any other; but a call that was passed by so many for each one in
/// line goes, whatever the weights and the tokens of the others are.
const PASSED_AT_MOST: u64 = 1_000;
/// Where those stand who do not wait for limits: above every priority.
const AHEAD: u8 = u8::MAX;

/// What was paid for a call that was served, until [`WaitingLine::settle`] learns what the call used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a call that is not settled counts as one that is under way"]
pub struct Paid {
    priority: u8,
    tenant: Arc<str>,
    payment: Payment,
}

/// A bounded line: higher priority first, every tenth turn by age (put off for ten more while a call of priority 5 or
/// above waits). Within one priority those go first who had a turn
/// before and failed; then tenants share by weight and tokens, each in order of arrival.
///
/// The worst wait, whatever comes later: the priority of the call that waited longest has every twentieth turn at
/// least. Within it a call is next when others have used `W / w` times the tokens that its tenant used or has waiting
/// before it, and were served one call each; `w` is the weight of its tenant, `W` that of all who wait. And whatever
/// the weights and tokens: the call that waited longest of all is passed by at most a thousand for each call in line.
///
/// Joining, leaving, being served and being next cost O(log n).
///
/// ```
/// use quotaflow::kernel::{Amounts, Standing, WaitingLine};
/// let standing = |priority| Standing {
///     priority,
///     tenant: "".into(),
///     weight: 1_000,
///     size: Amounts { requests: 1, ..Amounts::default() },
/// };
/// let mut line = WaitingLine::new(3);
/// let batch = line.join(standing(2), "batch").unwrap();
/// line.join(standing(6), "person").unwrap();
/// assert_eq!(line.head(), Some(&"person"));
/// assert_eq!(line.leave(batch), Some("batch"));
/// ```
#[derive(Debug)]
pub struct WaitingLine<T> {
    // Boxed: a node of the tree is half empty where calls join at its end.
    places: BTreeMap<u64, Box<Place<T>>>,
    classes: BTreeMap<Reverse<u8>, Class>,
    /// Who is set aside at which priority until when.
    aside: BTreeSet<SetAside>,
    /// The same by tenant.
    aside_of: BTreeMap<Arc<str>, BTreeSet<SetAside>>,
    most: usize,
    arrivals: u64,
    /// How many were served in turn since the last turn by age.
    since_age: u64,
    /// How many were ever served in turn.
    turns: u64,
}

#[derive(Debug)]
struct Place<T> {
    who: T,
    standing: Standing,
    seat: Seat,
    /// How many had been served when it came.
    since: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seat {
    /// It shares with others of its priority.
    New,
    /// It had a turn before.
    Again,
    /// It waits for no limit.
    Ahead,
}

impl<T> Place<T> {
    fn rank(&self) -> Reverse<u8> {
        Reverse(if self.seat == Seat::Ahead { AHEAD } else { self.standing.priority })
    }
}

/// All of one priority.
#[derive(Debug, Default)]
struct Class {
    people: usize,
    /// Who does not share, because it had a turn before or waits for no limit, in order of arrival.
    again: BTreeMap<u64, Amounts>,
    again_aside: BTreeMap<u64, Amounts>,
    /// What those in `again` need together.
    again_waiting: Amounts,
    shares: Shares,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Aside {
    Tenant(Arc<str>),
    Again(Arc<str>, u64),
}

/// Until when who of which priority is set aside.
type SetAside = (Moment, Reverse<u8>, Aside);

impl Aside {
    fn tenant(&self) -> &Arc<str> {
        let (Aside::Tenant(tenant) | Aside::Again(tenant, _)) = self;
        tenant
    }
}

impl Class {
    fn next(&self) -> Option<u64> {
        self.again.keys().next().copied().or_else(|| self.shares.next())
    }

    fn oldest(&self) -> Option<u64> {
        let again = self.again.keys().next().copied();
        again.into_iter().chain(self.shares.oldest()).min()
    }

    fn enter_again(&mut self, arrival: u64, size: Amounts) {
        self.again_waiting = self.again_waiting.plus(&size);
        self.again.insert(arrival, size);
    }

    fn leave_again(&mut self, arrival: u64) -> Option<Amounts> {
        let size = self.again.remove(&arrival)?;
        self.again_waiting = self.again_waiting.minus(&size);
        Some(size)
    }

    /// What all of them need who are not set aside.
    fn waiting(&self) -> Amounts {
        self.shares.waiting().plus(&self.again_waiting)
    }
}

impl<T> WaitingLine<T> {
    /// An empty line that holds at most `most`.
    pub fn new(most: usize) -> Self {
        WaitingLine {
            places: BTreeMap::new(),
            classes: BTreeMap::new(),
            aside: BTreeSet::new(),
            aside_of: BTreeMap::new(),
            most,
            arrivals: 0,
            since_age: 0,
            turns: 0,
        }
    }

    /// Joins at the end of its tenant's calls. Gives `who` back when the line is full.
    ///
    /// # Errors
    /// `who`, when the line is full.
    pub fn join(&mut self, standing: Standing, who: T) -> Result<Ticket, T> {
        self.stand(standing, Seat::New, who)
    }

    /// Joins before those of its priority who have not been served yet: a call that failed through no fault of its own
    /// does not wait for its turn twice.
    ///
    /// # Errors
    /// `who`, when the line is full.
    pub fn rejoin(&mut self, standing: Standing, who: T) -> Result<Ticket, T> {
        self.stand(standing, Seat::Again, who)
    }

    /// Joins before all others, behind those that did so before: a call that waits for no limit. It takes no turn.
    ///
    /// # Errors
    /// `who`, when the line is full.
    pub fn join_ahead(&mut self, standing: Standing, who: T) -> Result<Ticket, T> {
        self.stand(standing, Seat::Ahead, who)
    }

    fn stand(&mut self, standing: Standing, seat: Seat, who: T) -> Result<Ticket, T> {
        if self.places.len() >= self.most {
            return Err(who);
        }
        let arrival = self.arrivals;
        self.arrivals += 1;
        let place = Place { who, standing, seat, since: self.turns };
        let class = self.classes.entry(place.rank()).or_default();
        class.people += 1;
        let Standing { tenant, weight, size, .. } = &place.standing;
        match seat {
            Seat::New => class.shares.join(tenant, arrival, *size, *weight),
            Seat::Again | Seat::Ahead => class.enter_again(arrival, *size),
        }
        self.places.insert(arrival, Box::new(place));
        Ok(Ticket(arrival))
    }

    /// The call whose turn it is; `None` when all that wait are set aside.
    pub fn next_ticket(&self) -> Option<Ticket> {
        let Some((oldest, class)) = self.oldest_if_by_age() else {
            return self.classes.values().find_map(Class::next).map(Ticket);
        };
        let most = PASSED_AT_MOST.saturating_mul(self.places.len() as u64);
        if self.places.get(&oldest).is_some_and(|place| self.turns - place.since > most) {
            return Some(Ticket(oldest));
        }
        class.next().map(Ticket)
    }

    /// The one who waited longest and its priority, if the turn goes by age.
    fn oldest_if_by_age(&self) -> Option<(u64, &Class)> {
        if self.since_age + 1 < TURNS_BY_AGE {
            return None;
        }
        let (first, _) = self.classes.iter().find(|(_, class)| class.next().is_some())?;
        if first.0 == AHEAD {
            return None;
        }
        let aged =
            self.classes.iter().filter_map(|(rank, class)| Some((class.oldest()?, rank, class)));
        let (oldest, aged, class) = aged.min_by_key(|(oldest, ..)| *oldest)?;
        let puts_off = first.0 >= PERSONS && aged.0 < PERSONS && self.since_age + 1 < PUT_OFF_TO;
        (!puts_off).then_some((oldest, class))
    }

    /// Whether a turn by age was put off for as long as it may be: its call takes what is kept for urgent calls,
    /// since while enough of these come, there is never more than that.
    pub fn takes_what_is_kept(&self) -> bool {
        self.since_age + 1 >= PUT_OFF_TO && self.oldest_if_by_age().is_some()
    }

    /// The one whose turn it is.
    pub fn head(&self) -> Option<&T> {
        self.get(self.next_ticket()?)
    }

    /// The one with `ticket`.
    pub fn get(&self, ticket: Ticket) -> Option<&T> {
        self.places.get(&ticket.0).map(|place| &place.who)
    }

    /// The first of those who had no turn yet.
    pub fn first_of_the_new(&self) -> Option<(Ticket, &T)> {
        let first = self.classes.values().find_map(|class| class.shares.next())?;
        Some((Ticket(first), self.get(Ticket(first))?))
    }

    /// Serves the one with `ticket`: it leaves, its tenant pays, and the turn passes on. What was paid is `None` for a
    /// call that waited for no limit.
    pub fn serve(&mut self, ticket: Ticket) -> Option<(T, Option<Paid>)> {
        let by_age = self.oldest_if_by_age().is_some();
        let is_turn = self.places.get(&ticket.0)?.seat != Seat::Ahead;
        let served = self.serve_out_of_turn(ticket)?;
        if is_turn {
            self.since_age = if by_age { 0 } else { self.since_age + 1 };
            self.turns += 1;
        }
        Some(served)
    }

    /// Serves the call with `ticket` out of turn.
    pub fn serve_out_of_turn(&mut self, ticket: Ticket) -> Option<(T, Option<Paid>)> {
        let place = self.places.remove(&ticket.0)?;
        let rank = place.rank();
        let Standing { priority, tenant, weight, size } = place.standing;
        let class = self.classes.get_mut(&rank)?;
        let payment = match place.seat {
            Seat::New => class.shares.serve(&tenant, ticket.0, weight),
            Seat::Again | Seat::Ahead => {
                class.leave_again(ticket.0);
                class.again_aside.remove(&ticket.0);
                // What was paid for the turn before was settled.
                (place.seat == Seat::Again).then(|| class.shares.pay(&tenant, &size, weight))
            }
        };
        class.people -= 1;
        self.forget_if_over(rank);
        Some((place.who, payment.map(|payment| Paid { priority, tenant, payment })))
    }

    /// It is known what a call that was served has used: its tenant pays for that and not for what it was thought to
    /// need.
    pub fn settle(&mut self, paid: Paid, used: &Amounts) {
        let rank = Reverse(paid.priority);
        if let Some(class) = self.classes.get_mut(&rank) {
            class.shares.settle(&paid.tenant, &paid.payment, used);
            self.forget_if_over(rank);
        }
    }

    /// Leaves without being served.
    pub fn leave(&mut self, ticket: Ticket) -> Option<T> {
        let place = self.places.remove(&ticket.0)?;
        let rank = place.rank();
        if let Some(class) = self.classes.get_mut(&rank) {
            match place.seat {
                Seat::New => class.shares.leave(&place.standing.tenant, ticket.0),
                Seat::Again | Seat::Ahead => {
                    class.leave_again(ticket.0);
                    class.again_aside.remove(&ticket.0);
                }
            }
            class.people -= 1;
            self.forget_if_over(rank);
        }
        Some(place.who)
    }

    /// A priority without waiting calls is remembered only until all that was served of it is settled.
    fn forget_if_over(&mut self, rank: Reverse<u8>) {
        if self.classes.get(&rank).is_some_and(|class| class.people == 0 && class.shares.is_over())
        {
            self.classes.remove(&rank);
        }
    }

    /// Its own tenant's limit holds up the one with `ticket`: until `until` that tenant's calls of this priority are
    /// left out of account, and no other call waits for them.
    pub fn set_aside(&mut self, ticket: Ticket, until: Moment) {
        let Some(place) = self.places.get(&ticket.0) else { return };
        let rank = place.rank();
        let Some(class) = self.classes.get_mut(&rank) else { return };
        let who = if place.seat == Seat::New {
            class.shares.set_aside(&place.standing.tenant, true);
            Aside::Tenant(place.standing.tenant.clone())
        } else {
            let size = class.leave_again(ticket.0);
            class.again_aside.extend(size.map(|size| (ticket.0, size)));
            Aside::Again(place.standing.tenant.clone(), ticket.0)
        };
        let entry = (until, rank, who);
        self.aside_of.entry(entry.2.tenant().clone()).or_default().insert(entry.clone());
        self.aside.insert(entry);
    }

    /// Takes those back into account whose time has come.
    pub fn bring_back(&mut self, now: Moment) {
        while self.aside.first().is_some_and(|(until, ..)| *until <= now) {
            let Some(entry) = self.aside.pop_first() else { return };
            let tenant = entry.2.tenant();
            if let Some(theirs) = self.aside_of.get_mut(tenant) {
                theirs.remove(&entry);
                if theirs.is_empty() {
                    self.aside_of.remove(tenant);
                }
            }
            self.comes_back(entry.1, entry.2);
        }
    }

    /// Takes a tenant back into account before its time: something was given back to it.
    pub fn bring_back_tenant(&mut self, tenant: &str) {
        for entry in self.aside_of.remove(tenant).unwrap_or_default() {
            self.aside.remove(&entry);
            self.comes_back(entry.1, entry.2);
        }
    }

    fn comes_back(&mut self, rank: Reverse<u8>, who: Aside) {
        let Some(class) = self.classes.get_mut(&rank) else { return };
        match who {
            Aside::Tenant(name) => class.shares.set_aside(&name, false),
            Aside::Again(_, arrival) => {
                if let Some(size) = class.again_aside.remove(&arrival) {
                    class.enter_again(arrival, size);
                }
            }
        }
    }

    /// When the first of those set aside comes back, and how many entries there are.
    pub fn next_back(&self) -> Option<Moment> {
        self.aside.first().map(|(until, ..)| *until)
    }

    /// How many tenants, and calls that had a turn before, are set aside.
    pub fn set_aside_count(&self) -> usize {
        self.aside.len()
    }

    /// What will at least be served before a call that joins as `standing` now. Never too much: turns by age, and
    /// what tenants share beyond their first call, are left out of account.
    pub fn ahead_of(&self, standing: &Standing) -> Amounts {
        let mut higher = Amounts::default();
        let mut same = Amounts::default();
        for (Reverse(priority), class) in &self.classes {
            if *priority > standing.priority {
                higher = higher.plus(&class.waiting());
            } else if *priority == standing.priority {
                same = class.shares.ahead_of(&standing.tenant).plus(&class.again_waiting);
            }
        }
        // By turns of age its own priority may be served although others of a higher one wait.
        if same.requests > 0 && higher.requests > same.requests * (TURNS_BY_AGE - 1) {
            return Amounts { requests: same.requests * TURNS_BY_AGE, ..same };
        }
        higher.plus(&same)
    }

    /// What calls of its own tenant need, set aside or not, that will at least be served before a call that joins as
    /// `standing` now.
    pub fn ahead_of_tenant(&self, standing: &Standing) -> Amounts {
        let of = |class: &Class| class.shares.waiting_of(&standing.tenant);
        let same = self.classes.get(&Reverse(standing.priority)).map(of).unwrap_or_default();
        let higher = self.classes.range(..Reverse(standing.priority));
        let higher = higher.fold(Amounts::default(), |sum, (_, class)| sum.plus(&of(class)));
        // By turns of age it may be served although others of a higher priority wait.
        let turns = (same.requests + 1) * TURNS_BY_AGE;
        if higher.requests < turns { same.plus(&higher) } else { same }
    }

    /// All calls in the order in which they will be served if none comes or goes, turns by age left aside; those that
    /// are set aside at the place they come back to.
    pub fn in_order(&self) -> Vec<(Ticket, &Standing, &T)> {
        let weight =
            |arrival: u64| self.places.get(&arrival).map_or(1_000, |place| place.standing.weight);
        let mut order = Vec::with_capacity(self.places.len());
        for class in self.classes.values() {
            let mut again: Vec<u64> =
                class.again.keys().chain(class.again_aside.keys()).copied().collect();
            again.sort_unstable();
            order.extend(again);
            order.extend(class.shares.beginnings(weight).into_iter().map(|(_, arrival)| arrival));
        }
        let place = |arrival: u64| {
            let place = self.places.get(&arrival)?;
            Some((Ticket(arrival), &place.standing, &place.who))
        };
        order.into_iter().filter_map(place).collect()
    }

    /// Takes out all calls of a priority below `priority`; all of them when it is `None`. In order of arrival.
    pub fn clear(&mut self, below: Option<u8>) -> Vec<T> {
        let concerned =
            |place: &Place<T>| below.is_none_or(|below| place.standing.priority < below);
        let places = self.places.iter().filter(|(_, place)| concerned(place));
        let tickets: Vec<Ticket> = places.map(|(arrival, _)| Ticket(*arrival)).collect();
        // From the end, so that a tenant's first call hardly ever leaves before its others.
        let mut gone: Vec<T> =
            tickets.into_iter().rev().filter_map(|ticket| self.leave(ticket)).collect();
        gone.reverse();
        gone
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether no call waits.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

#[cfg(test)]
mod tests;
