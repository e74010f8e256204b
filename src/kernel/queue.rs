//! Who is next in the waiting line?

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// A place in a waiting line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    priority: Reverse<u8>,
    first_time: bool,
    arrival: u64,
}

/// Every tenth turn belongs to the one who waited longest, whatever its priority: nobody starves, and a long line of
/// old batch calls still cannot hold up an urgent one for more than one turn.
const TURNS_BY_AGE: u64 = 10;

/// A bounded line: higher priority first, within one priority in order of arrival, and every tenth turn by age.
///
/// Joining, leaving and being served cost O(log n).
///
/// ```
/// use quotaflow::kernel::WaitingLine;
/// let mut line = WaitingLine::new(3);
/// let batch = line.join(2, "batch").unwrap();
/// line.join(6, "person").unwrap();
/// assert_eq!(line.head(), Some(&"person"));
/// assert_eq!(line.leave(batch), Some("batch"));
/// ```
#[derive(Debug)]
pub struct WaitingLine<T> {
    by_rank: BTreeMap<Ticket, T>,
    by_age: BTreeMap<u64, Ticket>,
    most: usize,
    arrivals: u64,
    turn: u64,
}

impl<T> WaitingLine<T> {
    /// An empty line that holds at most `most`.
    pub fn new(most: usize) -> Self {
        WaitingLine {
            by_rank: BTreeMap::new(),
            by_age: BTreeMap::new(),
            most,
            arrivals: 0,
            turn: 0,
        }
    }

    /// Joins at the end of its priority (0 to 9, higher goes first). Gives `who` back when the line is full.
    ///
    /// # Errors
    /// `who`, when the line is full.
    pub fn join(&mut self, priority: u8, who: T) -> Result<Ticket, T> {
        self.stand(priority, true, who)
    }

    /// Joins before those of its priority who have not been served yet: a call that failed through no fault of its own
    /// does not wait for its turn twice.
    ///
    /// # Errors
    /// `who`, when the line is full.
    pub fn rejoin(&mut self, priority: u8, who: T) -> Result<Ticket, T> {
        self.stand(priority, false, who)
    }

    fn stand(&mut self, priority: u8, first_time: bool, who: T) -> Result<Ticket, T> {
        if self.by_rank.len() >= self.most {
            return Err(who);
        }
        let ticket = Ticket { priority: Reverse(priority), first_time, arrival: self.arrivals };
        self.arrivals += 1;
        self.by_rank.insert(ticket, who);
        self.by_age.insert(ticket.arrival, ticket);
        Ok(ticket)
    }

    /// Whose turn it is.
    pub fn next_ticket(&self) -> Option<Ticket> {
        if self.turn % TURNS_BY_AGE == TURNS_BY_AGE - 1 {
            self.by_age.values().next().copied()
        } else {
            self.by_rank.keys().next().copied()
        }
    }

    /// The one whose turn it is.
    pub fn head(&self) -> Option<&T> {
        self.by_rank.get(&self.next_ticket()?)
    }

    /// The most urgent one, if it is not its turn: it may go when the one whose turn it is may not.
    pub fn urgent(&self) -> Option<(Ticket, &T)> {
        let turn = self.next_ticket()?;
        let (ticket, who) = self.by_rank.first_key_value()?;
        (*ticket != turn && ticket.priority < turn.priority).then_some((*ticket, who))
    }

    /// Serves the one with `ticket`: it leaves and the turn passes on.
    pub fn serve(&mut self, ticket: Ticket) -> Option<T> {
        let who = self.leave(ticket)?;
        self.turn += 1;
        Some(who)
    }

    /// Leaves without being served.
    pub fn leave(&mut self, ticket: Ticket) -> Option<T> {
        self.by_age.remove(&ticket.arrival);
        self.by_rank.remove(&ticket)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.by_rank.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.by_rank.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn serve_all(line: &mut WaitingLine<(u8, u64)>) -> Vec<(u8, u64)> {
        std::iter::from_fn(|| line.next_ticket().and_then(|ticket| line.serve(ticket))).collect()
    }

    proptest! {
        /// Equal priority is served in order of arrival; everybody is served; nobody is passed by more than nine
        /// others for each place before it in order of arrival.
        #[test]
        fn everyone_is_served_in_order_and_nobody_starves(priorities in prop::collection::vec(0_u8..10, 1..300)) {
            let mut line = WaitingLine::new(1_000);
            for (arrival, priority) in priorities.iter().enumerate() {
                line.join(*priority, (*priority, arrival as u64)).unwrap();
            }
            let served = serve_all(&mut line);
            prop_assert_eq!(served.len(), priorities.len());
            for priority in 0..10 {
                let arrivals: Vec<u64> = served.iter().filter(|(p, _)| *p == priority).map(|(_, a)| *a).collect();
                prop_assert!(arrivals.is_sorted());
            }
            for (turn, (_, arrival)) in served.iter().enumerate() {
                prop_assert!(turn as u64 <= (arrival + 1) * TURNS_BY_AGE);
            }
        }
    }

    #[test]
    fn who_was_served_before_goes_ahead_of_its_own_priority_only() {
        let mut line = WaitingLine::new(9);
        line.join(3, "new").unwrap();
        line.rejoin(3, "again").unwrap();
        line.join(5, "urgent").unwrap();
        let served: Vec<_> =
            std::iter::from_fn(|| line.next_ticket().and_then(|ticket| line.serve(ticket)))
                .collect();
        assert_eq!(served, ["urgent", "again", "new"]);
    }

    #[test]
    fn who_is_urgent_may_go_ahead_without_taking_the_turn_of_who_is_old() {
        let mut line = WaitingLine::new(20);
        line.join(1, "old").unwrap();
        for _ in 0..9 {
            line.join(5, "urgent").unwrap();
        }
        for _ in 0..9 {
            assert_eq!(line.urgent(), None, "it is their turn anyway");
            let next = line.next_ticket().unwrap();
            line.serve(next);
        }
        line.join(5, "late").unwrap();
        let (ticket, who) = line.urgent().unwrap();
        assert_eq!(*who, "late");
        line.leave(ticket);
        assert_eq!((line.head(), line.urgent()), (Some(&"old"), None));
    }

    #[test]
    fn a_full_line_turns_the_next_one_away() {
        let mut line = WaitingLine::new(1);
        line.join(3, "first").unwrap();
        assert_eq!(line.join(9, "second"), Err("second"));
    }
}
