//! The final errors of calls: message, hint and facts.

use serde_json::{Map, Value};

use crate::config::limit_name;
use crate::engine::dispatch::types::Target;
use crate::error::{Error, ErrorKind, Spent, Status, UserLimit};
use crate::kernel::{
    FailureClass, GiveUp, Late, Moment, Obstacle, Period, Refusal, RefusedBy, Resource, dollars,
};
use crate::providers::ChatRequest;

/// The error for the kernel's reason to give up.
pub(in crate::engine) fn error(
    reason: GiveUp,
    target: &Target,
    has_deadline: bool,
    now: Moment,
) -> Error {
    let retry_after =
        reason.retry_at().filter(|at| *at != Moment::FAR_FUTURE).map(|at| at.since(now));
    let error = match reason {
        GiveUp::Failed(failure) => {
            let status =
                failure.status.map_or_else(String::new, |status| format!(" (HTTP {status})"));
            let message =
                format!("{}: {}{status}: {}", target.name, failure.class, failure.message);
            Error::new(ErrorKind::Failure(failure.class), message).with(|facts| {
                facts.http_status = failure.status;
                facts.hint = hint(failure.class);
            })
        }
        GiveUp::TooFar(refusal) | GiveUp::TooLarge(refusal) if refusal.is_by_user() => {
            user_limit(&refusal, now)
        }
        GiveUp::TooFar(refusal) => too_far(&refusal, target, has_deadline),
        GiveUp::TooLarge(refusal) => {
            let message = format!("{}: the request {}", target.name, refusal.obstacle);
            let hint = "shorten the prompt, lower max_tokens, or raise the limit if the provider allows more";
            Error::new(ErrorKind::Failure(FailureClass::TokenLimited), message)
                .hint(hint)
                .with(|facts| facts.key = key(target, &refusal))
        }
        GiveUp::NoLane => Error::new(
            ErrorKind::NoKey,
            format!("{}: there is no key left that could be tried", target.name),
        ),
        GiveUp::LineFull => Error::new(
            ErrorKind::QueueFull,
            format!("{}: too many calls wait already", target.name),
        )
        .hint("send fewer calls at once, or raise queue.max_size in the config"),
        GiveUp::TooLate(late) => too_late(late, target, now),
    };
    error.with(|facts| facts.retry_after = retry_after)
}

pub(in crate::engine) fn cleared(target: &Target) -> Error {
    let message = format!("{}: the call was taken out of the waiting line", target.name);
    Error::new(ErrorKind::QueueCleared, message).hint("clear_queue() was called; send it again")
}

pub(in crate::engine) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "this LLMInterface was closed").hint("make a new one")
}

pub(in crate::engine) fn time_is_over() -> Error {
    Error::new(ErrorKind::Deadline, "the time for this call is over")
}

/// There is no time for a call that has not begun.
pub(in crate::engine) fn passed() -> Error {
    Error::new(ErrorKind::Deadline, "the deadline has passed already")
        .hint("pass a later one, or None")
}

pub(in crate::engine) fn no_route() -> Error {
    Error::new(ErrorKind::Internal, "a call has no route")
}

/// How a stream broke off.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Break {
    /// The text of the answer, as far as it counts.
    pub(in crate::engine) text: String,
    /// What was wrong.
    pub(in crate::engine) class: FailureClass,
    /// Whether it was resumed before.
    pub(in crate::engine) was_resumed: bool,
    /// Whether the finish reason had arrived, so that only the last event is missing.
    pub(in crate::engine) was_whole: bool,
    /// What it had used.
    pub(in crate::engine) spent: Spent,
}

/// The error of a stream that broke off and could not continue because of `error`.
///
/// A closed engine, a cleared line and a deadline stay what they are.
pub(in crate::engine) fn interrupted(error: Error, how: Break) -> Error {
    if matches!(error.kind, ErrorKind::Closed | ErrorKind::Deadline | ErrorKind::QueueCleared) {
        return error;
    }
    let Break { text, class, was_resumed, was_whole, spent } = how;
    let message = format!("the stream broke off: {}", error.message);
    error.with(|facts| {
        facts.kind = ErrorKind::Interrupted { text };
        facts.message = message;
        facts.spent = Some(spent);
        facts.failure.get_or_insert(class);
        // The limit is in the message.
        facts.user_limit = None;
        if was_whole {
            let hint =
                "the model had said that it was done: take the text, or pass resume=\"restart\"";
            facts.hint = Some(hint.to_owned());
        } else if !was_resumed {
            let hint = "pass resume=\"continue\" or resume=\"restart\" to have it go on by itself";
            facts.hint = Some(hint.to_owned());
        }
        // Nothing was tried again so far.
        if !was_resumed && facts.status == Status::Exhausted {
            facts.status = Status::Temporary;
        }
    })
}

/// The error of a call larger than the `max_tokens_per_request` of its target; `None` when it fits.
pub(in crate::engine) fn too_large(
    target: &Target,
    params: &Map<String, Value>,
    request: &ChatRequest,
) -> Option<Error> {
    target.pacing.max_tokens_per_request?;
    let input = request.estimated_input_tokens(params);
    let output = ChatRequest::max_output_tokens(params);
    let parts = output
        .map_or_else(String::new, |output| format!(" ({input} of input and max_tokens {output})"));
    too_many_tokens(target, input.saturating_add(output.unwrap_or(0)), &parts)
}

/// The error of a call of `tokens` more than `max_tokens_per_request`; `None` when it fits.
pub(in crate::engine) fn too_many_tokens(
    target: &Target,
    tokens: u64,
    parts: &str,
) -> Option<Error> {
    let most = target.pacing.max_tokens_per_request.filter(|most| tokens > *most)?;
    let message = format!(
        "{}: the call is about {tokens} tokens{parts}, and max_tokens_per_request is {most}",
        target.name
    );
    let error = Error::new(ErrorKind::Failure(FailureClass::ContextTooLong), message)
        .hint("shorten the prompt, lower max_tokens, or raise max_tokens_per_request in the limits")
        .with(|facts| {
            facts.provider = Some(target.vendor.provider.name.clone());
            facts.model = Some(target.model.clone());
        });
    Some(error)
}

fn key(target: &Target, refusal: &Refusal) -> Option<String> {
    let lane = refusal.lane()?;
    target.vendor.keys.get(lane).map(|key| key.label.clone())
}

fn too_far(refusal: &Refusal, target: &Target, has_deadline: bool) -> Error {
    let class = class_of(&refusal.obstacle);
    let short = matches!(class, FailureClass::RateLimited | FailureClass::TokenLimited);
    let label = key(target, refusal).unwrap_or_default();
    let keys = target.vendor.keys.len();
    let who = if keys > 1 {
        format!("all {keys} keys are used up or closed; the first to come back is {label}")
    } else {
        format!("key {label} is used up or closed")
    };
    let message = format!("{}: {who}: {}", target.name, refusal.obstacle);
    let kind = if has_deadline && short { ErrorKind::Deadline } else { ErrorKind::Failure(class) };
    let hint = if has_deadline && short {
        Some("allow more time, or add a key or a fallback".to_owned())
    } else {
        hint(class)
    };
    Error::new(kind, message).with(|facts| {
        facts.key = key(target, refusal);
        facts.failure = Some(class);
        facts.hint = hint;
    })
}

/// Which limit of its user stands in the way of a call.
fn user_limit(refusal: &Refusal, now: Moment) -> Error {
    let (used, ahead) = match refusal.by {
        RefusedBy::User { used, ahead } => (used, ahead),
        RefusedBy::Lane(_) => (0, 0),
    };
    let (message, limit) = match &refusal.obstacle {
        Obstacle::TooLarge { limit, requested, .. } if limit.resource == Resource::Spend => {
            (format!("the call may cost {}, and its user has {limit}", dollars(*requested)), limit)
        }
        Obstacle::TooLarge { limit, requested, most } => (
            format!("the call asks for {requested} of at most {most} that its user has ({limit})"),
            limit,
        ),
        Obstacle::Limit { limit, until, .. } if ahead > 0 => (
            format!(
                "this user has {limit}, and {} of its calls go before this one, whose turn is in {} s at the earliest",
                ahead,
                until.since(now).as_secs() + 1
            ),
            limit,
        ),
        Obstacle::Limit { limit, until, .. } => (
            format!(
                "this user has used {} of {limit}; there is more in {} s",
                in_words(limit.resource, used),
                until.since(now).as_secs() + 1
            ),
            limit,
        ),
        other => return Error::new(ErrorKind::Internal, other.to_string()),
    };
    let limit_name = limit_name(limit.resource, limit.period).unwrap_or_default();
    let first = match refusal.obstacle {
        Obstacle::TooLarge { .. } => "shorten the prompt, lower max_tokens",
        _ => "wait for retry_after",
    };
    let hint = format!("{first}, or raise {limit_name} of the user in the config");
    Error::new(ErrorKind::UserLimit, message).hint(hint).with(|facts| {
        facts.user_limit = Some(UserLimit { name: limit_name, used, amount: limit.amount.get() });
    })
}

fn in_words(resource: Resource, amount: u64) -> String {
    match resource {
        Resource::Spend => dollars(amount),
        _ => amount.to_string(),
    }
}

fn too_late(late: Late, target: &Target, now: Moment) -> Error {
    let when = match late.at {
        Some(at) => format!("in {:.0} s at the earliest", at.since(now).as_secs_f64()),
        None => "not for months".to_owned(),
    };
    let message =
        format!("{}: {} calls go before this one, and its turn is {when}", target.name, late.ahead);
    Error::new(ErrorKind::Deadline, message)
        .hint("allow more time, raise its priority, or add a key or a fallback")
}

/// The failure class of an obstacle.
fn class_of(obstacle: &Obstacle) -> FailureClass {
    match obstacle {
        Obstacle::Block(block) => block.class,
        Obstacle::Concurrency { .. } => FailureClass::RateLimited,
        Obstacle::TooLarge { .. } => FailureClass::TokenLimited,
        Obstacle::Limit { limit, .. } => match (limit.period, limit.resource) {
            (Period::Day | Period::Month, _) => FailureClass::DailyQuota,
            (_, Resource::Requests) => FailureClass::RateLimited,
            _ => FailureClass::TokenLimited,
        },
    }
}

fn hint(class: FailureClass) -> Option<String> {
    let hint = match class {
        FailureClass::RateLimited | FailureClass::TokenLimited => {
            "configure the provider's limits so that calls are paced, or add a key or a fallback"
        }
        FailureClass::DailyQuota => "wait for the reset in retry_after, or add a key or a fallback",
        FailureClass::CreditExhausted => "top up the account, or add a key of another one",
        FailureClass::Overloaded | FailureClass::ServerError => {
            "try again later, or add a fallback to another provider"
        }
        FailureClass::Timeout => {
            "allow more time (timeouts.read, for streams timeouts.piece), or add a fallback"
        }
        FailureClass::Network => "check the base_url and the connection",
        FailureClass::Auth => "replace the key; it stays closed until the config holds another one",
        FailureClass::Permission => "give the key access to this model, or use another one",
        FailureClass::NotFound => "check the model's name",
        FailureClass::InvalidRequest => "change the request; it would fail again",
        FailureClass::ContextTooLong => "shorten the prompt or use a model with a larger window",
        FailureClass::ContentFiltered => "change the prompt; the provider will not answer this one",
    };
    Some(hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_stops_a_stream_that_broke_off_its_text_is_not_lost() {
        for kind in ErrorKind::examples() {
            let stopped = Error::new(kind.clone(), "stopped").with(|facts| {
                facts.user_limit = Some(UserLimit { name: "rpm", used: 1, amount: 1 });
            });
            let how = Break {
                text: "Once".to_owned(),
                class: FailureClass::Network,
                was_resumed: true,
                was_whole: false,
                spent: Spent::default(),
            };
            let error = interrupted(stopped.clone(), how);
            if matches!(kind, ErrorKind::Closed | ErrorKind::Deadline | ErrorKind::QueueCleared) {
                assert_eq!(error, stopped);
                continue;
            }
            assert_eq!(error.kind, ErrorKind::Interrupted { text: "Once".to_owned() });
            // An interrupted stream has no limit, and the failure that broke it unless another one is set.
            assert_eq!(error.user_limit, None);
            assert_eq!(error.failure, stopped.failure.or(Some(FailureClass::Network)));
        }
    }
}
