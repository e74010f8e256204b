//! The transport: posts a request to a provider and returns the answer.
//!
//! One method is enough for a transport, so a test double is ten lines.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::config::Timeouts;
use crate::kernel::{Failure, FailureClass, Scope};
use crate::providers::{Headers, KeyHeader, TransportFault};
use crate::secret::Secret;

/// A request with its key. Its `Debug` shows neither the key nor the prompt.
#[derive(Clone)]
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
    /// Whether the server is on this machine or in this network: if it is there, it takes a connection at once.
    pub is_near: bool,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| *name).collect();
        f.debug_struct("Outgoing")
            .field("url", &self.url)
            .field("headers", &names)
            .field("key", &self.key.as_ref().map(|(header, _)| header.name))
            .field("body", &format_args!("{} bytes", self.body.len()))
            .field("read_timeout", &self.read_timeout)
            .finish()
    }
}

/// An answer of any status.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The HTTP status.
    pub status: u16,
    /// The headers that are used.
    pub headers: Headers,
    /// The whole body.
    pub body: Bytes,
}

/// The outcome of sending.
pub type Sending = Pin<Box<dyn Future<Output = Result<Incoming, Failure>> + Send>>;

/// An answer of any status whose body is still on its way.
pub struct Opened {
    /// The HTTP status.
    pub status: u16,
    /// The headers that are used.
    pub headers: Headers,
    /// The body. Dropping it ends the request.
    pub body: Box<dyn Chunks>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("status", &self.status).finish_non_exhaustive()
    }
}

/// The outcome of opening.
pub type Opening = Pin<Box<dyn Future<Output = Result<Opened, Failure>> + Send>>;

/// The next piece of a body, `None` at its end.
pub type NextChunk<'a> = Pin<Box<dyn Future<Output = Result<Option<Bytes>, Failure>> + Send + 'a>>;

/// A body as it arrives. What is not read stays with the server.
pub trait Chunks: Send {
    /// Waits for the next piece, no longer than the request's `read_timeout`. Dropping the future loses nothing.
    fn next(&mut self) -> NextChunk<'_>;
}

/// Sends one request and brings one answer.
pub trait Transport: Send + Sync {
    /// Posts `request`. A failure records whether it provably never left.
    fn post(&self, request: Outgoing) -> Sending;

    /// Posts `request` and leaves the body on its way. Unless a transport can do better, it comes in one piece.
    fn open(&self, request: Outgoing) -> Opening {
        let sending = self.post(request);
        Box::pin(async move {
            let Incoming { status, headers, body } = sending.await?;
            Ok(Opened { status, headers, body: Box::new(Whole(Some(body))) })
        })
    }
}

/// A body that is there already.
struct Whole(Option<Bytes>);

impl Chunks for Whole {
    fn next(&mut self) -> NextChunk<'_> {
        let body = self.0.take().filter(|body| !body.is_empty());
        Box::pin(std::future::ready(Ok(body)))
    }
}

/// Answers are text of a few kilobytes; what is larger than this is no answer.
const LARGEST_BODY: usize = 32 * 1024 * 1024;

/// HTTPS with reqwest and rustls.
#[derive(Clone, Debug)]
pub struct HttpTransport {
    client: reqwest::Client,
    /// For servers nearby; made when the first one is asked.
    near: Arc<OnceLock<Result<reqwest::Client, String>>>,
    connect: Duration,
}

/// A server in the user's network that takes no connection within this time is not there.
const NEAR: Duration = Duration::from_millis(300);

fn client(connect: Duration) -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .connect_timeout(connect)
        .pool_idle_timeout(Duration::from_secs(90))
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("quotaflow/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| words(&error))
}

impl HttpTransport {
    /// A client with a pool of connections. Must be made and used inside a tokio runtime.
    ///
    /// # Errors
    /// The words of the TLS library when it cannot be set up (no certificates on this machine).
    pub fn new(timeouts: &Timeouts) -> Result<Self, String> {
        // A crypto provider that was installed earlier in this process is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let connect = timeouts.connect;
        Ok(HttpTransport { client: client(connect)?, near: Arc::default(), connect })
    }

    /// The client for a server far away or nearby.
    fn client(&self, is_near: bool) -> reqwest::Client {
        if !is_near {
            return self.client.clone();
        }
        // The far one was made, so the near one can be.
        let near = self.near.get_or_init(|| client(self.connect.min(NEAR)));
        near.as_ref().unwrap_or(&self.client).clone()
    }
}

impl Transport for HttpTransport {
    fn post(&self, request: Outgoing) -> Sending {
        let (client, silence) = (self.client(request.is_near), request.read_timeout);
        Box::pin(async move {
            let (status, headers, response) = begin(client, request).await?;
            let body = whole_body(response, silence).await?;
            Ok(Incoming { status, headers, body })
        })
    }

    fn open(&self, request: Outgoing) -> Opening {
        let (client, silence) = (self.client(request.is_near), request.read_timeout);
        Box::pin(async move {
            let (status, headers, response) = begin(client, request).await?;
            Ok(Opened { status, headers, body: Box::new(OnItsWay { response, silence }) })
        })
    }
}

/// A body on a connection.
struct OnItsWay {
    response: reqwest::Response,
    silence: Duration,
}

impl Chunks for OnItsWay {
    fn next(&mut self) -> NextChunk<'_> {
        Box::pin(in_time(self.silence, self.response.chunk()))
    }
}

/// Sends `request` and waits for the head of the answer.
async fn begin(
    client: reqwest::Client,
    request: Outgoing,
) -> Result<(u16, Headers, reqwest::Response), Failure> {
    let mut builder = client.post(&request.url).body(request.body);
    for (name, value) in &request.headers {
        builder = builder.header(*name, value);
    }
    if let Some((header, secret)) = &request.key {
        let text = zeroize::Zeroizing::new(format!("{}{}", header.prefix, secret.expose()));
        let mut value =
            reqwest::header::HeaderValue::from_str(&text).map_err(|_| unsendable_key())?;
        value.set_sensitive(true);
        builder = builder.header(header.name, value);
    }
    let response = in_time(request.read_timeout, builder.send()).await?;
    let status = response.status().as_u16();
    let headers = response
        .headers()
        .iter()
        .filter(|(name, _)| Headers::is_read(name.as_str()))
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .collect();
    Ok((status, headers, response))
}

async fn in_time<T>(
    silence: Duration,
    work: impl Future<Output = reqwest::Result<T>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(silence, work).await {
        Ok(outcome) => outcome.map_err(|error| classified(&error)),
        Err(_) => {
            let detail = format!("nothing for {} s", silence.as_secs_f64());
            Err(TransportFault::AnswerTimeout.failure(&detail))
        }
    }
}

async fn whole_body(mut response: reqwest::Response, silence: Duration) -> Result<Bytes, Failure> {
    let too_large = || {
        let largest = LARGEST_BODY / (1024 * 1024);
        TransportFault::BodyTooLarge.failure(&format!("more than {largest} MiB"))
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

/// This key is as good as invalid; another one may work.
fn unsendable_key() -> Failure {
    let words = "the key holds characters that no header may hold";
    Failure { never_sent: true, ..Failure::new(FailureClass::Auth, Scope::Key, words) }
}

fn classified(error: &reqwest::Error) -> Failure {
    let detail = words(error);
    if error.is_builder() {
        let words = format!("the request could not be built: {detail}");
        return Failure {
            never_sent: true,
            ..Failure::new(FailureClass::InvalidRequest, Scope::Call, words)
        };
    }
    if !error.is_connect() {
        let timeout = error.is_timeout();
        let fault = if timeout { TransportFault::AnswerTimeout } else { TransportFault::Broken };
        return fault.failure(&detail);
    }
    // Without a connection nothing can have left, whatever stood in the way.
    let fault = if error.is_timeout() { Some(TransportFault::ConnectTimeout) } else { None };
    let fault = fault.or_else(|| causes(error).into_iter().find_map(fault_of));
    Failure { never_sent: true, ..fault.unwrap_or(TransportFault::Broken).failure(&detail) }
}

/// The transport fault behind one cause of a failed connection.
fn fault_of(cause: &(dyn Error + 'static)) -> Option<TransportFault> {
    if cause.is::<rustls::Error>() {
        return Some(TransportFault::Tls);
    }
    if let Some(system) = cause.downcast_ref::<io::Error>() {
        let refused = system.kind() == io::ErrorKind::ConnectionRefused;
        // An error in an I/O error is not among its sources, only what lies below it is.
        return match system.get_ref() {
            Some(inner) => fault_of(inner),
            None => refused.then_some(TransportFault::Refused),
        };
    }
    // The resolver's error has no public type.
    cause.to_string().starts_with("dns error").then_some(TransportFault::NameNotFound)
}

fn causes(error: &reqwest::Error) -> Vec<&(dyn Error + 'static)> {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause);
        next = cause.source();
    }
    causes
}

/// The causes of an error in one line, without the URL.
fn words(error: &reqwest::Error) -> String {
    let mut words: Vec<String> = causes(error).iter().map(ToString::to_string).collect();
    words.dedup();
    if words.is_empty() { "no more is known".to_owned() } else { words.join(": ") }
}
