//! The dialects of the simulator: a decision to an answer.

mod answers;
mod anthropic;
mod format;
mod gemini;
mod ollama;
mod openai;
mod openrouter;
mod responses;
mod streams;

use answers::{completion, error, refused, words_for, words_for_status};

use super::answer::{Answer, Fault};
use super::decision::{Decision, Verdict};
use super::request::Request;
use super::settings::{FaultEffect, FaultShape};
use super::verdict_status::status_of_problem;

impl Decision {
    /// Puts the verdict into the provider's words; needs no lock.
    pub(super) fn into_answer(self, request: &Request<'_>) -> Answer {
        let mut answer = answer(&self, request);
        answer.delay = self.delay;
        answer.ticket = self.ticket;
        answer
    }
}

/// The whole answer.
fn answer(decision: &Decision, request: &Request<'_>) -> Answer {
    match &decision.verdict {
        Verdict::Completion => as_asked(decision, request),
        Verdict::Wrong(problem) => {
            let status = status_of_problem(request.provider, problem);
            error(decision, request, status, &words_for(problem, request))
        }
        Verdict::Refused(refusal) => refused(decision, request, refusal),
        Verdict::Injected(effect) => injected(decision, request, effect),
    }
}

/// A completion in one piece, or as a stream when that was asked for.
fn as_asked(decision: &Decision, request: &Request<'_>) -> Answer {
    if request.streams {
        streams::streamed(decision, request)
    } else {
        completion(decision, request)
    }
}

/// What a rule made of the answer.
fn injected(decision: &Decision, request: &Request<'_>, effect: &FaultEffect) -> Answer {
    let mut answer = match effect.shape {
        Some(FaultShape::Html) => page(effect.status.unwrap_or(200)),
        Some(FaultShape::Empty) => {
            Answer { status: effect.status.unwrap_or(200), ..Answer::json(200, Vec::new()) }
        }
        Some(FaultShape::ErrorIn200) => {
            let wrong = error(decision, request, 503, words_for_status(request, 503));
            Answer { status: 200, ..wrong }
        }
        _ => match effect.status {
            Some(200) | None => as_asked(decision, request),
            Some(status) => error(decision, request, status, words_for_status(request, status)),
        },
    };
    if let Some(body) = &effect.body {
        (answer.body, answer.stream) = (body.clone().into_bytes(), None);
    }
    if let Some(seconds) = effect.retry_after {
        answer = answer.with("retry-after", seconds.to_string());
    }
    if effect.then.is_some() {
        return answer;
    }
    answer.fault = match effect.shape {
        Some(FaultShape::Timeout) => Some(Fault::Hang),
        Some(FaultShape::Reset) => Some(Fault::ResetBeforeAnswer),
        Some(FaultShape::HalfBody) => Some(Fault::HalfBody),
        Some(FaultShape::Huge(bytes)) => Some(Fault::Huge(bytes)),
        _ => None,
    };
    answer
}

fn page(status: u16) -> Answer {
    let body =
        b"<!DOCTYPE html><html><head><title>Bad gateway</title></head><body>Error</body></html>";
    let mut answer = Answer::json(status, body.to_vec());
    answer.headers = vec![("content-type", "text/html; charset=UTF-8".into())];
    answer
}
