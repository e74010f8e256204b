//! Delays and dates a provider asks for, in every notation.
//!
//! Every reader here is total: any text gives a sane span or nothing.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::kernel::Moment;

use super::wire::Headers;

/// Longer waits are taken for nonsense.
pub(super) const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// Units of durations, in nanoseconds; the written-out ones stand in message texts.
const UNITS: [(&[&str], u128); 7] = [
    (&["ns"], 1),
    (&["us", "µs", "μs"], 1_000),
    (&["ms", "millisecond", "milliseconds"], 1_000_000),
    (&["s", "sec", "secs", "second", "seconds"], 1_000_000_000),
    (&["m", "min", "mins", "minute", "minutes"], 60_000_000_000),
    (&["h", "hr", "hrs", "hour", "hours"], 3_600_000_000_000),
    (&["d", "day", "days"], 86_400_000_000_000),
];

/// What stands before a delay in a message.
const MARKERS: [&str; 5] =
    ["try again in", "retry in", "retry after", "try again after", "available again in"];

/// `retry-after` and `retry-after-ms`: the longer of the two, for Azure sends `1` beside `0`.
///
/// Only for refusals: Anthropic sends `retry-after` with ordinary answers too.
pub(super) fn retry_after(headers: &Headers, now: Moment) -> Option<Duration> {
    let millis = headers.get("retry-after-ms").and_then(|text| {
        let nanos = number(text).filter(|(_, rest)| rest.is_empty())?.0 / 1_000;
        sane(nanos)
    });
    millis.max(headers.get("retry-after").and_then(|text| header(text, now)))
}

/// A header value in any of the known forms: seconds, a Go duration, an HTTP date, RFC 3339,
/// or an epoch in seconds or milliseconds (told apart by magnitude). A past instant is no wait.
pub(super) fn header(text: &str, now: Moment) -> Option<Duration> {
    let text = text.trim();
    if let Some((nanos, "")) = number(text) {
        return match nanos / NANOS {
            0..1_000_000_000 => sane(nanos),
            1_000_000_000..1_000_000_000_000 => until(i64::try_from(nanos).ok()?, now),
            _ => until(i64::try_from(nanos / 1_000).ok()?, now),
        };
    }
    duration(text).or_else(|| {
        let timestamp = text
            .parse::<Timestamp>()
            .ok()
            .or_else(|| jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp()))?;
        until(i64::try_from(timestamp.as_nanosecond()).ok()?, now)
    })
}

/// A Go duration (`6m0s`, `1h23m45.6s`, `6m 11.52s`) or a protobuf one (`48s`), nothing else around it.
pub(super) fn duration(text: &str) -> Option<Duration> {
    leading(text.trim()).filter(|(_, rest)| rest.is_empty()).map(|(span, _)| span)
}

/// The delay that a message names: `Please try again in 7m12s.`, `Please retry after 22 seconds.`
pub(super) fn in_text(message: &str) -> Option<Duration> {
    let lower = message.to_ascii_lowercase();
    MARKERS.iter().find_map(|marker| {
        lower
            .match_indices(marker)
            .find_map(|(start, _)| leading(lower[start + marker.len()..].trim_start()))
            .map(|(span, _)| span)
    })
}

/// The date that a message names, in UTC: `You will regain access on 2026-11-01 at 00:00 UTC.`
pub(super) fn date_in_text(message: &str) -> Option<Moment> {
    let starts = message.char_indices().filter(|(_, letter)| letter.is_ascii_digit());
    starts.map(|(start, _)| &message[start..]).find_map(|text| {
        let date: Date = text.get(..10)?.parse().ok()?;
        let clock = text[10..].trim_start_matches([' ', 'T']).trim_start_matches("at ");
        let part = |range| clock.get(range).and_then(|digits: &str| digits.parse::<i8>().ok());
        let (hour, minute) = match (part(0..2), clock.get(2..3), part(3..5)) {
            (Some(hour @ 0..24), Some(":"), Some(minute @ 0..60)) => (hour, minute),
            _ => (0, 0),
        };
        let zoned = date.at(hour, minute, 0, 0).to_zoned(TimeZone::UTC).ok()?;
        Some(Moment::from_zoned(&zoned))
    })
}

/// The next midnight in a zone of the tz database; `None` when there is no such zone.
pub(super) fn next_midnight(zone: &str, now: Moment) -> Option<Moment> {
    let zone = TimeZone::get(zone).ok()?;
    let tomorrow = now.in_zone(&zone).tomorrow().ok()?;
    Some(Moment::from_zoned(&tomorrow.start_of_day().ok()?))
}

const NANOS: u128 = 1_000_000_000;

fn until(nanos: i64, now: Moment) -> Option<Duration> {
    Some(Moment::from_nanos(nanos) - now).filter(|span| *span <= LONGEST)
}

fn sane(nanos: u128) -> Option<Duration> {
    let span = Duration::new(u64::try_from(nanos / NANOS).ok()?, (nanos % NANOS) as u32);
    (span <= LONGEST).then_some(span)
}

/// A decimal number times 10⁹ and what follows it; at most 15 digits before the point.
fn number(text: &str) -> Option<(u128, &str)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(text);
    if !(1..=15).contains(&whole) {
        return None;
    }
    let (head, mut rest) = text.split_at(whole);
    let mut nanos = head.parse::<u128>().ok()? * NANOS;
    if let Some(after) = rest.strip_prefix('.') {
        let places = digits(after);
        if places > 0 {
            let fraction = after[..places.min(9)].parse::<u128>().ok()?;
            nanos += fraction * 10_u128.pow(9 - places.min(9) as u32);
            rest = &after[places..];
        }
    }
    Some((nanos, rest))
}

/// As many `number unit` pairs as `text` starts with, and what follows them.
fn leading(text: &str) -> Option<(Duration, &str)> {
    let (mut total, mut rest, mut found) = (0_u128, text, false);
    while let Some((nanos, after)) = number(rest.trim_start()) {
        let after = after.trim_start();
        let end = after.find(|letter: char| !letter.is_alphabetic()).unwrap_or(after.len());
        let (name, after) = after.split_at(end);
        let Some((_, unit)) = UNITS.iter().find(|(names, _)| names.contains(&name)) else { break };
        // 15 digits of days stay far below what 128 bits hold.
        total = total.saturating_add(nanos * unit / NANOS);
        (rest, found) = (after, true);
    }
    if !found {
        return None;
    }
    Some((sane(total)?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moment(text: &str) -> Moment {
        Moment::from_nanos(text.parse::<Timestamp>().unwrap().as_nanosecond() as i64)
    }

    fn seconds(seconds: f64) -> Option<Duration> {
        Some(Duration::from_nanos((seconds * 1e9).round() as u64))
    }

    #[test]
    fn every_documented_header_form_is_read() {
        let now = moment("2026-10-21T07:27:00Z");
        for (text, expected) in [
            ("36", seconds(36.0)),
            ("86399", seconds(86_399.0)),
            ("33011.382867", seconds(33_011.382_867)),
            ("0", seconds(0.0)),
            ("Wed, 21 Oct 2026 07:28:00 GMT", seconds(60.0)),
            ("Wed, 21 Oct 2026 07:00:00 GMT", seconds(0.0)),
            ("4ms", seconds(0.004)),
            ("0s", seconds(0.0)),
            ("6m0s", seconds(360.0)),
            ("1m30s", seconds(90.0)),
            ("2m59.56s", seconds(179.56)),
            ("17.399999999s", Some(Duration::new(17, 399_999_999))),
            ("1h23m45.6s", seconds(5_025.6)),
            ("4h17m", seconds(15_420.0)),
            ("156h14m36.752463453s", Some(Duration::new(562_476, 752_463_453))),
            ("6m 11.52s", seconds(371.52)),
            ("0.539477544s", Some(Duration::new(0, 539_477_544))),
            ("68940s", seconds(68_940.0)),
            ("2026-10-21T07:27:12Z", seconds(12.0)),
            ("1792567680000", seconds(60.0)),
            ("1792567680", seconds(60.0)),
            ("", None),
            ("-5", None),
            ("soon", None),
            ("1e9", None),
            ("99999999999999999999", None),
            ("9999d", None),
            ("NaN", None),
            ("5 apples", None),
        ] {
            assert_eq!(header(text, now), expected, "{text:?}");
        }
    }

    #[test]
    fn the_longer_of_the_two_retry_headers_wins() {
        let now = Moment::EPOCH;
        let read = |pairs: &[(&str, &str)]| retry_after(&pairs.iter().copied().collect(), now);
        assert_eq!(read(&[("Retry-After", "1"), ("Retry-After-Ms", "0")]), seconds(1.0));
        assert_eq!(read(&[("retry-after", "1"), ("retry-after-ms", "1500")]), seconds(1.5));
        assert_eq!(read(&[("retry-after-ms", "1500")]), seconds(1.5));
        assert_eq!(read(&[("retry-after", "whenever")]), None);
    }

    #[test]
    fn messages_name_their_delay_in_four_ways() {
        for (text, expected) in [
            ("Used 200, Requested 1. Please try again in 7m12s. Visit x", seconds(432.0)),
            ("Please retry in 48.939935699s.", Some(Duration::new(48, 939_935_699))),
            ("Please retry in 900.2ms.", seconds(0.9002)),
            ("Please retry after 22 seconds. Go to", seconds(22.0)),
            ("please try again in 6m 11.52s. Need more?", seconds(371.52)),
            ("Please try again later.", None),
            ("retry after payment", None),
        ] {
            assert_eq!(in_text(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_date_in_a_text_is_a_moment_in_utc() {
        for (text, expected) in [
            ("You will regain access on 2026-11-01 at 00:00 UTC.", "2026-11-01T00:00:00Z"),
            ("access on 2026-12-01 at 13:30 UTC", "2026-12-01T13:30:00Z"),
            ("req 12: until 2026-12-01", "2026-12-01T00:00:00Z"),
            ("resets 2026-12-01T05:06:07Z", "2026-12-01T05:06:00Z"),
        ] {
            assert_eq!(date_in_text(text), Some(moment(expected)), "{text:?}");
        }
        assert_eq!(date_in_text("no 2026-13-45 date"), None);
    }

    #[test]
    fn midnight_moves_with_the_zone_in_both_nights_of_the_change() {
        let midnight = |now| next_midnight("America/Los_Angeles", moment(now));
        // 23 hours in spring, 25 in autumn: 8 hours behind UTC in winter, 7 in summer.
        assert_eq!(midnight("2026-03-08T08:00:00Z"), Some(moment("2026-03-09T07:00:00Z")));
        assert_eq!(midnight("2026-11-01T07:00:00Z"), Some(moment("2026-11-02T08:00:00Z")));
        assert_eq!(midnight("2026-11-01T06:59:59Z"), Some(moment("2026-11-01T07:00:00Z")));
        assert_eq!(next_midnight("Mars/Olympus", Moment::EPOCH), None);
    }

    proptest! {
        #[test]
        fn any_text_gives_nothing_or_a_sane_span(text in ".*", nanos in any::<i64>()) {
            let now = Moment::from_nanos(nanos);
            for span in [header(&text, now), duration(&text), in_text(&text)].into_iter().flatten() {
                prop_assert!(span <= LONGEST);
            }
            let marked = format!("try again in {text}");
            prop_assert!(in_text(&marked).is_none_or(|span| span <= LONGEST));
            let _ = date_in_text(&text);
            let _ = next_midnight(&text, now);
        }

        #[test]
        fn any_number_like_text_is_harmless(text in "[0-9]{0,40}[.:]?[0-9]{0,40}[a-zµ ]{0,3}[0-9TZ:-]{0,20}") {
            let now = Moment::EPOCH;
            prop_assert!(header(&text, now).is_none_or(|span| span <= LONGEST));
            let _ = date_in_text(&text);
        }
    }
}
