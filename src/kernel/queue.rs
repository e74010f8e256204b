//! Who is next in the waiting line?

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::limits::Amounts;
use super::moment::Moment;
use super::shares::Shares;

/// A place in a waiting line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// As whom somebody joins.
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

/// Every tenth turn belongs to the priority of the one who waited longest: nobody starves, and a long line of old batch
/// calls still cannot hold up an urgent one for more than one turn.
const TURNS_BY_AGE: u64 = 10;
/// Somebody of this priority or above is probably a person who looks at a screen: a turn by age is put off for them,
/// but not for so long that they could keep it away for ever.
const PERSONS: u8 = 5;
/// The last turn to which one by age is put off.
const PUT_OFF_TO: u64 = 2 * TURNS_BY_AGE;

/// A bounded line: higher priority first, every tenth turn by age (put off for nine more while somebody of priority 5 or
/// above waits). Within one priority those go first who had a turn
/// before and failed; then tenants share by weight and tokens, each in order of arrival.
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
    places: BTreeMap<u64, Place<T>>,
    classes: BTreeMap<Reverse<u8>, Class>,
    /// Who is set aside at which priority until when.
    aside: BTreeSet<(Moment, Reverse<u8>, Aside)>,
    most: usize,
    arrivals: u64,
    /// How many were served in turn since the last turn by age.
    since_age: u64,
}

#[derive(Debug)]
struct Place<T> {
    who: T,
    standing: Standing,
    first_time: bool,
}

/// All of one priority.
#[derive(Debug, Default)]
struct Class {
    people: usize,
    /// Who had a turn before, in order of arrival.
    again: BTreeMap<u64, Amounts>,
    again_aside: BTreeMap<u64, Amounts>,
    shares: Shares,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Aside {
    Tenant(Arc<str>),
    Again(u64),
}

impl Class {
    fn next(&self) -> Option<u64> {
        self.again.keys().next().copied().or_else(|| self.shares.next())
    }

    fn oldest(&self) -> Option<u64> {
        let again = self.again.keys().next().copied();
        again.into_iter().chain(self.shares.oldest()).min()
    }

    fn again_waiting(&self) -> Amounts {
        self.again.values().fold(Amounts::default(), |sum, size| sum.plus(size))
    }
}

impl<T> WaitingLine<T> {
    /// An empty line that holds at most `most`.
    pub fn new(most: usize) -> Self {
        WaitingLine {
            places: BTreeMap::new(),
            classes: BTreeMap::new(),
            aside: BTreeSet::new(),
            most,
            arrivals: 0,
            since_age: 0,
        }
    }

    /// Joins at the end of its tenant's calls. Gives `who` back when the line is full.
    ///
    /// # Errors
    /// `who`, when the line is full.
    pub fn join(&mut self, standing: Standing, who: T) -> Result<Ticket, T> {
        self.stand(standing, true, who)
    }

    /// Joins before those of its priority who have not been served yet: a call that failed through no fault of its own
    /// does not wait for its turn twice, and its tenant does not pay twice.
    ///
    /// # Errors
    /// `who`, when the line is full.
    pub fn rejoin(&mut self, standing: Standing, who: T) -> Result<Ticket, T> {
        self.stand(standing, false, who)
    }

    fn stand(&mut self, standing: Standing, first_time: bool, who: T) -> Result<Ticket, T> {
        if self.places.len() >= self.most {
            return Err(who);
        }
        let arrival = self.arrivals;
        self.arrivals += 1;
        let class = self.classes.entry(Reverse(standing.priority)).or_default();
        class.people += 1;
        if first_time {
            class.shares.join(&standing.tenant, arrival, standing.size);
        } else {
            class.again.insert(arrival, standing.size);
        }
        self.places.insert(arrival, Place { who, standing, first_time });
        Ok(Ticket(arrival))
    }

    /// Whose turn it is; `None` when nobody waits who is not set aside.
    pub fn next_ticket(&self) -> Option<Ticket> {
        let next = |class: &Class| class.next().map(Ticket);
        match self.class_by_age() {
            Some(class) => next(class),
            None => self.classes.values().find_map(next),
        }
    }

    /// The priority of the one who waited longest, if the turn goes by age.
    fn class_by_age(&self) -> Option<&Class> {
        if self.since_age + 1 < TURNS_BY_AGE {
            return None;
        }
        let aged =
            self.classes.iter().filter_map(|(rank, class)| Some((class.oldest()?, rank, class)));
        let (_, aged, class) = aged.min_by_key(|(oldest, ..)| *oldest)?;
        let (first, _) = self.classes.iter().find(|(_, class)| class.next().is_some())?;
        let puts_off = first.0 >= PERSONS && aged.0 < PERSONS && self.since_age + 1 < PUT_OFF_TO;
        (!puts_off).then_some(class)
    }

    /// The one whose turn it is.
    pub fn head(&self) -> Option<&T> {
        self.get(self.next_ticket()?)
    }

    /// The one with `ticket`.
    pub fn get(&self, ticket: Ticket) -> Option<&T> {
        self.places.get(&ticket.0).map(|place| &place.who)
    }

    /// The most urgent one, if it is not its turn: it may go when the one whose turn it is may not.
    pub fn urgent(&self) -> Option<(Ticket, &T)> {
        let turn = &self.places.get(&self.next_ticket()?.0)?.standing;
        let first = self.classes.values().find_map(Class::next)?;
        let place = self.places.get(&first)?;
        (place.standing.priority > turn.priority).then_some((Ticket(first), &place.who))
    }

    /// The first of those who had no turn yet.
    pub fn first_of_the_new(&self) -> Option<(Ticket, &T)> {
        let first = self.classes.values().find_map(|class| class.shares.next())?;
        Some((Ticket(first), self.get(Ticket(first))?))
    }

    /// Serves the one with `ticket`: it leaves, its tenant pays, and the turn passes on.
    pub fn serve(&mut self, ticket: Ticket) -> Option<T> {
        let by_age = self.class_by_age().is_some();
        let who = self.serve_out_of_turn(ticket)?;
        self.since_age = if by_age { 0 } else { self.since_age + 1 };
        Some(who)
    }

    /// Serves the one with `ticket` without taking the turn of whoever has it.
    pub fn serve_out_of_turn(&mut self, ticket: Ticket) -> Option<T> {
        self.remove(ticket, true)
    }

    /// Leaves without being served.
    pub fn leave(&mut self, ticket: Ticket) -> Option<T> {
        self.remove(ticket, false)
    }

    fn remove(&mut self, ticket: Ticket, is_served: bool) -> Option<T> {
        let Place { who, standing, first_time } = self.places.remove(&ticket.0)?;
        let rank = Reverse(standing.priority);
        if let Some(class) = self.classes.get_mut(&rank) {
            match (first_time, is_served) {
                (true, true) => class.shares.serve(&standing.tenant, ticket.0, standing.weight),
                (true, false) => class.shares.leave(&standing.tenant, ticket.0),
                (false, _) => {
                    class.again.remove(&ticket.0);
                    class.again_aside.remove(&ticket.0);
                }
            }
            class.people -= 1;
            if class.people == 0 {
                self.classes.remove(&rank);
            }
        }
        Some(who)
    }

    /// Its own tenant's limit holds up the one with `ticket`: until `until` that tenant's calls of this priority are
    /// left out of account, and nobody else waits for them.
    pub fn set_aside(&mut self, ticket: Ticket, until: Moment) {
        let Some(place) = self.places.get(&ticket.0) else { return };
        let rank = Reverse(place.standing.priority);
        let Some(class) = self.classes.get_mut(&rank) else { return };
        let who = if place.first_time {
            class.shares.set_aside(&place.standing.tenant, true);
            Aside::Tenant(place.standing.tenant.clone())
        } else {
            let moved = class.again.remove_entry(&ticket.0);
            class.again_aside.extend(moved);
            Aside::Again(ticket.0)
        };
        self.aside.insert((until, rank, who));
    }

    /// Takes those back into account whose time has come.
    pub fn bring_back(&mut self, now: Moment) {
        while self.aside.first().is_some_and(|(until, ..)| *until <= now) {
            let Some((_, rank, who)) = self.aside.pop_first() else { return };
            let Some(class) = self.classes.get_mut(&rank) else { continue };
            match who {
                Aside::Tenant(name) => class.shares.set_aside(&name, false),
                Aside::Again(arrival) => {
                    let moved = class.again_aside.remove_entry(&arrival);
                    class.again.extend(moved);
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

    /// What will at least be served before somebody who joins as `standing` now. Never too much: turns by age, and
    /// what tenants share beyond their first call, are left out of account.
    pub fn ahead_of(&self, standing: &Standing) -> Amounts {
        let mut higher = Amounts::default();
        let mut same = Amounts::default();
        for (Reverse(priority), class) in &self.classes {
            if *priority > standing.priority {
                higher = higher.plus(&class.shares.waiting()).plus(&class.again_waiting());
            } else if *priority == standing.priority {
                same = class.shares.ahead_of(&standing.tenant).plus(&class.again_waiting());
            }
        }
        // By turns of age its own priority may be served although others of a higher one wait.
        if same.requests > 0 && higher.requests > same.requests * (TURNS_BY_AGE - 1) {
            return Amounts { requests: same.requests * TURNS_BY_AGE, ..same };
        }
        higher.plus(&same)
    }

    /// What calls of its own tenant need, set aside or not, that will at least be served before somebody who joins as
    /// `standing` now.
    pub fn own_ahead_of(&self, standing: &Standing) -> Amounts {
        let of = |class: &Class| class.shares.waiting_of(&standing.tenant);
        let same = self.classes.get(&Reverse(standing.priority)).map(of).unwrap_or_default();
        let higher = self.classes.range(..Reverse(standing.priority));
        let higher = higher.fold(Amounts::default(), |sum, (_, class)| sum.plus(&of(class)));
        // By turns of age it may be served although others of a higher priority wait.
        let turns = (same.requests + 1) * TURNS_BY_AGE;
        if higher.requests < turns { same.plus(&higher) } else { same }
    }

    /// Everybody in the order in which they will be served if nobody comes or goes, turns by age left aside; those who
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

    /// Takes out everybody of a priority below `priority`; all of them when it is `None`.
    pub fn clear(&mut self, below: Option<u8>) -> Vec<T> {
        let concerned =
            |place: &Place<T>| below.is_none_or(|below| place.standing.priority < below);
        let (gone, stay): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.places).into_iter().partition(|(_, place)| concerned(place));
        self.places = stay;
        self.classes.retain(|rank, _| below.is_some_and(|below| rank.0 >= below));
        gone.into_values().map(|place| place.who).collect()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

#[cfg(test)]
mod tests;
