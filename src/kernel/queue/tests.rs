//! Does the line keep what it promises, whoever comes and goes?

use proptest::prelude::*;

use super::*;
use std::time::Duration;

fn standing(priority: u8, tenant: &str, weight: u32, tokens: u64) -> Standing {
    let size = Amounts { requests: 1, input_tokens: tokens, ..Amounts::default() };
    Standing { priority, tenant: tenant.into(), weight, size }
}

fn plain(priority: u8) -> Standing {
    standing(priority, "", 1_000, 1)
}

fn serve_next<T>(line: &mut WaitingLine<T>) -> Option<T> {
    line.next_ticket().and_then(|ticket| line.serve(ticket))
}

fn serve_all<T>(line: &mut WaitingLine<T>) -> Vec<T> {
    std::iter::from_fn(|| serve_next(line)).collect()
}

const TENANTS: [&str; 4] = ["", "a", "b", "c"];

proptest! {
    /// Equal priority is served in order of arrival; everybody is served; nobody is passed by more than nineteen others for
    /// each place before it in order of arrival.
    #[test]
    fn everyone_is_served_in_order_and_nobody_starves(priorities in prop::collection::vec(0_u8..10, 1..300)) {
        let mut line = WaitingLine::new(1_000);
        for (arrival, priority) in priorities.iter().enumerate() {
            line.join(plain(*priority), (*priority, arrival as u64)).unwrap();
        }
        let served = serve_all(&mut line);
        prop_assert_eq!(served.len(), priorities.len());
        for priority in 0..10 {
            let arrivals: Vec<u64> = served.iter().filter(|(p, _)| *p == priority).map(|(_, a)| *a).collect();
            prop_assert!(arrivals.is_sorted());
        }
        for (turn, (_, arrival)) in served.iter().enumerate() {
            prop_assert!(turn as u64 <= (arrival + 1) * PUT_OFF_TO);
        }
    }

    /// While two tenants both have calls waiting, what they are served differs from their weights by no more than one
    /// largest call of each: the bound of start-time fair queueing, over every interval.
    #[test]
    fn tenants_share_by_weight_over_every_interval(
        calls in prop::collection::vec((0_usize..4, 1_u64..4_000), 50..400),
        weights in prop::collection::vec(1_u32..9, 4),
        ageing in prop::bool::ANY,
    ) {
        const LARGEST: f64 = 4_000.0;
        let mut line = WaitingLine::new(1_000);
        let mut left = [0; 4];
        for (tenant, tokens) in &calls {
            let weight = weights[*tenant] * 1_000;
            line.join(standing(3, TENANTS[*tenant], weight, *tokens), (*tenant, *tokens)).unwrap();
            left[*tenant] += 1;
        }
        if ageing {
            // Turns by age belong to a priority and not to a tenant of it.
            line.since_age = TURNS_BY_AGE / 2;
        }
        let mut served: Vec<[f64; 4]> = vec![[0.0; 4]];
        let mut backlogged = vec![left];
        while let Some((tenant, tokens)) = serve_next(&mut line) {
            let mut sums = *served.last().unwrap();
            sums[tenant] += tokens as f64 / f64::from(weights[tenant]);
            served.push(sums);
            left[tenant] -= 1;
            backlogged.push(left);
        }
        for one in 0..4 {
            for other in 0..one {
                let both = |at: usize| backlogged[at][one] > 0 && backlogged[at][other] > 0;
                let most = LARGEST / f64::from(weights[one]) + LARGEST / f64::from(weights[other]);
                let end = (0..served.len()).take_while(|at| both(*at)).count();
                for from in 0..end {
                    for to in from..end {
                        let got = |who: usize| served[to][who] - served[from][who];
                        prop_assert!((got(one) - got(other)).abs() <= most + 1e-6);
                    }
                }
            }
        }
    }

    /// Whatever is done in whatever order: nobody is lost or served twice, one tenant's calls of one priority are
    /// served in order of arrival, and the listing is in the order of service.
    #[test]
    fn nobody_is_lost_whatever_happens(acts in prop::collection::vec((0_u8..9, 0_u8..4, 0_usize..4, 1_u64..50), 1..400)) {
        let mut line = WaitingLine::new(1_000);
        let mut inside: Vec<(Ticket, u64)> = Vec::new();
        let mut names = 0;
        let mut now = Moment::from_seconds(1_000);
        let mut last: std::collections::BTreeMap<(u8, usize), u64> = Default::default();
        let gone = |inside: &mut Vec<(Ticket, u64)>, name: u64| {
            let at = inside.iter().position(|(_, known)| *known == name).expect("it waits");
            inside.remove(at);
        };
        for (act, priority, tenant, tokens) in acts {
            now = now + Duration::from_secs(1);
            match act {
                0..=3 => {
                    names += 1;
                    let ticket = line.join(standing(priority, TENANTS[tenant], 1_000, tokens), (priority, tenant, names)).unwrap();
                    inside.push((ticket, names));
                }
                4 | 5 => if let Some((priority, tenant, name)) = serve_next(&mut line) {
                    gone(&mut inside, name);
                    let before = last.insert((priority, tenant), name);
                    prop_assert!(before.is_none_or(|before| before < name));
                },
                6 if !inside.is_empty() => {
                    let (ticket, name) = inside[tokens as usize % inside.len()];
                    let (_, _, left) = line.leave(ticket).unwrap();
                    prop_assert_eq!(left, name);
                    gone(&mut inside, name);
                    prop_assert!(line.leave(ticket).is_none());
                }
                7 => if let Some(ticket) = line.next_ticket() {
                    line.set_aside(ticket, now + Duration::from_secs(tokens));
                },
                _ => line.bring_back(now),
            }
            prop_assert_eq!(line.len(), inside.len());
            prop_assert_eq!(line.in_order().len(), inside.len());
        }
        line.bring_back(Moment::FAR_FUTURE);
        line.since_age = 0;
        let listed: Vec<u64> = line.in_order().into_iter().map(|(_, _, who)| who.2).collect();
        let mut served = Vec::new();
        while let Some(who) = serve_next(&mut line) {
            // The listing leaves turns by age out of account.
            line.since_age = 0;
            served.push(who.2);
        }
        prop_assert_eq!(listed, served);
        prop_assert!(line.is_empty() && line.classes.is_empty() && line.next_ticket().is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Over a long backlog the shares are within five in a hundred of the weights, although many leave before their
    /// turn and every tenth turn goes by age.
    #[test]
    fn shares_are_within_a_twentieth_of_the_weights(
        seed in any::<u64>(),
        weights in prop::collection::vec(1_u32..6, 3),
    ) {
        let mut random = Lcg(seed);
        let mut line = WaitingLine::new(100_000);
        let mut tickets = Vec::new();
        let join = |line: &mut WaitingLine<(usize, u64)>, random: &mut Lcg, tickets: &mut Vec<Ticket>, tenant: usize| {
            let tokens = 1 + random.below(2_000);
            let who = standing(3, TENANTS[tenant], weights[tenant] * 1_000, tokens);
            tickets.push(line.join(who, (tenant, tokens)).unwrap());
        };
        for tenant in 0..3 {
            (0..50).for_each(|_| join(&mut line, &mut random, &mut tickets, tenant));
        }
        // Somebody of lower priority is there all the time and has its turns by age.
        (0..1_000).for_each(|_| { line.join(standing(1, "batch", 1_000, 9), (3, 9)).unwrap(); });
        let mut got = [0.0; 4];
        for _ in 0..6_000 {
            let (tenant, tokens) = serve_next(&mut line).unwrap();
            got[tenant] += tokens as f64;
            if tenant < 3 {
                join(&mut line, &mut random, &mut tickets, tenant);
            }
            if random.below(10) == 0 {
                let at = random.below(tickets.len() as u64) as usize;
                if let Some((tenant, _)) = line.leave(tickets.swap_remove(at)) {
                    join(&mut line, &mut random, &mut tickets, tenant);
                }
            }
        }
        let total: f64 = got[..3].iter().sum();
        let weight: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        for tenant in 0..3 {
            let (share, right) = (got[tenant] / total, f64::from(weights[tenant]) / weight);
            prop_assert!((share / right - 1.0).abs() < 0.05, "{share} instead of {right}");
        }
        prop_assert!(got[3] > 0.0);
    }
}

/// A few random numbers that follow from a seed.
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, most: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

#[test]
fn who_was_served_before_goes_ahead_of_its_own_priority_only() {
    let mut line = WaitingLine::new(9);
    line.join(plain(3), "new").unwrap();
    line.rejoin(plain(3), "again").unwrap();
    line.join(plain(5), "urgent").unwrap();
    assert_eq!(serve_all(&mut line), ["urgent", "again", "new"]);
}

#[test]
fn who_is_urgent_may_go_ahead_without_taking_the_turn_of_who_is_old() {
    let mut line = WaitingLine::new(30);
    line.join(plain(1), "old").unwrap();
    for _ in 0..19 {
        line.join(plain(5), "urgent").unwrap();
    }
    for _ in 0..19 {
        assert_eq!(line.urgent(), None, "it is their turn anyway");
        assert_eq!(serve_next(&mut line), Some("urgent"));
    }
    line.join(plain(5), "late").unwrap();
    let (ticket, who) = line.urgent().unwrap();
    assert_eq!(*who, "late");
    line.serve_out_of_turn(ticket);
    assert_eq!((line.head(), line.urgent()), (Some(&"old"), None));
}

#[test]
fn a_turn_by_age_waits_for_a_person_and_not_for_a_batch() {
    let mut line = WaitingLine::new(30);
    line.join(plain(1), "old").unwrap();
    (0..12).for_each(|_| _ = line.join(plain(3), "batch").unwrap());
    (0..9).for_each(|_| assert_eq!(serve_next(&mut line), Some("batch")));
    let person = line.join(plain(6), "person").unwrap();
    assert_eq!(line.head(), Some(&"person"));
    line.leave(person);
    assert_eq!(serve_next(&mut line), Some("old"));
    assert_eq!(serve_next(&mut line), Some("batch"));
}

#[test]
fn a_full_line_turns_the_next_one_away() {
    let mut line = WaitingLine::new(1);
    line.join(plain(3), "first").unwrap();
    assert_eq!(line.join(plain(9), "second"), Err("second"));
}

#[test]
fn who_comes_back_has_saved_up_no_turns() {
    let mut line = WaitingLine::new(100);
    let join = |line: &mut WaitingLine<&'static str>, who: &'static str| {
        line.join(standing(3, who, 1_000, 10), who).unwrap();
    };
    (0..20).for_each(|_| join(&mut line, "busy"));
    (0..8).for_each(|_| assert_eq!(serve_next(&mut line), Some("busy")));
    (0..4).for_each(|_| join(&mut line, "idle"));
    let served: Vec<_> = (0..6).filter_map(|_| serve_next(&mut line)).collect();
    assert_eq!(served.iter().filter(|who| **who == "idle").count(), 3, "{served:?}");
}

#[test]
fn a_tenant_that_is_set_aside_holds_up_nobody_and_comes_back_in_time() {
    let (at, mut line) = (Moment::from_seconds, WaitingLine::new(9));
    line.join(standing(5, "spent", 1_000, 1), "spent 1").unwrap();
    line.join(standing(5, "spent", 1_000, 1), "spent 2").unwrap();
    line.join(standing(2, "spent", 1_000, 1), "elsewhere").unwrap();
    line.join(standing(5, "other", 1_000, 1), "other").unwrap();
    line.set_aside(line.next_ticket().unwrap(), at(60));
    assert_eq!((line.head(), line.next_back()), (Some(&"other"), Some(at(60))));
    line.bring_back(at(59));
    assert_eq!(serve_next(&mut line), Some("other"));
    assert_eq!(line.head(), Some(&"elsewhere"), "each priority finds out for itself");
    line.bring_back(at(60));
    assert_eq!(serve_all(&mut line), ["spent 1", "spent 2", "elsewhere"]);
}

#[test]
fn what_is_ahead_is_never_more_than_what_goes_ahead() {
    let mut line = WaitingLine::new(2_000);
    for place in 0..1_000_u64 {
        let tenant = TENANTS[place as usize % 4];
        line.join(standing((place % 3) as u8, tenant, 1_000, 1 + place % 7), place).unwrap();
    }
    for priority in 0..4 {
        let mine = standing(priority, "b", 1_000, 5);
        let ahead = line.ahead_of(&mine);
        let ticket = line.join(mine, u64::MAX).unwrap();
        let order = line.in_order();
        let place = order.iter().position(|(one, ..)| *one == ticket).unwrap();
        assert!(ahead.requests <= place as u64, "{priority}: {ahead:?}, {place}");
        line.leave(ticket);
    }
}

#[test]
fn clearing_takes_the_lower_priorities_only() {
    let mut line = WaitingLine::new(10);
    for priority in [1, 2, 3, 5] {
        line.join(plain(priority), priority).unwrap();
    }
    assert_eq!(line.clear(Some(3)), [1, 2]);
    assert_eq!(line.len(), 2);
    assert_eq!(line.clear(None), [3, 5]);
    assert_eq!((line.len(), line.next_ticket()), (0, None));
}
