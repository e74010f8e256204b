//! The allowance: what is left of one limit, and when there is more.
//!
//! Straight from the definitions and in whole numbers: a bucket is a level that rises, a rolling window is a list of
//! what was taken when, a fixed or civil window is a counter with an end. This is on purpose not the arithmetic of
//! the kernel: two ways to count that agree are a proof, one way used twice is not.

use std::collections::VecDeque;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// How long something must wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wait {
    /// Not at all.
    Not,
    /// So many nanoseconds.
    Nanos(i64),
    /// No wait is long enough.
    Never,
}

/// One limit and what is left of it. Times are nanoseconds since the epoch.
#[derive(Clone, Debug)]
pub(super) enum Allowance {
    /// Rises all the time.
    Bucket(Bucket),
    /// Counts what was taken in the window that ends now.
    Rolling(Rolling),
    /// Counts from one boundary of the clock or the calendar to the next.
    Window(Window),
}

impl Allowance {
    /// A full bucket of `capacity` that gains `amount` per `window`.
    pub(super) fn bucket(amount: u64, capacity: u64, window: i64, now: i64) -> Self {
        let (amount, capacity, window) = (amount.into(), i128::from(capacity), i128::from(window));
        Allowance::Bucket(Bucket { amount, capacity, window, level: capacity * window, last: now })
    }

    /// At most `amount` in any `window`.
    pub(super) fn rolling(amount: u64, window: i64) -> Self {
        Allowance::Rolling(Rolling { amount, window, taken: VecDeque::new(), used: 0 })
    }

    /// At most `amount` from one multiple of `window` since the epoch to the next.
    pub(super) fn fixed(amount: u64, window: i64) -> Self {
        let boundary = Boundary::Every(window);
        Allowance::Window(Window { amount, boundary, starts: 0, ends: 0, used: 0 })
    }

    /// At most `amount` from midnight to midnight in `zone`.
    pub(super) fn calendar_day(amount: u64, zone: TimeZone) -> Self {
        let boundary = Boundary::Midnight(zone);
        Allowance::Window(Window { amount, boundary, starts: 0, ends: 0, used: 0 })
    }

    /// How long `wanted` must wait for its turn.
    pub(super) fn wait_for(&mut self, wanted: u64, now: i64) -> Wait {
        match self {
            Allowance::Bucket(bucket) => bucket.wait_for(wanted, now),
            Allowance::Rolling(rolling) => rolling.wait_for(wanted, now),
            Allowance::Window(window) => window.wait_for(wanted, now),
        }
    }

    /// Takes `wanted`, whether or not there is enough: what is taken too much is owed.
    pub(super) fn take(&mut self, wanted: u64, now: i64) {
        match self {
            Allowance::Bucket(bucket) => bucket.take(wanted, now),
            Allowance::Rolling(rolling) => rolling.take(wanted, now),
            Allowance::Window(window) => window.take(wanted, now),
        }
    }

    /// What was taken at `taken_at` was really `change` more (or less, when it is negative).
    pub(super) fn correct(&mut self, change: i64, taken_at: i64, now: i64) {
        match self {
            Allowance::Bucket(bucket) => bucket.correct(change, now),
            Allowance::Rolling(rolling) => rolling.correct(change, taken_at, now),
            Allowance::Window(window) => window.correct(change, taken_at, now),
        }
    }

    /// How much of `amount` is not used, in whole units.
    pub(super) fn left(&mut self, now: i64) -> u64 {
        match self {
            Allowance::Bucket(bucket) => bucket.left(now),
            Allowance::Rolling(rolling) => {
                rolling.forget(now);
                rolling.amount.saturating_sub(rolling.used)
            }
            Allowance::Window(window) => {
                window.turn(now);
                window.amount.saturating_sub(window.used)
            }
        }
    }

    /// How many nanoseconds until all of it is there again.
    pub(super) fn whole_in(&mut self, now: i64) -> i64 {
        match self {
            Allowance::Bucket(bucket) => bucket.whole_in(now),
            Allowance::Rolling(rolling) => {
                rolling.forget(now);
                rolling.taken.back().map_or(0, |(at, _)| (at + rolling.window - now).max(0))
            }
            Allowance::Window(window) => {
                window.turn(now);
                if window.used == 0 { 0 } else { window.ends - now }
            }
        }
    }
}

/// A level that rises by `amount` units per `window`, up to `capacity` units.
///
/// The level is kept in units times nanoseconds of the window, so that each nanosecond adds exactly `amount`.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    amount: i128,
    capacity: i128,
    window: i128,
    level: i128,
    last: i64,
}

impl Bucket {
    fn rise(&mut self, now: i64) {
        // A clock that steps back adds nothing, and nothing twice when it comes forward again.
        if now > self.last {
            let gained = i128::from(now - self.last) * self.amount;
            self.level = (self.level + gained).min(self.capacity * self.window);
            self.last = now;
        }
    }

    fn wait_for(&mut self, wanted: u64, now: i64) -> Wait {
        self.rise(now);
        let wanted = i128::from(wanted);
        if wanted > self.capacity || self.amount == 0 {
            return Wait::Never;
        }
        match wanted * self.window - self.level {
            missing if missing <= 0 => Wait::Not,
            missing => Wait::Nanos(whole_steps(missing, self.amount)),
        }
    }

    fn take(&mut self, wanted: u64, now: i64) {
        self.rise(now);
        self.level -= i128::from(wanted) * self.window;
    }

    fn correct(&mut self, change: i64, now: i64) {
        self.rise(now);
        self.level =
            (self.level - i128::from(change) * self.window).min(self.capacity * self.window);
    }

    /// What the provider would call remaining: the amount less what is missing to a full bucket.
    fn left(&mut self, now: i64) -> u64 {
        self.rise(now);
        let missing = self.capacity * self.window - self.level;
        let left = self.amount - (missing + self.window - 1).div_euclid(self.window);
        u64::try_from(left).unwrap_or(0)
    }

    fn whole_in(&mut self, now: i64) -> i64 {
        self.rise(now);
        match self.capacity * self.window - self.level {
            missing if missing > 0 && self.amount > 0 => whole_steps(missing, self.amount),
            _ => 0,
        }
    }
}

/// `missing / step`, rounded up.
fn whole_steps(missing: i128, step: i128) -> i64 {
    i64::try_from((missing + step - 1) / step).unwrap_or(i64::MAX)
}

/// Everything taken in the window that ends now.
#[derive(Clone, Debug)]
pub(super) struct Rolling {
    amount: u64,
    window: i64,
    taken: VecDeque<(i64, u64)>,
    used: u64,
}

impl Rolling {
    fn forget(&mut self, now: i64) {
        while let Some(&(at, amount)) = self.taken.front() {
            if at > now - self.window {
                break;
            }
            self.used -= amount;
            self.taken.pop_front();
        }
    }

    fn wait_for(&mut self, wanted: u64, now: i64) -> Wait {
        self.forget(now);
        if wanted > self.amount {
            return Wait::Never;
        }
        let mut used = self.used;
        let mut free_at = now;
        let mut oldest = self.taken.iter();
        while used + wanted > self.amount {
            let Some((at, amount)) = oldest.next() else { return Wait::Never };
            used -= amount;
            free_at = at + self.window;
        }
        if free_at <= now { Wait::Not } else { Wait::Nanos(free_at - now) }
    }

    fn take(&mut self, wanted: u64, now: i64) {
        self.forget(now);
        self.used += wanted;
        match self.taken.back_mut() {
            Some((at, amount)) if *at >= now => *amount += wanted,
            _ => self.taken.push_back((now, wanted)),
        }
    }

    fn correct(&mut self, change: i64, taken_at: i64, now: i64) {
        self.forget(now);
        let entry = self.taken.iter_mut().rev().find(|(at, _)| *at <= taken_at);
        let Some((_, amount)) = entry else { return };
        let corrected = amount.saturating_add_signed(change);
        self.used = self.used - *amount + corrected;
        *amount = corrected;
    }
}

/// Where one window ends and the next begins.
#[derive(Clone, Debug)]
enum Boundary {
    /// At every multiple of so many nanoseconds since the epoch.
    Every(i64),
    /// At every midnight of a zone.
    Midnight(TimeZone),
}

/// Everything taken since the last boundary.
#[derive(Clone, Debug)]
pub(super) struct Window {
    amount: u64,
    boundary: Boundary,
    starts: i64,
    ends: i64,
    used: u64,
}

impl Window {
    fn turn(&mut self, now: i64) {
        // A clock that steps back stays in the window it was in.
        if now >= self.ends {
            (self.starts, self.ends) = match &self.boundary {
                Boundary::Every(window) => {
                    let starts = now - now.rem_euclid(*window);
                    (starts, starts + window)
                }
                Boundary::Midnight(zone) => day_around(now, zone),
            };
            self.used = 0;
        }
    }

    fn wait_for(&mut self, wanted: u64, now: i64) -> Wait {
        self.turn(now);
        if wanted > self.amount {
            Wait::Never
        } else if self.used + wanted <= self.amount {
            Wait::Not
        } else {
            Wait::Nanos(self.ends - now)
        }
    }

    fn take(&mut self, wanted: u64, now: i64) {
        self.turn(now);
        self.used += wanted;
    }

    fn correct(&mut self, change: i64, taken_at: i64, now: i64) {
        self.turn(now);
        if taken_at >= self.starts {
            self.used = self.used.saturating_add_signed(change);
        }
    }
}

/// The civil day of `zone` around `now`: its first nanosecond and the first of the next.
fn day_around(now: i64, zone: &TimeZone) -> (i64, i64) {
    let midnight = |date: Date| {
        let zoned = date.to_zoned(zone.clone()).ok()?;
        i64::try_from(zoned.timestamp().as_nanosecond()).ok()
    };
    let day = || {
        let date = Timestamp::from_nanosecond(now.into()).ok()?.to_zoned(zone.clone()).date();
        Some((midnight(date)?, midnight(date.tomorrow().ok()?)?))
    };
    // Outside the years that a calendar knows, a day that never ends is the strict answer.
    day().unwrap_or((now, i64::MAX))
}
