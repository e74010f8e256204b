//! Periods of validity of prices, and dates in model names.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer};

use crate::kernel::Moment;

const SECONDS_OF_DAY: i64 = 86_400;

/// When a price holds, in UTC; by default always.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct When {
    /// From the beginning of this day on.
    #[serde(default, deserialize_with = "day")]
    from: Option<Date>,
    /// Every day from this second…
    #[serde(default)]
    begins: Option<i64>,
    /// … until before this one; past midnight when it is the smaller.
    #[serde(default)]
    ends: Option<i64>,
}

fn day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Date>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

impl When {
    pub(super) fn holds(&self, at: Moment) -> bool {
        let day = self.from.is_none_or(|from| at.in_zone(&TimeZone::UTC).date() >= from);
        let second = at.as_nanos().div_euclid(1_000_000_000).rem_euclid(SECONDS_OF_DAY);
        day && match (self.begins, self.ends) {
            (Some(begins), Some(ends)) if ends < begins => second >= begins || second < ends,
            (Some(begins), Some(ends)) => begins <= second && second < ends,
            _ => true,
        }
    }
}

/// The name with `-20260131` written as `-2026-01-31`, as price lists have it; `None` when there is no such date in it.
pub(super) fn with_dashes(name: &str) -> Option<String> {
    let (mut written, mut rest, mut found) = (String::with_capacity(name.len() + 2), name, false);
    while let Some(dash) = rest.find('-') {
        let (before, after) = rest.split_at(dash + 1);
        written.push_str(before);
        rest = after;
        let ends = after.as_bytes().get(8).is_none_or(|next| matches!(next, b'-' | b':'));
        if let Some(digits) = after.get(..8).filter(|_| ends)
            && let Some(date) = date(digits)
        {
            written.push_str(&date.to_string());
            rest = &after[8..];
            found = true;
        }
    }
    written.push_str(rest);
    found.then_some(written)
}

fn date(digits: &str) -> Option<Date> {
    if !digits.starts_with("20") || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| digits.get(range)?.parse().ok();
    let year: i16 = digits.get(..4)?.parse().ok()?;
    Date::new(year, number(4..6)?, number(6..8)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_dates_of_this_century_are_rewritten() {
        for (name, written) in [
            ("gpt-5.2-20251211", Some("gpt-5.2-2025-12-11")),
            ("gpt-5.2-20251211-mini", Some("gpt-5.2-2025-12-11-mini")),
            ("x-20251211:free", Some("x-2025-12-11:free")),
            ("a-20240229-20250229", Some("a-2024-02-29-20250229")),
            ("gpt-20251311", None),
            ("gpt-19991211", None),
            ("gpt-202512110", None),
            ("gpt-2025-12-11", None),
            ("gpt-2025121é", None),
            ("20251211", None),
            ("-", None),
            ("", None),
        ] {
            assert_eq!(with_dashes(name).as_deref(), written, "{name}");
        }
    }

    #[test]
    fn a_price_holds_from_its_day_and_between_its_hours() {
        let read = |text| serde_json::from_str::<When>(text).unwrap();
        let at = |text: &str| {
            let time: jiff::Timestamp = text.parse().unwrap();
            Moment::from_seconds(time.as_second())
        };
        let day = read(r#"{"from":"2026-12-01"}"#);
        assert!(!day.holds(at("2026-11-30T23:59:59Z")) && day.holds(at("2026-12-01T00:00:00Z")));
        let hours = read(r#"{"begins":3600,"ends":7200}"#);
        for (time, holds) in [("00:59:59", false), ("01:00:00", true), ("02:00:00", false)] {
            assert_eq!(hours.holds(at(&format!("2026-11-30T{time}Z"))), holds, "{time}");
        }
        let night = read(r#"{"begins":82800,"ends":3600}"#);
        for (time, holds) in [("23:30:00", true), ("00:30:00", true), ("12:00:00", false)] {
            assert_eq!(night.holds(at(&format!("2026-11-30T{time}Z"))), holds, "{time}");
        }
        assert!(read("{}").holds(Moment::EPOCH));
    }
}
