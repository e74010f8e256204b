//! Moments: points on the wall clock, passed in as arguments.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Nanoseconds since 1970-01-01T00:00:00Z.
///
/// Quotas outlive processes, so the kernel counts on the wall clock and not on a monotonic one;
/// every state that holds a `Moment` therefore says what happens when the clock is stepped.
///
/// ```
/// use std::time::Duration;
/// use quotaflow::kernel::Moment;
/// let noon = Moment::from_seconds(43_200);
/// assert_eq!(noon + Duration::from_secs(1) - noon, Duration::from_secs(1));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Moment(i64);

impl Moment {
    /// The Unix epoch.
    pub const EPOCH: Moment = Moment(0);
    /// Later than anything that is really waited for.
    pub const FAR_FUTURE: Moment = Moment(i64::MAX);

    /// A moment from nanoseconds since the epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Moment(nanos)
    }

    /// A moment from whole seconds since the epoch.
    pub const fn from_seconds(seconds: i64) -> Self {
        Moment(seconds.saturating_mul(1_000_000_000))
    }

    /// A moment from milliseconds since the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Moment(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Seconds since the epoch, with fraction.
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// How long after `earlier` this is; zero when it is before.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0).max(0) as u64)
    }

    /// This moment moved back by `span`.
    pub fn before(self, span: Duration) -> Moment {
        Moment(self.0.saturating_sub(nanos(span)))
    }

    /// The moment as a civil time in `zone`.
    pub fn in_zone(self, zone: &jiff::tz::TimeZone) -> jiff::Zoned {
        let timestamp =
            jiff::Timestamp::from_nanosecond(i128::from(self.0)).unwrap_or(jiff::Timestamp::MAX);
        timestamp.to_zoned(zone.clone())
    }

    /// A civil time back to a moment; saturates at the ends of the scale.
    pub fn from_zoned(zoned: &jiff::Zoned) -> Moment {
        let nanos = zoned.timestamp().as_nanosecond();
        Moment(i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX }))
    }
}

fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

impl Add<Duration> for Moment {
    type Output = Moment;
    fn add(self, span: Duration) -> Moment {
        Moment(self.0.saturating_add(nanos(span)))
    }
}

impl Sub for Moment {
    type Output = Duration;
    fn sub(self, earlier: Moment) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Display for Moment {
    /// RFC 3339 in UTC, to the second: what logs and error texts print.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_second(self.0.div_euclid(1_000_000_000)) {
            Ok(timestamp) => write!(f, "{timestamp}"),
            Err(_) => f.write_str("the far future"),
        }
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(timestamp) => write!(f, "{timestamp}"),
            Err(_) => write!(f, "{}ns", self.0),
        }
    }
}
