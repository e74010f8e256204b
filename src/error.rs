//! Errors of a call: kind, status and facts.
//!
//! [`Error`] derefs to [`Facts`]: [`ErrorKind`] (what happened), [`Status`] (permanent, temporary, exhausted), message,
//! hint, failure class, HTTP status, retry delay, provider, model, key label, attempts. No error holds a key or a prompt;
//! texts of providers are redacted and cut to 500 characters.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::config::ConfigError;
use crate::kernel::{FailureClass, Moment, Usage};
use crate::providers::InvalidRequest;
use crate::stores::StoreError;

/// What happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The config is wrong.
    Config(ConfigError),
    /// An argument of the call is wrong.
    InvalidArgument {
        /// Which one.
        argument: String,
    },
    /// There is no key for the provider.
    NoKey,
    /// The quota state cannot be read or written.
    State(StoreError),
    /// The interface was closed.
    Closed,
    /// Too many calls wait already.
    QueueFull,
    /// The call was taken out of the waiting line on request.
    QueueCleared,
    /// A limit of the user on whose behalf the call is made stands in the way.
    UserLimit,
    /// The caller's deadline or timeout cannot be met or has passed.
    Deadline,
    /// A provider failed or refused, or a limit stands in the way.
    Failure(FailureClass),
    /// A stream broke off in the middle of its answer.
    Interrupted {
        /// What the caller was given of the answer.
        text: String,
    },
    /// A bug of quotaflow.
    Internal,
}

#[cfg(test)]
impl ErrorKind {
    /// One example of each kind.
    pub(crate) fn examples() -> Vec<ErrorKind> {
        let config = ConfigError {
            message: "wrong".to_owned(),
            path: "providers".to_owned(),
            hint: None,
            file: None,
        };
        let store = StoreError {
            trouble: crate::stores::StoreTrouble::DiskFull,
            path: None,
            detail: "full".to_owned(),
        };
        let mut kinds = vec![
            ErrorKind::Config(config),
            ErrorKind::InvalidArgument { argument: "prompt".to_owned() },
            ErrorKind::NoKey,
            ErrorKind::State(store),
            ErrorKind::Closed,
            ErrorKind::QueueFull,
            ErrorKind::QueueCleared,
            ErrorKind::UserLimit,
            ErrorKind::Deadline,
            ErrorKind::Interrupted { text: "half".to_owned() },
            ErrorKind::Internal,
        ];
        kinds.extend(FailureClass::ALL.map(ErrorKind::Failure));
        kinds
    }
}

/// What to make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It will fail again until something is changed.
    Permanent,
    /// It may work later.
    Temporary,
    /// It may work later, and was tried as often as was allowed: do not wrap another retry around it.
    Exhausted,
}

/// One attempt of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// The provider.
    pub provider: String,
    /// The model.
    pub model: String,
    /// The key's label.
    pub key: String,
    /// How it failed; `None` when it was answered.
    pub failure: Option<FailureClass>,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// When it left.
    pub started: Moment,
    /// How long it took.
    pub lasted: Duration,
    /// How long the call had waited for it since the attempt before, or since it began.
    pub waited: Duration,
}

/// What attempts used that broke off in the middle of their answers: what providers reported, or else the prompt as it
/// was estimated and a token for each four bytes of answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Tokens of all of them.
    pub usage: Usage,
    /// What that costs in picodollars; `None` when the price of one is unknown.
    pub cost: Option<u64>,
}

impl Default for Spent {
    fn default() -> Self {
        Spent { usage: Usage::default(), cost: Some(0) }
    }
}

impl Spent {
    /// Another attempt used `usage`, which costs `cost` picodollars.
    pub fn add(&mut self, usage: &Usage, cost: Option<u64>) {
        self.usage = self.usage.plus(usage);
        self.cost = self.cost.zip(cost).map(|(one, other)| one.saturating_add(other));
    }
}

/// An error with its facts, which it derefs to. It never holds a key or a prompt.
#[derive(Clone, PartialEq)]
pub struct Error(Box<Facts>);

/// What an error knows.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Facts {
    /// What happened.
    pub kind: ErrorKind,
    /// What to make of it.
    pub status: Status,
    /// What happened, in a sentence.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// The class of the last failure or of what stood in the way, if there was one.
    pub failure: Option<FailureClass>,
    /// The HTTP status of the last failure.
    pub http_status: Option<u16>,
    /// How long until trying again makes sense, if known.
    pub retry_after: Option<Duration>,
    /// The provider of the last attempt, or the first target.
    pub provider: Option<String>,
    /// Its model.
    pub model: Option<String>,
    /// The label of the key concerned.
    pub key: Option<String>,
    /// Which limit of its user stood in the way, if one did.
    pub user_limit: Option<UserLimit>,
    /// Every attempt, oldest first.
    pub attempts: Vec<Attempt>,
    /// What a stream had used that broke off.
    pub spent: Option<Spent>,
}

/// A limit of a user that stood in the way of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserLimit {
    /// What it is called in the config, for instance `rpm`.
    pub name: &'static str,
    /// How much of it is used, in units of what it counts; money in millionths of a US dollar.
    pub used: u64,
    /// How much it allows.
    pub amount: u64,
}

impl Error {
    /// An error that only has its kind and its words.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let status = match &kind {
            ErrorKind::Config(_) | ErrorKind::InvalidArgument { .. } | ErrorKind::NoKey => {
                Status::Permanent
            }
            ErrorKind::State(_) | ErrorKind::Closed | ErrorKind::Internal => Status::Permanent,
            ErrorKind::QueueFull
            | ErrorKind::QueueCleared
            | ErrorKind::UserLimit
            | ErrorKind::Deadline
            | ErrorKind::Interrupted { .. } => Status::Temporary,
            ErrorKind::Failure(
                FailureClass::InvalidRequest
                | FailureClass::ContextTooLong
                | FailureClass::ContentFiltered
                | FailureClass::Auth
                | FailureClass::Permission
                | FailureClass::NotFound,
            ) => Status::Permanent,
            ErrorKind::Failure(_) => Status::Exhausted,
        };
        let failure = match &kind {
            ErrorKind::Failure(class) => Some(*class),
            _ => None,
        };
        Error(Box::new(Facts {
            kind,
            status,
            message: message.into(),
            hint: None,
            failure,
            http_status: None,
            retry_after: None,
            provider: None,
            model: None,
            key: None,
            user_limit: None,
            attempts: Vec::new(),
            spent: None,
        }))
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        self.with(|facts| facts.hint = Some(hint.into()))
    }

    /// The same with other facts.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Facts)) -> Self {
        change(&mut self.0);
        self
    }

    /// A wrong argument.
    pub fn argument(argument: &str, message: impl Into<String>) -> Self {
        Error::new(ErrorKind::InvalidArgument { argument: argument.to_owned() }, message)
    }
}

impl Deref for Error {
    type Target = Facts;
    fn deref(&self) -> &Facts {
        &self.0
    }
}

impl DerefMut for Error {
    fn deref_mut(&mut self) -> &mut Facts {
        &mut self.0
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        let bare = ConfigError { hint: None, ..error.clone() };
        let hint = error.hint.clone();
        Error::new(ErrorKind::Config(error), bare.to_string()).with(|facts| facts.hint = hint)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let (message, hint) = (error.to_string(), error.hint());
        Error::new(ErrorKind::State(error), message).hint(hint)
    }
}

impl From<InvalidRequest> for Error {
    fn from(wrong: InvalidRequest) -> Self {
        let argument = match &wrong.field {
            Some(field) if !wrong.is_about_the_prompt() => field.as_str(),
            _ => "prompt",
        };
        Error::argument(argument, wrong.message)
    }
}
