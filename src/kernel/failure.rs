//! Failures: class, scope, end, and the remedy that each class allows.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::limits::{Period, Resource};
use super::moment::Moment;

/// The class of a failure; the words are the ones Python sees in `.failure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureClass {
    /// Too many requests for a short window.
    RateLimited,
    /// Too many tokens for a short window, or a request larger than the window can ever hold.
    TokenLimited,
    /// The quota of a day (or longer) is used up.
    DailyQuota,
    /// No money: credit, prepayment or a spend cap.
    CreditExhausted,
    /// The provider has no capacity now.
    Overloaded,
    /// The provider broke.
    ServerError,
    /// No answer in time.
    Timeout,
    /// No connection, or it broke.
    Network,
    /// The key is not valid.
    Auth,
    /// The key is valid but may not do this.
    Permission,
    /// No such model for this key.
    NotFound,
    /// The request is wrong and will be wrong again.
    InvalidRequest,
    /// The prompt does not fit the model's window.
    ContextTooLong,
    /// The provider will not answer this content.
    ContentFiltered,
}

impl FailureClass {
    /// Every class.
    pub const ALL: [FailureClass; 14] = [
        FailureClass::RateLimited,
        FailureClass::TokenLimited,
        FailureClass::DailyQuota,
        FailureClass::CreditExhausted,
        FailureClass::Overloaded,
        FailureClass::ServerError,
        FailureClass::Timeout,
        FailureClass::Network,
        FailureClass::Auth,
        FailureClass::Permission,
        FailureClass::NotFound,
        FailureClass::InvalidRequest,
        FailureClass::ContextTooLong,
        FailureClass::ContentFiltered,
    ];

    /// The name in snake case, as in `error.failure`.
    pub const fn name(self) -> &'static str {
        match self {
            FailureClass::RateLimited => "rate_limited",
            FailureClass::TokenLimited => "token_limited",
            FailureClass::DailyQuota => "daily_quota",
            FailureClass::CreditExhausted => "credit_exhausted",
            FailureClass::Overloaded => "overloaded",
            FailureClass::ServerError => "server_error",
            FailureClass::Timeout => "timeout",
            FailureClass::Network => "network",
            FailureClass::Auth => "auth",
            FailureClass::Permission => "permission",
            FailureClass::NotFound => "not_found",
            FailureClass::InvalidRequest => "invalid_request",
            FailureClass::ContextTooLong => "context_too_long",
            FailureClass::ContentFiltered => "content_filtered",
        }
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a refusal speaks about: everything in it is closed until the block ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Scope {
    /// This call only; no other call is concerned.
    Call,
    /// This key at every model.
    Key,
    /// This key's quota group, for this model.
    GroupModel,
    /// This key's quota group, for every model.
    Group,
    /// This key's quota group, for every free model (OpenRouter's `:free`).
    GroupFreeModels,
    /// This provider's model, with any key.
    Model,
}

impl Scope {
    /// The name in snake case, as it is stored and as Python sees it.
    pub const fn name(self) -> &'static str {
        match self {
            Scope::Call => "call",
            Scope::Key => "key",
            Scope::GroupModel => "group_model",
            Scope::Group => "group",
            Scope::GroupFreeModels => "group_free_models",
            Scope::Model => "model",
        }
    }
}

/// How sure an instant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The provider said so (in a header, a body, or by its documented reset).
    Provider,
    /// We guessed; one call may probe it.
    Guess,
}

/// "Not before this instant", and who said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Until {
    /// The first instant at which trying makes sense.
    pub at: Moment,
    /// Whose word it is.
    pub origin: Origin,
}

/// The limit a refusal named, as far as it named it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitFact {
    /// What is limited.
    pub resource: Resource,
    /// Over which window.
    pub period: Period,
    /// The provider's limit.
    pub amount: Option<u64>,
    /// What the refused request asked for.
    pub requested: Option<u64>,
}

/// One failed attempt, classified. Carries facts, never a key or a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure.
    pub class: FailureClass,
    /// What it closes.
    pub scope: Scope,
    /// The HTTP status, or the one embedded in a stream; `None` when there was no answer.
    pub status: Option<u16>,
    /// The provider's words, redacted and shortened to 500 characters.
    pub message: String,
    /// When it makes sense to try again, if that is known.
    pub until: Option<Until>,
    /// The limit that was hit, if it was named.
    pub limit: Option<LimitFact>,
    /// The request can never pass this group (larger than its limit): waiting is useless.
    pub never_here: bool,
    /// The request provably never left this machine, so nothing was counted.
    pub never_sent: bool,
    /// One such answer is not proof yet (OpenRouter's 401 during its own outage): act on the second in a row.
    pub needs_confirmation: bool,
    /// The provider's id of the request, for its support.
    pub request_id: Option<String>,
}

impl Failure {
    /// A failure with nothing but its class, scope and words; the rest is filled in with struct update.
    pub fn new(class: FailureClass, scope: Scope, message: impl Into<String>) -> Self {
        Failure {
            class,
            scope,
            status: None,
            message: message.into(),
            until: None,
            limit: None,
            never_here: false,
            never_sent: false,
            needs_confirmation: false,
            request_id: None,
        }
    }

    /// What to do about it: the table of [`FailureClass::remedy`], with the exceptions a single refusal may carry.
    pub fn remedy(&self) -> Remedy {
        let remedy = self.class.remedy();
        if self.never_here {
            return Remedy { same_lane: SameLane::Never, ..remedy };
        }
        remedy
    }
}

/// What the same lane is good for after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SameLane {
    /// Nothing: trying again cannot succeed.
    Never,
    /// Trying again when the block that the refusal left has ended.
    AfterBlock,
    /// Trying again after an exponential back-off.
    AfterBackoff,
}

/// Where a call may go after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Remedy {
    /// The lane that failed.
    pub same_lane: SameLane,
    /// Another key of the same quota group.
    pub other_key: bool,
    /// A key of another quota group.
    pub other_group: bool,
    /// The next target of the route.
    pub next_target: bool,
}

impl Remedy {
    /// Whether there is none: the same would come of it anywhere.
    ///
    /// ```
    /// use quotaflow::kernel::FailureClass;
    /// assert!(FailureClass::InvalidRequest.remedy().is_none());
    /// assert!(!FailureClass::NotFound.remedy().is_none());
    /// ```
    pub const fn is_none(self) -> bool {
        matches!(self.same_lane, SameLane::Never)
            && !(self.other_key || self.other_group || self.next_target)
    }
}

impl FailureClass {
    /// What a failure of this class closes when nothing more is known.
    ///
    /// ```
    /// use quotaflow::kernel::{FailureClass, Scope};
    /// assert_eq!(FailureClass::Auth.usual_scope(), Scope::Key);
    /// ```
    pub const fn usual_scope(self) -> Scope {
        match self {
            FailureClass::RateLimited
            | FailureClass::TokenLimited
            | FailureClass::DailyQuota
            | FailureClass::Permission
            | FailureClass::NotFound => Scope::GroupModel,
            FailureClass::CreditExhausted => Scope::Group,
            FailureClass::Overloaded => Scope::Model,
            FailureClass::Auth => Scope::Key,
            FailureClass::ServerError
            | FailureClass::Timeout
            | FailureClass::Network
            | FailureClass::InvalidRequest
            | FailureClass::ContextTooLong
            | FailureClass::ContentFiltered => Scope::Call,
        }
    }

    /// What to do after a failure of this class.
    pub const fn remedy(self) -> Remedy {
        use SameLane::{AfterBackoff, AfterBlock, Never};
        let (same_lane, other_key, other_group, next_target) = match self {
            FailureClass::RateLimited => (AfterBlock, false, true, true),
            FailureClass::TokenLimited => (AfterBlock, false, true, true),
            // Rolling days give capacity back within seconds or hours; the block says which.
            FailureClass::DailyQuota => (AfterBlock, false, true, true),
            FailureClass::CreditExhausted => (Never, false, true, true),
            FailureClass::Overloaded => (AfterBackoff, false, false, true),
            FailureClass::ServerError => (AfterBackoff, false, false, true),
            FailureClass::Timeout => (AfterBackoff, false, false, true),
            FailureClass::Network => (AfterBackoff, false, false, true),
            FailureClass::Auth => (Never, true, true, true),
            FailureClass::Permission => (Never, false, true, true),
            FailureClass::NotFound => (Never, false, true, true),
            FailureClass::InvalidRequest => (Never, false, false, false),
            FailureClass::ContextTooLong => (Never, false, false, false),
            FailureClass::ContentFiltered => (Never, false, false, false),
        };
        Remedy { same_lane, other_key, other_group, next_target }
    }
}
