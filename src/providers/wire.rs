//! Wire requests and responses as plain values.

use std::fmt;

use bytes::Bytes;

use crate::kernel::{Amounts, Moment};

/// The header that carries the key, and what stands before the key in it.
///
/// The secret itself is never part of this ring; the transport writes it behind `prefix`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHeader {
    /// Header name, lower case.
    pub name: &'static str,
    /// What is written before the key: `"Bearer "` or nothing.
    pub prefix: &'static str,
}

impl KeyHeader {
    /// `authorization: Bearer <key>` (OpenAI and all its relatives).
    pub const BEARER: KeyHeader = KeyHeader { name: "authorization", prefix: "Bearer " };
    /// `x-api-key: <key>` (Anthropic).
    pub const ANTHROPIC: KeyHeader = KeyHeader { name: "x-api-key", prefix: "" };
    /// `x-goog-api-key: <key>` (Gemini; the query form `?key=` would leak into logs).
    pub const GEMINI: KeyHeader = KeyHeader { name: "x-goog-api-key", prefix: "" };
    /// `api-key: <key>` (Azure OpenAI).
    pub const AZURE: KeyHeader = KeyHeader { name: "api-key", prefix: "" };
}

/// One request, ready to be posted once the key has been added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireRequest {
    /// The full URL.
    pub path_url: String,
    /// Headers, without the key; names are lower case.
    pub headers: Vec<(&'static str, String)>,
    /// Where the key goes; the transport leaves it out when it has no key.
    pub key_header: Option<KeyHeader>,
    /// The JSON body.
    pub body: Vec<u8>,
}

/// One answer, whole, with what is needed to read it.
#[derive(Clone, Copy, Debug)]
pub struct WireResponse<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The headers of the answer.
    pub headers: &'a Headers,
    /// The body, already unpacked.
    pub body: &'a Bytes,
    /// When the answer came; delays are counted from here.
    pub now: Moment,
    /// What the call was thought to take, to tell "too much now" from "too much for ever".
    pub estimate: Amounts,
    /// The model that was asked.
    pub model: &'a str,
}

/// Headers of an answer: few, read by name, case does not matter.
///
/// ```
/// use quotaflow::providers::Headers;
/// let headers: Headers = [("Retry-After", "36")].into_iter().collect();
/// assert_eq!(headers.get("retry-after"), Some("36"));
/// assert_eq!(headers.get("x-request-id"), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Box<str>, Box<str>)>);

impl Headers {
    /// The first value of `name`, whatever its case, without blanks around it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// Whether any code of this ring ever reads `name`, so that a transport may copy only those.
    ///
    /// ```
    /// use quotaflow::providers::Headers;
    /// assert!(Headers::is_read("X-RateLimit-Reset"));
    /// assert!(!Headers::is_read("set-cookie"));
    /// ```
    pub fn is_read(name: &str) -> bool {
        const NAMES: [&str; 8] = [
            "retry-after",
            "retry-after-ms",
            "x-should-retry",
            "openai-organization",
            "anthropic-organization-id",
            "x-request-id",
            "request-id",
            "location",
        ];
        const PREFIXES: [&str; 5] = [
            "x-ratelimit-",
            "anthropic-ratelimit-",
            "x-ratelimitbysize-",
            "ratelimitbysize-",
            "x-tokenlimit-",
        ];
        NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
            || PREFIXES.iter().any(|prefix| {
                name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
            })
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let pair = |(name, value): (N, V)| (name.as_ref().into(), value.as_ref().trim().into());
        Headers(pairs.into_iter().map(pair).collect())
    }
}

/// A request that is wrong before it is sent; nothing has been reserved or spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidRequest {
    /// What is wrong and what to write instead.
    pub message: String,
    /// The parameter or message it is about, for instance `temperature` or `messages[2].content`.
    pub field: Option<String>,
}

impl InvalidRequest {
    /// A complaint about one field.
    pub fn about(field: impl Into<String>, message: impl Into<String>) -> Self {
        InvalidRequest { message: message.into(), field: Some(field.into()) }
    }

    /// Whether it is the conversation that is wrong, and not a parameter beside it.
    ///
    /// ```
    /// use quotaflow::providers::InvalidRequest;
    /// assert!(InvalidRequest::about("messages[2].content", "is empty").is_about_the_prompt());
    /// assert!(!InvalidRequest::about("tool_choice", "is wrong").is_about_the_prompt());
    /// ```
    pub fn is_about_the_prompt(&self) -> bool {
        self.field
            .as_deref()
            .is_none_or(|field| field.starts_with("messages") || field.starts_with("tool_call"))
    }
}

impl fmt::Display for InvalidRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for InvalidRequest {}
