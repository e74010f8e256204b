//! Tests of the waiting line under any order of arrivals and departures.

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
    let ticket = line.next_ticket()?;
    let size = line.places[&ticket.0].standing.size;
    let (who, paid) = line.serve(ticket)?;
    if let Some(paid) = paid {
        line.settle(paid, &size);
    }
    Some(who)
}

fn serve_all<T>(line: &mut WaitingLine<T>) -> Vec<T> {
    std::iter::from_fn(|| serve_next(line)).collect()
}

const TENANTS: [&str; 4] = ["", "a", "b", "c"];

proptest! {
    /// Equal priority is served in order of arrival; every call is served; none is passed by more than nineteen others
    /// for each place before it in order of arrival.
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
    fn nobody_is_lost_whatever_happens(acts in prop::collection::vec((0_u8..10, 0_u8..4, 0_usize..4, 1_u64..50), 1..400)) {
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
                8 => line.bring_back_tenant(TENANTS[tenant]),
                _ => line.bring_back(now),
            }
            prop_assert_eq!(line.aside_of.values().flatten().count(), line.set_aside_count());
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
fn a_tenant_comes_back_before_its_time_and_alone() {
    let (at, mut line) = (Moment::from_seconds, WaitingLine::new(9));
    line.rejoin(standing(5, "spent", 1_000, 1), "again").unwrap();
    line.join(standing(5, "spent", 1_000, 1), "new").unwrap();
    line.join(standing(2, "spent", 1_000, 1), "elsewhere").unwrap();
    line.join(standing(4, "poor", 1_000, 1), "poor").unwrap();
    (0..4).for_each(|_| line.set_aside(line.next_ticket().unwrap(), at(60)));
    assert_eq!((line.head(), line.set_aside_count()), (None, 4));
    line.bring_back_tenant("nobody");
    assert_eq!(line.head(), None);
    line.bring_back_tenant("spent");
    assert_eq!(serve_all(&mut line), ["again", "new", "elsewhere"]);
    assert_eq!((line.len(), line.set_aside_count()), (1, 1));
    line.bring_back(at(60));
    assert_eq!(serve_all(&mut line), ["poor"]);
    assert_eq!(line.set_aside_count(), 0);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// New tenants come as fast as others are served, for ever: a tenant with several calls, whatever their size, gets
    /// its share all the same, as far as weights and tokens say and no later.
    #[test]
    fn nobody_starves_while_ever_new_tenants_come(
        seed in any::<u64>(),
        kept in 1_u64..9,
        largest in 1_u64..500,
        weight in 1_u32..5,
        own in prop::collection::vec(1_u64..5_000, 2..5),
    ) {
        let mut random = Lcg(seed);
        let mut line = WaitingLine::new(1_000);
        let mut new = 0;
        let mut comes = |line: &mut WaitingLine<u64>, random: &mut Lcg| {
            new += 1;
            let who = standing(3, &format!("new {new}"), 1_000, 1 + random.below(largest));
            line.join(who, u64::MAX).unwrap();
        };
        (0..kept).for_each(|_| comes(&mut line, &mut random));
        for (place, tokens) in own.iter().enumerate() {
            line.join(standing(3, "x", weight * 1_000, *tokens), place as u64).unwrap();
        }
        let weights = kept + u64::from(weight);
        let (mut others, mut before) = (0, 0);
        for (place, tokens) in own.iter().enumerate() {
            let most = before * weights / u64::from(weight) + (kept + 2) * largest;
            loop {
                let ticket = line.next_ticket().unwrap();
                let size = line.places[&ticket.0].standing.size;
                let who = serve_next(&mut line).unwrap();
                if who == place as u64 {
                    break;
                }
                others += size.input_tokens;
                comes(&mut line, &mut random);
                prop_assert!(others <= most, "{others} tokens of others before call {place}: {most}");
            }
            before += tokens;
        }
    }

    /// What is used counts, whatever was declared, however many are under way at once, and although some are refused
    /// and come back: over a long backlog the shares of what was used are within five in a hundred of the weights.
    #[test]
    fn tenants_pay_for_what_they_used(
        seed in any::<u64>(),
        weights in prop::collection::vec(1_u32..6, 3),
        declared in prop::collection::vec(prop::sample::select(vec![0.1, 1.0, 3.0, 10.0]), 3),
        under_way in 0_usize..12,
    ) {
        let mut random = Lcg(seed);
        let mut line = WaitingLine::new(1_000);
        let say = |tenant: usize, used: u64| {
            let tokens = (used as f64 * declared[tenant]) as u64;
            let size = Amounts { requests: 1, input_tokens: 1, output_tokens: tokens, spend: 0 };
            Standing { priority: 3, tenant: TENANTS[tenant].into(), weight: weights[tenant] * 1_000, size }
        };
        for tenant in 0..3 {
            for _ in 0..16 {
                let used = 1 + random.below(400);
                line.join(say(tenant, used), (tenant, used)).unwrap();
            }
        }
        let mut going = std::collections::VecDeque::new();
        let mut got = [0.0; 3];
        for turn in 0..12_000 {
            let ticket = line.next_ticket().unwrap();
            let ((tenant, used), paid) = line.serve(ticket).unwrap();
            going.push_back((tenant, used, paid.unwrap()));
            while going.len() > under_way {
                let (tenant, used, paid) = going.pop_front().unwrap();
                if random.below(10) == 0 {
                    let refused = Amounts { requests: 1, ..Amounts::default() };
                    line.settle(paid, &refused);
                    line.rejoin(say(tenant, used), (tenant, used)).unwrap();
                    continue;
                }
                // What is under way counts as what was declared, so the beginning tells of that.
                got[tenant] += if turn > 2_000 { used as f64 } else { 0.0 };
                line.settle(paid, &Amounts { requests: 1, output_tokens: used, ..Amounts::default() });
                let used = 1 + random.below(400);
                line.join(say(tenant, used), (tenant, used)).unwrap();
            }
        }
        let (total, weight): (f64, u32) = (got.iter().sum(), weights.iter().sum());
        for tenant in 0..3 {
            let (share, right) = (got[tenant] / total, f64::from(weights[tenant]) / f64::from(weight));
            prop_assert!((share / right - 1.0).abs() < 0.05, "{tenant}: {share} instead of {right}");
        }
    }
}

#[test]
fn what_is_paid_back_to_somebody_who_was_away_is_no_turn_saved_up() {
    let mut line = WaitingLine::new(100);
    let join = |line: &mut WaitingLine<&'static str>, who: &'static str, tokens: u64| {
        line.join(standing(3, who, 1_000, tokens), who).unwrap();
    };
    join(&mut line, "careful", 4_000);
    let ticket = line.next_ticket().unwrap();
    let (_, paid) = line.serve(ticket).unwrap();
    (0..20).for_each(|_| join(&mut line, "busy", 10));
    (0..8).for_each(|_| assert_eq!(serve_next(&mut line), Some("busy")));
    // It comes back while its first call is under way, and only then is it known how little that used.
    (0..4).for_each(|_| join(&mut line, "careful", 10));
    line.settle(paid.unwrap(), &Amounts { requests: 1, input_tokens: 10, ..Amounts::default() });
    let served: Vec<_> = (0..6).filter_map(|_| serve_next(&mut line)).collect();
    assert_eq!(served.iter().filter(|who| **who == "careful").count(), 3, "{served:?}");
}

#[test]
fn who_used_more_than_it_said_pays_for_it_when_it_is_known() {
    let mut line = WaitingLine::new(100);
    for who in ["short", "long"] {
        (0..9).for_each(|_| _ = line.join(standing(3, who, 1_000, 10), who).unwrap());
    }
    for _ in 0..2 {
        let (who, paid) = line.serve(line.next_ticket().unwrap()).unwrap();
        let used = if who == "long" { 40 } else { 10 };
        let used = Amounts { requests: 1, output_tokens: used, ..Amounts::default() };
        line.settle(paid.unwrap(), &used);
    }
    let served: Vec<_> = (0..5).filter_map(|_| serve_next(&mut line)).collect();
    assert_eq!(served, ["short", "short", "short", "short", "long"]);
}

#[test]
fn no_weight_keeps_anybody_out_for_ever() {
    let mut line = WaitingLine::new(100);
    let heavy = || standing(3, "heavy", 1_000_000_000, 1);
    line.join(standing(3, "light", 1, 5_000), "light").unwrap();
    line.join(standing(3, "light", 1, 5_000), "light").unwrap();
    line.join(heavy(), "heavy").unwrap();
    let mut turns = Vec::new();
    for turn in 0..5_000 {
        let who = serve_next(&mut line).unwrap();
        if who == "light" {
            turns.push(turn);
        } else {
            line.join(heavy(), who).unwrap();
        }
    }
    assert_eq!(turns.len(), 2, "{turns:?}");
    assert!(turns[1] <= 1 + 2 * PASSED_AT_MOST + TURNS_BY_AGE, "{turns:?}");
}

#[test]
fn who_waits_for_no_limit_stands_before_everybody_and_takes_nobodys_turn() {
    let mut line = WaitingLine::new(30);
    line.join(plain(1), "old").unwrap();
    (0..12).for_each(|_| _ = line.join(plain(9), "urgent").unwrap());
    line.join_ahead(plain(3), "ahead 1").unwrap();
    line.join_ahead(plain(0), "ahead 2").unwrap();
    assert_eq!(line.ahead_of(&plain(9)).requests, 14, "whoever is ahead, and its own");
    let listed: Vec<_> = line.in_order().into_iter().map(|(_, _, who)| *who).collect();
    assert_eq!(listed[..3], ["ahead 1", "ahead 2", "urgent"]);
    let (_, paid) = line.serve(line.next_ticket().unwrap()).unwrap();
    assert_eq!((paid, line.since_age), (None, 0));
    assert_eq!(line.clear(Some(1)), ["ahead 2"]);
    assert_eq!(line.head(), Some(&"urgent"));
}

#[test]
fn a_turn_by_age_that_was_put_off_for_long_enough_takes_what_is_kept() {
    let mut line = WaitingLine::new(30);
    line.join(plain(1), "old").unwrap();
    for _ in 0..19 {
        line.join(plain(5), "urgent").unwrap();
        assert!(!line.takes_what_is_kept());
        assert_eq!(serve_next(&mut line), Some("urgent"));
    }
    line.join(plain(5), "late").unwrap();
    assert_eq!((line.head(), line.takes_what_is_kept()), (Some(&"old"), true));
    serve_next(&mut line);
    assert_eq!((line.head(), line.takes_what_is_kept()), (Some(&"late"), false));
}

#[test]
fn what_those_need_who_come_back_is_known_whoever_of_them_steps_aside() {
    let mut line = WaitingLine::new(9);
    let tickets: Vec<_> =
        (1..4).map(|tokens| line.rejoin(standing(3, "", 1_000, tokens), tokens).unwrap()).collect();
    let ahead = |line: &WaitingLine<u64>| line.ahead_of(&plain(3)).input_tokens;
    assert_eq!(ahead(&line), 6);
    line.set_aside(tickets[0], Moment::from_seconds(60));
    assert_eq!(ahead(&line), 5);
    line.leave(tickets[1]);
    assert_eq!(ahead(&line), 3);
    line.bring_back(Moment::from_seconds(60));
    assert_eq!(ahead(&line), 4);
    serve_all(&mut line);
    assert!(line.classes.is_empty());
}
