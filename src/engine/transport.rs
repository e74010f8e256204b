//! How does a request reach a provider? One method, so that a stand-in is ten lines.

use std::error::Error as _;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::config::Timeouts;
use crate::kernel::{Failure, FailureClass, Scope};
use crate::providers::{Headers, KeyHeader};
use crate::secret::Secret;

/// A request with its key.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The full URL.
    pub url: String,
    /// Headers without the key.
    pub headers: Vec<(&'static str, String)>,
    /// Where the key goes, and the key.
    pub key: Option<(KeyHeader, Secret)>,
    /// The JSON body.
    pub body: Bytes,
    /// The longest silence of the server.
    pub read_timeout: Duration,
}

/// An answer of any status.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The HTTP status.
    pub status: u16,
    /// The headers that mean something to us.
    pub headers: Headers,
    /// The whole body.
    pub body: Bytes,
}

/// What comes of sending.
pub type Sending = Pin<Box<dyn Future<Output = Result<Incoming, Failure>> + Send>>;

/// Sends one request and brings one answer.
pub trait Transport: Send + Sync {
    /// Posts `request`. A failure says whether it provably never left.
    fn post(&self, request: Outgoing) -> Sending;
}

/// Answers are text of a few kilobytes; what is larger than this is no answer.
const LARGEST_BODY: usize = 32 * 1024 * 1024;

/// The real thing: reqwest with rustls.
#[derive(Clone, Debug)]
pub struct HttpTransport {
    client: reqwest::Client,
}

impl HttpTransport {
    /// A client with a pool of connections. Must be made and used inside a tokio runtime.
    ///
    /// # Errors
    /// The words of the TLS library when it cannot be set up (no certificates on this machine).
    pub fn new(timeouts: &Timeouts) -> Result<Self, String> {
        // Whoever installed a provider first in this process is as good as we are.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(timeouts.connect)
            .pool_idle_timeout(Duration::from_secs(90))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("quotaflow/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| words(&error))?;
        Ok(HttpTransport { client })
    }
}

impl Transport for HttpTransport {
    fn post(&self, request: Outgoing) -> Sending {
        let client = self.client.clone();
        Box::pin(async move {
            let mut builder = client.post(&request.url).body(request.body);
            for (name, value) in &request.headers {
                builder = builder.header(*name, value);
            }
            if let Some((header, secret)) = &request.key {
                let text = zeroize::Zeroizing::new(format!("{}{}", header.prefix, secret.expose()));
                let mut value = reqwest::header::HeaderValue::from_str(&text)
                    .map_err(|_| never_sent("the key holds characters that no header may hold"))?;
                value.set_sensitive(true);
                builder = builder.header(header.name, value);
            }
            let silence = request.read_timeout;
            let response = in_time(silence, builder.send()).await?;
            let status = response.status().as_u16();
            let headers = response
                .headers()
                .iter()
                .filter(|(name, _)| Headers::is_read(name.as_str()))
                .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
                .collect();
            let body = whole_body(response, silence).await?;
            Ok(Incoming { status, headers, body })
        })
    }
}

async fn in_time<T>(
    silence: Duration,
    work: impl Future<Output = reqwest::Result<T>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(silence, work).await {
        Ok(outcome) => outcome.map_err(|error| classified(&error)),
        Err(_) => Err(Failure::new(
            FailureClass::Timeout,
            Scope::Call,
            format!("no answer within {} s", silence.as_secs_f64()),
        )),
    }
}

async fn whole_body(mut response: reqwest::Response, silence: Duration) -> Result<Bytes, Failure> {
    let too_large = || {
        let largest = LARGEST_BODY / (1024 * 1024);
        Failure::new(
            FailureClass::ServerError,
            Scope::Call,
            format!("the answer is larger than {largest} MiB; no model answers that much"),
        )
    };
    if response.content_length().is_some_and(|length| length > LARGEST_BODY as u64) {
        return Err(too_large());
    }
    let Some(first) = in_time(silence, response.chunk()).await? else { return Ok(Bytes::new()) };
    let Some(second) = in_time(silence, response.chunk()).await? else { return Ok(first) };
    let mut body = BytesMut::with_capacity(first.len() + second.len());
    body.extend_from_slice(&first);
    body.extend_from_slice(&second);
    while let Some(chunk) = in_time(silence, response.chunk()).await? {
        if body.len() + chunk.len() > LARGEST_BODY {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn never_sent(message: &str) -> Failure {
    Failure { never_sent: true, ..Failure::new(FailureClass::Network, Scope::Call, message) }
}

fn classified(error: &reqwest::Error) -> Failure {
    if error.is_connect() {
        return never_sent(&format!("no connection: {}", words(error)));
    }
    if error.is_builder() {
        return never_sent(&words(error));
    }
    let class = if error.is_timeout() { FailureClass::Timeout } else { FailureClass::Network };
    Failure::new(class, Scope::Call, format!("the connection broke: {}", words(error)))
}

/// The causes of an error in one line, without the URL.
fn words(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    let mut words: Vec<String> = Vec::new();
    while let Some(inner) = cause {
        words.push(inner.to_string());
        cause = inner.source();
    }
    words.dedup();
    if words.is_empty() { "the request could not be built".to_owned() } else { words.join(": ") }
}
