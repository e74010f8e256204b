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
    pub(super) fn into_answer(self, asked: &Request<'_>) -> Answer {
        let mut answer = answer(&self, asked);
        answer.delay = self.delay;
        answer.ticket = self.ticket;
        answer
    }
}

/// The whole answer.
fn answer(decision: &Decision, asked: &Request<'_>) -> Answer {
    match &decision.verdict {
        Verdict::Completion => as_asked(decision, asked),
        Verdict::Wrong(problem) => {
            let status = status_of_problem(asked.provider, problem);
            error(decision, asked, status, &words_for(problem, asked))
        }
        Verdict::Refused(refusal) => refused(decision, asked, refusal),
        Verdict::Injected(effect) => injected(decision, asked, effect),
    }
}

/// A completion in one piece, or as a stream when that was asked for.
fn as_asked(decision: &Decision, asked: &Request<'_>) -> Answer {
    if asked.streams { streams::streamed(decision, asked) } else { completion(decision, asked) }
}

/// What a rule made of the answer.
fn injected(decision: &Decision, asked: &Request<'_>, effect: &FaultEffect) -> Answer {
    let mut answer = match effect.shape {
        Some(FaultShape::Html) => page(effect.status.unwrap_or(200)),
        Some(FaultShape::Empty) => {
            Answer { status: effect.status.unwrap_or(200), ..Answer::json(200, Vec::new()) }
        }
        Some(FaultShape::ErrorIn200) => {
            let wrong = error(decision, asked, 503, words_for_status(asked, 503));
            Answer { status: 200, ..wrong }
        }
        _ => match effect.status {
            Some(200) | None => as_asked(decision, asked),
            Some(status) => error(decision, asked, status, words_for_status(asked, status)),
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
