//! Word families that tell the failure class; the first that fits holds.

use crate::kernel::FailureClass::{
    Auth, ContentFiltered, ContextTooLong, CreditExhausted, DailyQuota, NotFound, Overloaded,
    Permission, RateLimited, ServerError, TokenLimited,
};
use crate::kernel::Scope::{Call, Group, GroupModel, Key, Model};
use crate::kernel::{FailureClass, Scope};

use super::super::transport_fault::TransportFault;
use super::message_words::Words;

/// What a family of words stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Means {
    /// A refusal of that class and scope.
    Refusal(FailureClass, Scope),
    /// No answer.
    Fault(TransportFault),
    /// Something that only sounds like a refusal.
    Nothing,
}

/// Words that tell one thing.
#[derive(Debug)]
pub(super) struct Family {
    /// One of these is there, in small letters, with single blanks.
    words: &'static [&'static str],
    /// And one of these; none: nothing more is needed.
    with: &'static [&'static str],
    /// Beside which statuses it is believed; the first stands for it when there is none.
    pub(super) statuses: &'static [u16],
    pub(super) means: Means,
    /// A delay that the text names replaces it.
    pub(super) vague: bool,
    /// Providers that use these words for something else.
    not_of: &'static [&'static str],
}

impl Family {
    const fn vague(self) -> Family {
        Family { vague: true, ..self }
    }

    const fn not_of(self, providers: &'static [&'static str]) -> Family {
        Family { not_of: providers, ..self }
    }
}

const fn family(
    words: &'static [&'static str],
    with: &'static [&'static str],
    statuses: &'static [u16],
    means: Means,
) -> Family {
    Family { words, with, statuses, means, vague: false, not_of: &[] }
}

const fn refusal(class: FailureClass, scope: Scope) -> Means {
    Means::Refusal(class, scope)
}

/// What makes a limit one that was met.
#[rustfmt::skip]
const MET: &[&str] = &[
    "exceeded", "exceeds", "exceed", "reached", "reach", "hit", "error", "limited", "retry",
    "try again", "used up", "exhausted", "exhaust", "temporarily", "wait", "slow down", "over",
    "many requests", "too many", "upstream", "refused", "triggered", "depleted",
];

/// The families. Money before days, days before minutes: the longest closure that is named holds.
#[rustfmt::skip] // words stand side by side here, as in a sentence
static FAMILIES: &[Family] = &[
    family(&["disk quota", "inotify watch", "too many open files"], &[], &[], Means::Nothing),
    family(
        &[
            "insufficient quota", "insufficient balance", "insufficient credits",
            "insufficient credit", "insufficient funds", "credit balance is too low",
            "credit balance exhausted", "prepayment credits are depleted", "out of credits",
            "requires more credits", "no credits left", "used all available credits",
            "credit limit exceeded", "payment required", "billing hard limit",
            "billing hard limit reached", "billing not active", "billing disabled",
            "account is not active please check your billing details", "monthly spending limit",
            "spending limit reached", "spend limit reached", "enforced spend limit reached",
            "budget limit exceeded", "key limit exceeded", "specified api usage limits",
            "specified workspace api usage limits", "billing error", "billing quota exceeded",
        ],
        &[],
        &[402, 429, 400, 403],
        refusal(CreditExhausted, Group),
    ),
    family(
        &[
            "quota exceeded for the day", "daily quota", "daily limit", "daily request limit",
            "daily token limit", "limit for today", "quota for today", "requests per day",
            "tokens per day", "calls per day", "per day limit", "free models per day", "rpd limit",
            "tpd limit",
            "session usage limit", "weekly usage limit", "weekly limit", "monthly limit",
            "monthly quota", "exceeded your monthly",
        ],
        MET,
        &[429, 403],
        refusal(DailyQuota, GroupModel),
    ),
    // Word for word what OpenAI says to an account without money; Gemini goes on with its metrics.
    family(
        &["exceeded your current quota please check your plan and billing details"],
        &[],
        &[429],
        refusal(CreditExhausted, Group),
    )
    .not_of(&["gemini"]),
    family(&["tokens per minute", "tpm limit"], MET, &[429], refusal(TokenLimited, GroupModel)),
    family(
        &[
            "requests per minute", "requests per min", "requests per second", "calls per minute",
            "queries per minute", "per minute limit", "free models per min", "rpm limit",
            "rps limit", "rpm exceeded",
        ],
        MET,
        &[429],
        refusal(RateLimited, GroupModel),
    ),
    // Google's words for a lack of shared capacity.
    family(
        &["resource has been exhausted", "resource exhausted please try again"],
        &[],
        &[429],
        refusal(RateLimited, GroupModel),
    ),
    family(
        &["quota"],
        &[
            "exceeded", "exhausted", "used up", "depleted", "exceed", "reached", "run out",
        ],
        &[429, 403],
        refusal(DailyQuota, GroupModel),
    )
    .vague(),
    family(
        &[
            "context length exceeded", "maximum context length", "context window exceeded",
            "exceeds the context window", "exceeds the maximum context", "prompt is too long",
            "prompt too long", "exceeds the available context size", "context size exceeded",
            "input is too long for requested model", "context window overflow",
            "exceeds the model s context", "reduce the length of the messages",
        ],
        &[],
        &[400, 413, 422],
        refusal(ContextTooLong, Call),
    ),
    family(
        &["input token count"],
        &["exceeds the maximum", "exceeds"],
        &[400],
        refusal(ContextTooLong, Call),
    ),
    family(
        &["rate limit", "rate limits", "ratelimit", "request limit", "request rate"],
        MET,
        &[429],
        refusal(RateLimited, GroupModel),
    ),
    family(
        &[
            "too many requests", "rate limited", "ratelimited", "rate limit error",
            "ratelimit error", "being throttled", "throttling exception", "was throttled",
            "request throttled", "requests are too frequent", "slow down",
        ],
        &[],
        &[429],
        refusal(RateLimited, GroupModel),
    ),
    family(&["resource exhausted"], &[], &[429], refusal(RateLimited, GroupModel)),
    family(
        &[
            "overloaded", "overloaded error", "server is busy", "server busy", "at capacity",
            "over capacity", "capacity exceeded", "experiencing high demand",
            "experiencing high traffic", "service unavailable", "temporarily unavailable",
            "service tier capacity exceeded", "no capacity", "not enough capacity",
            "maximum pending requests exceeded",
        ],
        &[],
        &[503, 529, 429, 500, 502],
        refusal(Overloaded, Model),
    ),
    family(
        &[
            "invalid api key", "incorrect api key", "wrong api key", "api key not valid",
            "api key is invalid", "api key is not valid", "api key invalid", "api key expired",
            "api key has expired", "invalid x api key", "invalid authentication",
            "authentication error", "authentication failed", "authentication fails",
            "no auth credentials found", "missing authentication header", "unauthenticated",
            "invalid subscription key", "unauthorized", "unauthorised", "api key is missing",
            "no api key provided", "reported as leaked", "invalid bearer token",
        ],
        &[],
        &[401, 400, 403],
        refusal(Auth, Key),
    ),
    family(
        &[
            "permission denied", "permission error", "does not have permission",
            "do not have permission", "not allowed to", "country region territory",
        ],
        &["api", "key", "model", "caller", "organization", "project", "unsupported"],
        &[403],
        refusal(Permission, GroupModel),
    ),
    family(
        &[
            "model not found", "no such model", "unknown model", "not a valid model id",
            "model does not exist", "no endpoints found",
        ],
        &[],
        &[404, 400],
        refusal(NotFound, GroupModel),
    ),
    family(
        &["model", "models"],
        &[
            "does not exist", "is not found for api version", "not found try pulling it",
        ],
        &[404, 400],
        refusal(NotFound, GroupModel),
    ),
    family(
        &[
            "content policy violation", "content filter", "content filtered", "content policy",
            "content management policy", "blocked by safety", "safety settings",
            "flagged by moderation", "moderation blocked", "prompt was blocked",
        ],
        &[],
        &[400, 403],
        refusal(ContentFiltered, Call),
    ),
    family(
        &["connection refused", "connect call failed"],
        &[],
        &[],
        Means::Fault(TransportFault::Refused),
    ),
    family(
        &[
            "name or service not known", "getaddrinfo failed", "nodename nor servname provided",
            "temporary failure in name resolution", "failed to resolve", "name resolution error",
            "no address associated with hostname", "could not resolve host",
        ],
        &[],
        &[],
        Means::Fault(TransportFault::NameNotFound),
    ),
    family(
        &[
            "certificate verify failed", "ssl error", "sslerror", "tls handshake",
            "ssl handshake", "wrong version number", "self signed certificate",
        ],
        &[],
        &[],
        Means::Fault(TransportFault::Tls),
    ),
    family(
        &[
            "connect timeout", "connection timed out", "connection timeout", "connect timed out",
        ],
        &[],
        &[],
        Means::Fault(TransportFault::ConnectTimeout),
    ),
    family(
        &["gateway timeout", "gateway time out", "deadline exceeded"],
        &[],
        &[504],
        refusal(FailureClass::Timeout, Call),
    ),
    family(
        &[
            "timed out", "request timeout", "read timeout", "timeout error", "timeout exceeded",
            "operation timeout", "timeout while", "timeout waiting", "response timeout",
        ],
        &[],
        &[],
        Means::Fault(TransportFault::AnswerTimeout),
    ),
    family(
        &[
            "connection reset", "connection aborted", "connection error", "connection closed",
            "connection broken", "connection lost", "connection was closed", "broken pipe",
            "remote end closed connection", "server disconnected", "network is unreachable",
            "network error", "no route to host", "peer closed connection", "connection failed",
            "max retries exceeded with url", "failed to connect", "unable to connect",
            "cannot connect to host", "all connection attempts failed", "incomplete read",
            "incomplete chunked read", "unexpected eof", "eof occurred in violation of protocol",
        ],
        &[],
        &[],
        Means::Fault(TransportFault::Broken),
    ),
    family(
        &[
            "internal server error", "internal error encountered", "bad gateway",
            "upstream connect error",
        ],
        &[],
        &[500, 502],
        refusal(ServerError, Call),
    ),
];

/// The first family whose words stand in `words`, among those that are believed beside `status`
/// and, when the provider is known, from it.
pub(super) fn find(
    words: &Words,
    status: Option<u16>,
    provider: Option<&str>,
) -> Option<&'static Family> {
    let believed = |family: &&Family| {
        status.is_none_or(|status| family.statuses.contains(&status))
            && provider.is_none_or(|provider| !family.not_of.contains(&provider))
    };
    FAMILIES.iter().filter(believed).find(|family| {
        words.any(family.words) && (family.with.is_empty() || words.any(family.with))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_can_be_found_at_all() {
        for family in FAMILIES {
            for phrase in family.words.iter().chain(family.with) {
                assert!(Words::of(phrase).any(&[phrase]), "{phrase}");
                assert_eq!(Words::of(phrase).to_string(), *phrase);
            }
        }
    }
}
