//! Classification of errors of other libraries.
//!
//! An exception is described by its status, headers, body, class, host and text, and judged by the same tables as answers
//! to quotaflow's own requests. The most reliable part decides: a status with a body, then the kind its class is known
//! for, then the text. In a text, a printed body and a status that stands alone count more than words, and words count
//! only whole.
//!
//! What is unknown is `None`: the call failed, nothing is closed, nothing is tried again. A word alone does not close
//! a key (`needs_confirmation`).

mod embedded;
mod families;
mod guess_provider;
mod message_words;
mod python_literal;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::kernel::{Amounts, Failure, FailureClass, Moment, Origin, Until};

use super::provider::Provider;
use super::transport_fault::TransportFault;
use super::wire::{Headers, WireResponse};
use super::{delays, redact, refusals};
use families::{Family, Means};
use message_words::Words;

/// What is read of a text, in bytes.
const LONGEST_TEXT: usize = 20_000;

/// What types of exceptions stand for when there was no answer.
const FAULTS: [(&str, TransportFault); 6] = [
    ("refused", TransportFault::Refused),
    ("name_not_found", TransportFault::NameNotFound),
    ("tls", TransportFault::Tls),
    ("connect_timeout", TransportFault::ConnectTimeout),
    ("timeout", TransportFault::AnswerTimeout),
    ("network", TransportFault::Broken),
];

/// What types of exceptions stand for when their name is that of a refusal.
const REFUSALS: [(FailureClass, u16); 9] = [
    (FailureClass::RateLimited, 429),
    (FailureClass::Auth, 401),
    (FailureClass::Permission, 403),
    (FailureClass::NotFound, 404),
    (FailureClass::Overloaded, 503),
    (FailureClass::ServerError, 500),
    (FailureClass::InvalidRequest, 400),
    (FailureClass::ContextTooLong, 400),
    (FailureClass::ContentFiltered, 400),
];

/// What is known about an error that a library raised; everything may be missing.
///
/// ```
/// use quotaflow::kernel::{FailureClass, Moment};
/// use quotaflow::providers::ForeignError;
/// let class = |text| ForeignError { text, ..Default::default() }.failure(Moment::EPOCH).map(|f| f.class);
/// assert_eq!(class("429 Too Many Requests"), Some(FailureClass::RateLimited));
/// assert_eq!(class("no such order: 14290"), None);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ForeignError<'a> {
    /// Who was asked, when the caller knows; otherwise it is guessed from what follows.
    pub provider: Option<&'a Provider>,
    /// The host that was asked, for instance `api.openai.com`.
    pub host: Option<&'a str>,
    /// The package that raised the error, for instance `google.genai`.
    pub library: Option<&'a str>,
    /// The HTTP status; anything but one of a refusal counts as none.
    pub status: Option<u16>,
    /// The headers of the answer.
    pub headers: Option<&'a Headers>,
    /// The body of the answer.
    pub body: Option<&'a [u8]>,
    /// What the type of the exception stands for: a fault (`timeout`, `connect_timeout`, `network`,
    /// `refused`, `name_not_found`, `tls`), or a refusal by the name of its class (`rate_limited`, …).
    pub kind: Option<&'a str>,
    /// What the exception says.
    pub text: &'a str,
}

impl ForeignError<'_> {
    /// What went wrong, at `now`; `None` when it is unknown, and then nothing is to be closed
    /// and nothing to be tried again.
    ///
    /// Everything a refusal row learns from an answer (scope, delay, limit) it learns here too. The status is
    /// `None` when only words or a type were there.
    pub fn failure(&self, now: Moment) -> Option<Failure> {
        let text = &self.text[..self.text.floor_char_boundary(LONGEST_TEXT)];
        let nothing = Headers::default();
        let case = Case { error: self, headers: self.headers.unwrap_or(&nothing), text, now };
        case.by_answer().or_else(|| case.by_kind()).or_else(|| case.by_text())
    }
}

/// One error while it is judged.
struct Case<'a> {
    error: &'a ForeignError<'a>,
    headers: &'a Headers,
    text: &'a str,
    now: Moment,
}

impl Case<'_> {
    /// By what the provider answered.
    fn by_answer(&self) -> Option<Failure> {
        let status = self.error.status;
        let refused = status.filter(|status| (300..600).contains(status));
        match (self.error.body, refused) {
            (Some(body), _) => self.by_body(Bytes::copy_from_slice(body), refused.or(status)),
            (None, Some(status)) => match embedded::body(self.text) {
                Some(body) => self.by_body(written(&body), Some(status)),
                None => Some(self.by_status(status, true)),
            },
            (None, None) => None,
        }
    }

    /// By the type of the exception.
    fn by_kind(&self) -> Option<Failure> {
        let kind = self.error.kind?;
        if let Some((_, fault)) = FAULTS.iter().find(|(name, _)| *name == kind) {
            // Libraries tell more in words than by their types, but no word makes a silence a refusal.
            let told = families::find(&Words::of(self.text), None, None);
            let exact = match (fault, told.map(|family| family.means)) {
                (
                    TransportFault::Broken | TransportFault::AnswerTimeout,
                    Some(Means::Fault(told)),
                ) if told != TransportFault::Broken => told,
                _ => *fault,
            };
            return Some(exact.failure(self.text));
        }
        let (class, status) = REFUSALS.iter().find(|(class, _)| class.name() == kind)?;
        // What the text says is more than what the type does.
        if let Some(failure) = self.by_text() {
            return Some(failure);
        }
        let judged = self.by_status(*status, false);
        Some(if judged.class == *class {
            judged
        } else {
            Failure { class: *class, scope: class.usual_scope(), ..judged }
        })
    }

    /// By what the text holds.
    fn by_text(&self) -> Option<Failure> {
        let status = embedded::status(self.text);
        let body = embedded::body(self.text);
        if let Some(failure) = body.and_then(|body| self.by_body(written(&body), status)) {
            return Some(failure);
        }
        if let Some(status) = status {
            return Some(self.by_status(status, true));
        }
        let provider = self.provider(&Value::Null);
        let family = families::find(&Words::of(self.text), None, named(&provider))?;
        match family.means {
            Means::Nothing => None,
            Means::Fault(fault) => Some(fault.failure(self.text)),
            Means::Refusal(..) => Some(self.by_status(*family.statuses.first()?, false)),
        }
    }

    /// By a real body, exactly as our own call would read it. Without a status the body must name one.
    fn by_body(&self, body: Bytes, status: Option<u16>) -> Option<Failure> {
        let mut body = body;
        let mut read = serde_json::from_slice(&body).unwrap_or(Value::Null);
        // Libraries hand on what a stream said without its envelope; beside a status both are read alike.
        if status.is_none() && embedded::is_bare_error(&read) {
            read = json!({ "error": read });
            body = written(&read);
        }
        let provider = self.provider(&read);
        let failure = self.judged(&provider, &body, status.unwrap_or(200));
        let unnamed = status.is_none()
            && failure.status == Some(200)
            && failure.class == FailureClass::ServerError;
        (!unnamed).then_some(failure)
    }

    /// By a status and words. A status that is only what words stand for is not `told`.
    fn by_status(&self, status: u16, told: bool) -> Failure {
        let body = json!({ "error": { "message": self.text } });
        let provider = self.provider(&Value::Null);
        let judged = self.judged(&provider, &written(&body), status);
        let family = families::find(&Words::of(self.text), Some(status), named(&provider));
        let judged = match family {
            Some(family) => self.refined(judged, family, &provider),
            None => judged,
        };
        // A word is no proof that a key is bad.
        let doubtful = !told && judged.class == FailureClass::Auth;
        let needs_confirmation = judged.needs_confirmation || doubtful;
        Failure { status: told.then_some(status), needs_confirmation, ..judged }
    }

    /// What words add where the rows know no more than the status.
    fn refined(&self, judged: Failure, family: &Family, provider: &Provider) -> Failure {
        use FailureClass::{
            CreditExhausted, DailyQuota, InvalidRequest, Overloaded, Permission, RateLimited,
            ServerError,
        };
        let Means::Refusal(class, scope) = family.means else { return judged };
        let told_by_status = matches!(
            judged.class,
            RateLimited | Overloaded | InvalidRequest | ServerError | Permission
        );
        let adds_nothing = class == RateLimited || family.vague && judged.until.is_some();
        if judged.class == class || !told_by_status || adds_nothing {
            return judged;
        }
        let origin = if family.vague { Origin::Guess } else { Origin::Provider };
        let midnight = || {
            let at = delays::next_midnight(provider.reset_zone?, self.now)?;
            Some(Until { at, origin })
        };
        let date = || {
            let at = delays::date_in_text(self.text).filter(|at| *at > self.now)?;
            Some(Until { at, origin })
        };
        let until = judged.until.or_else(|| match class {
            DailyQuota => midnight(),
            CreditExhausted => date(),
            _ => None,
        });
        Failure { class, scope, until, ..judged }
    }

    fn judged(&self, provider: &Provider, body: &Bytes, status: u16) -> Failure {
        let response = WireResponse {
            status,
            headers: self.headers,
            body,
            now: self.now,
            estimate: Amounts::default(),
            model: "",
        };
        refusals::judge(provider, &response)
    }

    /// Who was asked: the caller's word, the host, what the answer looks like, the library, what the text names.
    fn provider(&self, body: &Value) -> Provider {
        let error = self.error;
        let known = error.provider.cloned();
        known
            .or_else(|| error.host.and_then(guess_provider::by_host))
            .or_else(|| guess_provider::by_shape(self.headers, body))
            .or_else(|| error.library.and_then(guess_provider::by_library))
            .or_else(|| guess_provider::by_sign(self.text))
            .unwrap_or_else(|| Provider::compatible("", ""))
    }
}

/// The provider's name, when it has one.
fn named(provider: &Provider) -> Option<&str> {
    Some(provider.name.as_str()).filter(|name| !name.is_empty())
}

fn written(body: &Value) -> Bytes {
    Bytes::from(body.to_string())
}

/// `text` as it may be shown: no keys, no control characters, at most 500 characters.
pub fn shown(text: &str) -> String {
    redact::redacted(text)
}

#[cfg(test)]
mod tests;
