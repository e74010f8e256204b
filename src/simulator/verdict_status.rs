//! The HTTP status of each verdict, for answers and statistics.

use super::allowance::Wait;
use super::meters::{Broken, Refusal};
use super::request::Problem;
use super::settings::{Counts, Provider};

/// Whether a request is larger than its limit can ever allow (and not just never allowed at all).
pub(super) fn is_too_large(broken: &Broken) -> bool {
    broken.wait == Wait::Never && broken.amount > 0 && broken.kind.counts() != Counts::Requests
}

/// The status of a request that is wrong by itself.
pub(super) fn status_of_problem(provider: Provider, problem: &Problem) -> u16 {
    match problem {
        Problem::NoSuchPath | Problem::NoSuchModel => 404,
        Problem::WrongMethod => 405,
        Problem::BadKey if provider == Provider::Gemini => 400,
        Problem::BadKey => 401,
        Problem::NotJson(_) | Problem::Missing(_) => 400,
    }
}

/// The status of a request that breaks a limit.
pub(super) fn status_of_refusal(provider: Provider, refusal: &Refusal) -> u16 {
    match (provider, refusal) {
        (Provider::Ollama, Refusal::Busy(_)) => 503,
        (Provider::Groq, Refusal::Limits(broken)) if broken.first().is_some_and(is_too_large) => {
            413
        }
        _ => 429,
    }
}
