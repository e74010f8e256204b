//! Events for programs: the facts of a notice under the name of its event.

use serde_json::{Value, json};

use super::observer::Notice;
use crate::kernel::{Block, FailureClass, Moment};

/// The events a program can listen to, in the order of their bits in [`Events`].
const NAMES: [&str; 8] =
    ["retry", "wait", "rotate", "fallback", "exhausted", "blocked", "recovered", "settled"];

/// A set of events.
///
/// ```
/// use quotaflow::engine::Events;
/// let wanted = Events::NONE.with("retry").unwrap();
/// assert!(wanted.contains("retry") && !wanted.contains("settled"));
/// assert!(Events::NONE.with("retries").is_none());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events(pub u8);

impl Events {
    /// The names of all of them.
    pub const NAMES: [&'static str; 8] = NAMES;

    /// No event.
    pub const NONE: Events = Events(0);

    /// These and the one of that name; `None` when there is no such event.
    #[must_use]
    pub fn with(self, name: &str) -> Option<Events> {
        let place = NAMES.iter().position(|known| *known == name)?;
        Some(Events(self.0 | 1 << place))
    }

    /// Whether the event of that name is among them.
    pub fn contains(self, name: &str) -> bool {
        Events::NONE.with(name).is_some_and(|one| self.0 & one.0 != 0)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self == Events::NONE
    }
}

impl Notice {
    /// The events of this notice in JSON, each with its name in `event`; only those that are `wanted`.
    pub fn events(&self, wanted: Events) -> Vec<Value> {
        let mut events = Vec::new();
        let mut add = |name: &'static str, facts: &dyn Fn() -> Value| {
            if wanted.contains(name) {
                let mut facts = facts();
                facts["event"] = name.into();
                events.push(facts);
            }
        };
        match self {
            Notice::Retry { target, key, failure, status, attempt, pause } => add("retry", &|| {
                let facts = json!({
                    "key": key, "failure": failure, "status": status, "attempt": attempt,
                    "delay": pause.as_secs_f64(),
                });
                at(target, facts)
            }),
            Notice::Wait { target, key, obstacle } => add("wait", &|| {
                let until = obstacle.until().and_then(seconds);
                at(target, json!({"key": key, "reason": obstacle.to_string(), "until": until}))
            }),
            Notice::QueueWait { target, ahead } => add("wait", &|| {
                let reason = format!("{ahead} in line before it");
                at(target, json!({"key": null, "reason": reason, "until": null}))
            }),
            Notice::UserLimitWait { target, obstacle } => add("wait", &|| {
                let (reason, until) = (format!("of its user: {obstacle}"), obstacle.until());
                at(target, json!({"key": null, "reason": reason, "until": until.and_then(seconds)}))
            }),
            Notice::KeyRotation { target, from, to, failure } => add("rotate", &|| {
                at(target, json!({"from_key": from, "to_key": to, "failure": failure}))
            }),
            Notice::Fallback { from, to, reason } => {
                add("fallback", &|| json!({"from_target": from, "to_target": to, "reason": reason}))
            }
            Notice::Block { target, key, block, message } => {
                let facts = || at(target, closed(key, block, message));
                if matches!(block.class, FailureClass::DailyQuota | FailureClass::CreditExhausted) {
                    add("exhausted", &facts);
                }
                add("blocked", &facts);
            }
            Notice::Recovery { target, key } => {
                add("recovered", &|| at(target, json!({"key": key})));
            }
            Notice::Settlement { target, key, used, lasted } => add("settled", &|| {
                let tokens = used.as_ref();
                let facts = json!({
                    "key": key,
                    "input_tokens": tokens.map(|used| used.input_tokens),
                    "output_tokens": tokens.map(|used| used.output_tokens),
                    "seconds": lasted.as_secs_f64(),
                });
                at(target, facts)
            }),
            Notice::Backoff { .. } | Notice::Decision { .. } | Notice::Warning(_) => {}
        }
        events
    }
}

/// The facts with the target they are about: a provider's name holds no slash, a model's may.
fn at(target: &str, mut facts: Value) -> Value {
    let (provider, model) = target.split_once('/').unwrap_or((target, ""));
    facts["provider"] = provider.into();
    facts["model"] = model.into();
    facts
}

fn closed(key: &str, block: &Block, message: &str) -> Value {
    json!({
        "key": key, "failure": block.class, "until": seconds(block.until),
        "origin": block.origin, "message": message,
    })
}

/// Seconds since 1970; `None`: until it is reconfigured.
fn seconds(at: Moment) -> Option<f64> {
    (at != Moment::FAR_FUTURE).then(|| at.as_seconds())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::kernel::{Failure, Scope};

    const ALL: Events = Events(u8::MAX);

    #[test]
    fn a_used_up_day_is_an_exhausted_key_and_a_blocked_one() {
        let failure = Failure::new(FailureClass::DailyQuota, Scope::GroupModel, "");
        let block = Block::after(&failure, 0, Moment::from_seconds(1_800_000_000), 0.0).unwrap();
        let notice = Notice::Block {
            target: "openrouter/meta/llama".to_owned(),
            key: "A".to_owned(),
            block,
            message: "no more".to_owned(),
        };
        let events = notice.events(ALL);
        let names: Vec<&str> =
            events.iter().map(|event| event["event"].as_str().unwrap()).collect();
        assert_eq!(names, ["exhausted", "blocked"]);
        assert_eq!(events[0]["provider"], "openrouter");
        assert_eq!(events[0]["model"], "meta/llama");
        assert_eq!(events[0]["failure"], "daily_quota");
    }

    #[test]
    fn only_what_is_wanted_is_told() {
        let notice = Notice::Recovery { target: "groq/llama".to_owned(), key: "A".to_owned() };
        assert!(notice.events(Events::NONE.with("retry").unwrap()).is_empty());
        assert_eq!(notice.events(ALL).len(), 1);
        let pause = Duration::from_secs(1);
        let rests = Notice::Backoff { target: String::new(), failure: String::new(), pause };
        assert!(rests.events(ALL).is_empty());
    }
}
