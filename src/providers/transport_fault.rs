//! Transport faults: no answer, or one that cannot be read.
//!
//! The transport knows what happened on the wire and says it with one of these, so that every failure
//! has its class, scope and words from this ring. None of them carries the URL: it may hold a secret.

use crate::kernel::{Failure, FailureClass, Scope};

use super::redact;

/// How a connection failed or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportFault {
    /// The connection was refused.
    Refused,
    /// The host's name is not known, or cannot be looked up now.
    NameNotFound,
    /// No secure connection could be made: certificate or protocol.
    Tls,
    /// No connection in time.
    ConnectTimeout,
    /// The request was sent and no whole answer came in time.
    AnswerTimeout,
    /// The connection broke after the request had left, wholly or in part.
    Broken,
    /// The answer is larger than anything an API sends.
    BodyTooLarge,
}

impl TransportFault {
    /// The failure of an attempt that met this fault; `detail` is the transport's own words, redacted here.
    ///
    /// ```
    /// use quotaflow::kernel::FailureClass;
    /// use quotaflow::providers::TransportFault;
    /// let failure = TransportFault::Refused.failure("127.0.0.1:9");
    /// assert_eq!(failure.class, FailureClass::Network);
    /// assert!(failure.never_sent);
    /// ```
    pub fn failure(self, detail: &str) -> Failure {
        let (class, never_sent, words) = match self {
            TransportFault::Refused => (FailureClass::Network, true, "the connection was refused"),
            TransportFault::NameNotFound => {
                (FailureClass::Network, true, "the host's name was not found")
            }
            TransportFault::Tls => {
                (FailureClass::Network, true, "no secure connection could be made")
            }
            TransportFault::ConnectTimeout => {
                (FailureClass::Timeout, true, "no connection in time")
            }
            TransportFault::AnswerTimeout => (FailureClass::Timeout, false, "no answer in time"),
            TransportFault::Broken => (FailureClass::Network, false, "the connection broke"),
            TransportFault::BodyTooLarge => {
                (FailureClass::ServerError, false, "the answer is too large to be one")
            }
        };
        let detail = redact::redacted(detail);
        let message =
            if detail.is_empty() { words.to_owned() } else { format!("{words}: {detail}") };
        Failure {
            never_sent,
            // Asking again brings the same flood; another target may do better.
            never_here: self == TransportFault::BodyTooLarge,
            ..Failure::new(class, Scope::Call, message)
        }
    }
}
