//! Formatting of numbers, times and texts on the wire.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::super::decision::Decision;
use super::super::random::fingerprint;

const SECOND: i64 = 1_000_000_000;

/// A text as JSON, with its quotes.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A duration as Go writes it (`4ms`, `1.146s`, `7m12s`, `1h0m3.5s`), rounded up to milliseconds so that a client that
/// waits so long has waited long enough.
pub(super) fn go_duration(nanos: i64) -> String {
    let millis = nanos.max(0).saturating_add(999_999) / 1_000_000;
    if millis == 0 {
        return "0s".into();
    }
    if millis < 1_000 {
        return format!("{millis}ms");
    }
    let (minutes, millis) = (millis / 60_000, millis % 60_000);
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = match (minutes / 60, minutes % 60) {
        (0, 0) => Ok(()),
        (0, minutes) => write!(text, "{minutes}m"),
        (hours, minutes) => write!(text, "{hours}h{minutes}m"),
    };
    text.push_str(&decimal_seconds(millis));
    text
}

/// Milliseconds as seconds without needless zeros (`12s`, `7.93s`).
pub(super) fn decimal_seconds(millis: i64) -> String {
    let text = format!("{}.{:03}", millis / 1_000, millis % 1_000);
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Whole seconds, rounded up.
pub(super) fn whole_seconds(nanos: i64) -> i64 {
    nanos.max(0).saturating_add(SECOND - 1) / SECOND
}

/// An instant as RFC 3339 in UTC, rounded up to a whole second.
pub(super) fn rfc3339(nanos: i64) -> String {
    Timestamp::from_second(whole_seconds(nanos)).unwrap_or(Timestamp::MAX).to_string()
}

/// A stable identifier in the shape of a UUID.
pub(super) fn uuid_of(name: &str) -> String {
    let (high, low) = (fingerprint(name), fingerprint(&format!("{name}/")));
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}

/// The text of an answer: a beginning of the question, no longer than its tokens allow.
pub(super) fn answer_text(decision: &Decision, echo: &str) -> String {
    let mut text = String::with_capacity(64);
    text.push_str("answer to: ");
    text.push_str(echo);
    if decision.cut {
        let characters =
            usize::try_from(decision.output_tokens).unwrap_or(usize::MAX).saturating_mul(4);
        if let Some((end, _)) = text.char_indices().nth(characters) {
            text.truncate(end);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_the_recorded_ones() {
        let table = [
            (0, "0s"),
            (1, "1ms"),
            (6_000_000, "6ms"),
            (8_640_000_000, "8.64s"),
            (20_000_000_000, "20s"),
            (127_930_000_000, "2m7.93s"),
            (432_000_000_000, "7m12s"),
            (360_000_000_000, "6m0s"),
            (5_025_600_000_000, "1h23m45.6s"),
        ];
        for (nanos, text) in table {
            assert_eq!(go_duration(nanos), text);
        }
    }

    #[test]
    fn instants_are_rounded_up_to_the_second() {
        assert_eq!(rfc3339(1_747_146_001_000_000_001), "2025-05-13T14:20:02Z");
        assert_eq!(rfc3339(1_747_146_002_000_000_000), "2025-05-13T14:20:02Z");
    }
}
