//! The contract of `QuotaStore`, held to by every store.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use quotaflow::kernel::{
    AnswerCharged, Block, FailureClass, Moment, Origin, Period, RateHint, Refill, Resource,
    SinceTold, Source,
};
use quotaflow::stores::{KeptAnswer, MemoryStore, QuotaStore, SqliteStore};

use crate::stores::{NOW, ONE, a_day, id, limit, look, sent, sqlite, take, used};

/// One behaviour suite, run against every store.
macro_rules! every_store {
    ($($behaviour:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $behaviour() {
                super::$behaviour(std::sync::Arc::new(super::MemoryStore::default()));
            })*
        }
        mod in_a_file {
            $(#[test] fn $behaviour() {
                let folder = tempfile::tempdir().unwrap();
                super::$behaviour(crate::stores::sqlite(&folder.path().join("state.db")));
            })*
        }
    };
}

every_store!(
    as_many_are_granted_as_are_allowed,
    no_update_is_lost_and_several_ledgers_change_together,
    an_update_names_ledgers_by_their_place,
    every_ledger_that_holds_something_is_listed,
    calls_in_flight_are_counted_and_end,
    a_closure_that_panics_takes_nobody_elses_turn,
    the_salt_does_not_change,
    answers_are_kept_while_they_are_young_and_the_oldest_go_first,
    answers_are_forgotten_one_by_one_or_all,
);

type Store = Arc<dyn QuotaStore>;

fn as_many_are_granted_as_are_allowed(store: Store) {
    let allowed = a_day(100);
    let grants = |_| {
        let (store, allowed) = (store.clone(), allowed.clone());
        std::thread::spawn(move || {
            (0..40).filter(|_| take(&*store, "group", &allowed).unwrap()).count()
        })
    };
    let threads: Vec<_> = (0..8).map(grants).collect();
    let granted: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(granted, 100);
    assert_eq!((sent(&*store, "group"), used(&*store, "group", &allowed)), (100, vec![100]));
}

fn no_update_is_lost_and_several_ledgers_change_together(store: Store) {
    let worker = |number: usize| {
        let store = store.clone();
        std::thread::spawn(move || {
            // Half of them name the ledgers the other way round.
            let mut ids = [id("left"), id("right")];
            ids.rotate_left(number % 2);
            for _ in 0..50 {
                let mut balanced = false;
                store
                    .update(&ids, &mut |ledgers| {
                        balanced = ledgers.get(0).totals().sent == ledgers.get(1).totals().sent;
                        ledgers.get_mut(0).take(&ONE, AnswerCharged::AtOnce, NOW);
                        ledgers.get_mut(1).take(&ONE, AnswerCharged::AtOnce, NOW);
                    })
                    .unwrap();
                assert!(balanced, "half an update was seen");
            }
        })
    };
    let threads: Vec<_> = (0..6).map(worker).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!((sent(&*store, "left"), sent(&*store, "right")), (300, 300));
}

fn an_update_names_ledgers_by_their_place(store: Store) {
    store.update(&[id("a"), id("b")], &mut |ledgers| ledgers.get_mut(1).join("b")).unwrap();
    let mut seen = Vec::new();
    store
        .update(&[id("b"), id("new"), id("a")], &mut |ledgers| {
            seen = (0..ledgers.len())
                .map(|place| ledgers.get(place).member_of().map(str::to_owned))
                .collect();
        })
        .unwrap();
    assert_eq!(seen, [Some("b".to_owned()), None, None]);
    let mut count = None;
    store.update(&[], &mut |ledgers| count = Some(ledgers.len())).unwrap();
    assert_eq!(count, Some(0), "an update of nothing still runs");
}

fn every_ledger_that_holds_something_is_listed(store: Store) {
    assert_eq!(store.ids().unwrap(), []);
    for name in ["b", "a"] {
        assert!(take(&*store, name, &a_day(1)).unwrap());
    }
    assert!(!take(&*store, "a", &a_day(1)).unwrap());
    assert_eq!(store.ids().unwrap(), [id("a"), id("b")]);
    look(&*store, "c", |_| ());
    assert_eq!(store.ids().unwrap(), [id("a"), id("b")], "looking makes no ledger");
}

fn calls_in_flight_are_counted_and_end(store: Store) {
    let most = vec![limit(Resource::Concurrency, Period::Second, 2, Refill::Release)].into();
    let taken: Vec<bool> = (0..3).map(|_| take(&*store, "group", &most).unwrap()).collect();
    assert_eq!(taken, [true, true, false]);
    store.update(&[id("group")], &mut |ledgers| ledgers.get_mut(0).ended(NOW)).unwrap();
    assert_eq!(look(&*store, "group", |ledger| ledger.in_flight()), 1);
    assert!(take(&*store, "group", &most).unwrap());
}

fn a_closure_that_panics_takes_nobody_elses_turn(store: Store) {
    let allowed = a_day(3);
    assert!(take(&*store, "group", &allowed).unwrap());
    panic_in_an_update(&*store);
    let after: Vec<bool> = (0..3).map(|_| take(&*store, "group", &allowed).unwrap()).collect();
    assert_eq!((after[0], after[2]), (true, false), "it may count too much, never too little");
}

fn panic_in_an_update(store: &dyn QuotaStore) {
    let panics = || {
        let _ = store.update(&[id("group"), id("other")], &mut |ledgers| {
            ledgers.get_mut(0).take(&ONE, AnswerCharged::AtOnce, NOW);
            panic!("a bug in a rule");
        });
    };
    assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
}

fn the_salt_does_not_change(store: Store) {
    let before = store.salt().to_owned();
    assert!(take(&*store, "group", &a_day(1)).unwrap());
    assert_eq!(store.salt(), before);
    assert!(!before.is_empty());
}

#[test]
fn ledgers_come_back_from_the_file_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep").join("state.db");
    let la = Refill::Calendar { zone: "America/Los_Angeles".to_owned() };
    let limits: quotaflow::kernel::Configured = vec![
        limit(
            Resource::Requests,
            Period::Minute,
            60,
            Refill::Bucket { burst: 20.try_into().unwrap() },
        ),
        limit(Resource::Requests, Period::Day, 200, la),
        limit(Resource::Tokens, Period::Day, 9_000, Refill::Rolling),
    ]
    .into();
    let block = Block {
        class: FailureClass::DailyQuota,
        until: NOW + Duration::from_secs(3_600),
        origin: Origin::Provider,
        since: NOW,
        strikes: 0,
        probe_until: None,
    };
    let told = RateHint {
        resource: Resource::InputTokens,
        period: Period::Minute,
        amount: Some(40_000),
        remaining: Some(39_000),
        reset_after: None,
        refills_continuously: true,
        zone: None,
    };
    let state = |store: &dyn QuotaStore, now: Moment| {
        let mut seen = None;
        store
            .update(&[id("group")], &mut |ledgers| {
                let ledger = ledgers.get_mut(0);
                ledger.conform(&limits, now);
                seen = Some((
                    ledger.meters(now),
                    ledger.blocks().clone(),
                    ledger.member_of().map(str::to_owned),
                    ledger.totals(),
                    ledger.outputs().p95(),
                ));
            })
            .unwrap();
        seen.unwrap()
    };
    let store = sqlite(&path);
    store
        .update(&[id("group")], &mut |ledgers| {
            let ledger = ledgers.get_mut(0);
            ledger.conform(&limits, NOW);
            for _ in 0..7 {
                ledger.take(
                    &quotaflow::kernel::Amounts { input_tokens: 300, ..ONE },
                    AnswerCharged::AtOnce,
                    NOW,
                );
            }
            ledger.learn_limit(&told, SinceTold::default(), NOW, NOW);
            ledger.block(block.clone(), NOW);
            ledger.join("org-acme");
            (0..20).for_each(|_| ledger.record_output_size(77, None));
        })
        .unwrap();
    let before = state(&*store, NOW);
    drop(store);

    let reopened = sqlite(&path);
    let after = state(&*reopened, NOW);
    assert_eq!(after, before);
    let (meters, blocks, member_of, totals, outputs) = after;
    let learned: Vec<_> =
        meters.iter().filter(|(limit, ..)| limit.source == Source::Provider).collect();
    assert_eq!(learned.len(), 1);
    assert_eq!(learned[0].0.amount.get(), 40_000);
    assert_eq!(meters.iter().map(|(_, used, _)| *used).collect::<Vec<_>>(), [7, 7, 2_100, 1_000]);
    assert_eq!(blocks.in_force(NOW), Some(block));
    assert_eq!((member_of.as_deref(), totals.sent), (Some("org-acme"), 7));
    assert!(outputs.is_some());
    assert_eq!(look(&*reopened, "group", |ledger| ledger.in_flight()), 0, "a crash leaks no call");
}

#[test]
fn what_is_in_flight_here_is_kept_when_another_connection_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let (here, there) = (sqlite(&path), sqlite(&path));
    let allowed = a_day(10);
    for _ in 0..2 {
        assert!(take(&*here, "group", &allowed).unwrap());
    }
    assert!(take(&*there, "group", &allowed).unwrap());
    assert_eq!(used(&*here, "group", &allowed), [3]);
    let in_flight = |store: &dyn QuotaStore| look(store, "group", |ledger| ledger.in_flight());
    assert_eq!((in_flight(&*here), in_flight(&*there)), (2, 1));
    here.update(&[id("group")], &mut |ledgers| ledgers.get_mut(0).ended(NOW)).unwrap();
    assert!(take(&*there, "group", &allowed).unwrap());
    assert_eq!((in_flight(&*here), in_flight(&*there)), (1, 2));
    assert_eq!(there.ids().unwrap(), here.ids().unwrap());
}

#[test]
fn connections_to_one_file_grant_together_what_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let worker = |_| {
        // Opened at the same time: whoever comes first makes the file.
        let path = path.clone();
        std::thread::spawn(move || {
            let (store, allowed) = (sqlite(&path), a_day(100));
            let granted = (0..60).filter(|_| take(&*store, "group", &allowed).unwrap()).count();
            (granted, store.salt().to_owned())
        })
    };
    let threads: Vec<_> = (0..4).map(worker).collect();
    let ended: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(ended.iter().map(|(granted, _)| granted).sum::<usize>(), 100);
}

#[test]
fn many_may_make_the_same_file_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..40 {
        let path = folder.path().join(format!("{round}.db"));
        let barrier = Arc::new(std::sync::Barrier::new(4));
        let open = |number: usize| {
            let (path, barrier) = (path.clone(), barrier.clone());
            std::thread::spawn(move || {
                barrier.wait();
                let opened = SqliteStore::open(&path, &format!("salt {number}"));
                opened.map(|store| store.salt().to_owned())
            })
        };
        let threads: Vec<_> = (0..4).map(open).collect();
        let salts: Vec<String> =
            threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect();
        assert!(salts.iter().all(|salt| *salt == salts[0]), "{salts:?}");
    }
}

#[test]
fn a_file_keeps_nothing_of_an_update_that_panicked_and_locks_nobody_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let (store, other, allowed) = (sqlite(&path), sqlite(&path), a_day(3));
    assert!(take(&*store, "group", &allowed).unwrap());
    panic_in_an_update(&*store);
    assert_eq!(look(&*store, "group", |ledger| ledger.in_flight()), 1);
    assert_eq!(used(&*other, "group", &allowed), [1]);
    assert!(take(&*other, "group", &allowed).unwrap());
    assert_eq!(used(&*store, "group", &allowed), [2]);
}

#[test]
fn a_file_keeps_the_salt_it_was_made_with() {
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str, salt| {
        SqliteStore::open(&folder.path().join(name), salt).unwrap().salt().to_owned()
    };
    assert_eq!(open("one.db", "first"), "first");
    assert_eq!(open("one.db", "second"), "first");
    assert_eq!(open("two.db", "second"), "second");
}

#[test]
#[cfg(unix)]
fn a_folder_made_for_the_state_is_nobody_elses() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("quotaflow");
    drop(sqlite(&made.join("state.db")));
    assert_eq!(std::fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o700);
}

fn answers_are_kept_while_they_are_young_and_the_oldest_go_first(store: Store) {
    let later = |seconds| NOW + Duration::from_secs(seconds);
    let keep = |name: &str, answer: &str, at: Moment| {
        let kept = KeptAnswer { name: name.as_bytes(), answer: answer.as_bytes(), at };
        store.keep_answer(&kept, 1_000).unwrap();
    };
    let get = |name: &str, since: Moment| {
        let answer = store.answer(name.as_bytes(), since).unwrap();
        answer.map(|answer| String::from_utf8(answer).unwrap())
    };
    assert_eq!(get("a", NOW), None);
    keep("a", "first", NOW);
    assert_eq!(get("a", NOW).as_deref(), Some("first"));
    assert_eq!(get("a", later(1)), None, "too old for whoever asks this");
    keep("a", "second", later(5));
    assert_eq!(get("a", later(1)).as_deref(), Some("second"));
    let names: Vec<String> = (0..20).map(|number| format!("n{number}")).collect();
    names.iter().for_each(|name| keep(name, &"x".repeat(100), later(6)));
    let left: Vec<bool> = names.iter().map(|name| get(name, NOW).is_some()).collect();
    assert_eq!(get("a", NOW), None);
    assert_eq!(left.iter().filter(|left| **left).count(), 5, "{left:?}");
    assert!(left.is_sorted(), "the newest stay");
    keep("a", &"x".repeat(2_000), later(7));
    assert!(get("a", NOW).is_none(), "what is larger than all there is room for is not kept");
    assert!(get("n19", NOW).is_some(), "and no other goes for it");
}

fn answers_are_forgotten_one_by_one_or_all(store: Store) {
    let keep = |name: &str, answer: &str| {
        let kept = KeptAnswer { name: name.as_bytes(), answer: answer.as_bytes(), at: NOW };
        store.keep_answer(&kept, 1_000).unwrap();
    };
    let left = |names: &[&str]| -> Vec<bool> {
        let there = |name: &&str| store.answer(name.as_bytes(), NOW).unwrap().is_some();
        names.iter().map(there).collect()
    };
    ["a", "b", "c"].iter().for_each(|name| keep(name, "answer"));
    assert_eq!(store.forget_answers(Some(b"b")).unwrap(), 1);
    assert_eq!(store.forget_answers(Some(b"b")).unwrap(), 0);
    assert_eq!(left(&["a", "b", "c"]), [true, false, true]);
    assert_eq!(store.forget_answers(None).unwrap(), 2);
    assert_eq!(left(&["a", "b", "c"]), [false; 3]);
    // What was forgotten takes no room: as many as ever fit.
    (0..200).for_each(|_| keep("again", "x"));
    ["d", "e"].iter().for_each(|name| keep(name, &"x".repeat(300)));
    assert_eq!(left(&["again", "d", "e"]), [true; 3]);
}
