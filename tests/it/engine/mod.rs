//! The engine on paused time, with a transport that a test scripts.

mod batch;
mod cache;
mod cancel;
mod fairness;
mod guard;
mod health;
mod key_marks;
mod keys;
mod line;
mod queue_view;
mod retry;
mod route;
mod stream;
mod stream_end;
mod token_counts;
mod transport;
mod users;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quotaflow::config::{Arguments, ConfigArgument, Settings, Sources};
use quotaflow::engine::{
    Answer, Chunks, Clock, Engine, Entropy, Incoming, KeyStatus, NextChunk, Notice, Observer,
    Opened, Opening, Outgoing, Request, Sending, TokioClock, Transport, World,
};
use quotaflow::error::{Error, ErrorKind};
use quotaflow::kernel::{FailureClass, Moment};
use quotaflow::providers::{Content, Message, Role, TransportFault};
use quotaflow::stores::{MemoryStore, QuotaStore};
use serde_json::{Value, json};
use tokio::time::Instant;

/// 15 January 2027, 08:00 UTC: midnight in California.
pub(crate) const START: Moment = Moment::from_seconds(1_800_000_000);

/// What comes of one attempt.
#[derive(Clone)]
pub(crate) struct Reply {
    after: Duration,
    outcome: Outcome,
}

#[derive(Clone)]
enum Outcome {
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: Value },
    Fault(TransportFault),
    Silence,
    Stream { headers: Vec<(&'static str, String)>, steps: Vec<Step> },
    ByKey(fn(&str) -> Reply),
}

/// What a stream does next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Says(String),
    /// Nothing for this many seconds.
    Waits(u64),
    Breaks(TransportFault),
}

impl Reply {
    fn of(outcome: Outcome) -> Self {
        Reply { after: Duration::ZERO, outcome }
    }

    fn answer(status: u16, body: Value) -> Self {
        Reply::of(Outcome::Answer { status, headers: Vec::new(), body })
    }

    /// A good answer in OpenAI's words.
    pub(crate) fn good() -> Self {
        Reply::completion("fine", "stop")
    }

    /// An answer in OpenAI's words that ends for this reason.
    pub(crate) fn completion(text: &str, reason: &str) -> Self {
        let message = json!({"role": "assistant", "content": text});
        let usage = json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15});
        let choice = json!({"index": 0, "message": message, "finish_reason": reason});
        Reply::answer(200, json!({"model": "m", "choices": [choice], "usage": usage}))
    }

    /// A good answer in Anthropic's words.
    pub(crate) fn good_message() -> Self {
        let content = json!([{"type": "text", "text": "fine"}]);
        let usage = json!({"input_tokens": 10, "output_tokens": 5});
        Reply::answer(
            200,
            json!({"type": "message", "content": content, "stop_reason": "end_turn", "usage": usage}),
        )
    }

    /// A refusal in the words that OpenAI and its relatives share.
    pub(crate) fn refusal(status: u16, message: &str) -> Self {
        Reply::answer(status, json!({"error": {"message": message, "type": "error", "code": null}}))
    }

    /// Whatever it is for this key.
    pub(crate) fn by_key(reply: fn(&str) -> Reply) -> Self {
        Reply::of(Outcome::ByKey(reply))
    }

    pub(crate) fn fault(fault: TransportFault) -> Self {
        Reply::of(Outcome::Fault(fault))
    }

    pub(crate) fn silence() -> Self {
        Reply::of(Outcome::Silence)
    }

    /// A 200 whose body comes step by step.
    pub(crate) fn stream(steps: Vec<Step>) -> Self {
        Reply::of(Outcome::Stream { headers: Vec::new(), steps })
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Outcome::Answer { headers, .. } | Outcome::Stream { headers, .. } = &mut self.outcome
        {
            headers.push((name, value.to_owned()));
        }
        self
    }

    pub(crate) fn after(self, seconds: u64) -> Self {
        Reply { after: Duration::from_secs(seconds), ..self }
    }
}

/// One request that left.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sent {
    /// The key it left with.
    pub(crate) key: String,
    /// When, in seconds since the start.
    pub(crate) at: f64,
    pub(crate) url: String,
    pub(crate) prompt: String,
}

/// A transport that answers from a queue, and keeps what was sent.
struct Scripted {
    clock: TokioClock,
    replies: Mutex<VecDeque<Reply>>,
    sent: Mutex<Vec<Sent>>,
    /// What was said in each request, turn by turn.
    conversations: Mutex<Vec<Vec<String>>>,
    /// How many bodies are on their way.
    open: Arc<AtomicUsize>,
}

impl Scripted {
    /// Takes down what was sent, and says what comes of it.
    fn take(&self, request: Outgoing) -> Reply {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let words = |message: &Value| message["content"].as_str().unwrap_or_default().to_owned();
        self.sent.lock().push(Sent {
            key: request.key.map_or_else(String::new, |(_, secret)| secret.expose().to_owned()),
            at: self.clock.now().since(START).as_secs_f64(),
            url: request.url,
            prompt: words(&body["messages"][0]),
        });
        self.conversations
            .lock()
            .push(body["messages"].as_array().unwrap().iter().map(words).collect());
        let reply = self.replies.lock().pop_front();
        let reply = reply.unwrap_or_else(|| panic!("nothing more was to be sent"));
        match reply.outcome {
            Outcome::ByKey(of) => of(&self.sent.lock().last().unwrap().key),
            _ => reply,
        }
    }
}

impl Transport for Scripted {
    fn post(&self, request: Outgoing) -> Sending {
        let reply = self.take(request);
        Box::pin(async move {
            tokio::time::sleep(reply.after).await;
            match reply.outcome {
                Outcome::Silence | Outcome::ByKey(_) | Outcome::Stream { .. } => {
                    std::future::pending().await
                }
                Outcome::Fault(fault) => Err(fault.failure("as scripted")),
                Outcome::Answer { status, headers, body } => Ok(Incoming {
                    status,
                    headers: headers.into_iter().collect(),
                    body: Bytes::from(body.to_string()),
                }),
            }
        })
    }

    fn open(&self, request: Outgoing) -> Opening {
        let (silence, open) = (request.read_timeout, self.open.clone());
        let reply = self.take(request);
        Box::pin(async move {
            tokio::time::sleep(reply.after).await;
            let (status, headers, steps) = match reply.outcome {
                Outcome::Silence | Outcome::ByKey(_) => std::future::pending().await,
                Outcome::Fault(fault) => return Err(fault.failure("as scripted")),
                Outcome::Answer { status, headers, body } => {
                    (status, headers, vec![Step::Says(body.to_string())])
                }
                Outcome::Stream { headers, steps } => (200, headers, steps),
            };
            open.fetch_add(1, Ordering::Relaxed);
            let body =
                Box::new(Steps { left: steps.into(), until: None, since: None, silence, open });
            Ok(Opened { status, headers: headers.into_iter().collect(), body })
        })
    }
}

/// A body that comes step by step, and is counted as long as somebody has it.
struct Steps {
    left: VecDeque<Step>,
    /// Until when and since when nothing comes.
    until: Option<Instant>,
    since: Option<Instant>,
    silence: Duration,
    open: Arc<AtomicUsize>,
}

impl Chunks for Steps {
    fn next(&mut self) -> NextChunk<'_> {
        Box::pin(async {
            loop {
                // A step is only over when it was waited for: the future may be dropped before.
                if let Some(until) = self.until {
                    let silence = self.since.get_or_insert_with(Instant::now);
                    let patience = *silence + self.silence;
                    tokio::time::sleep_until(until.min(patience)).await;
                    if patience < until {
                        return Err(TransportFault::AnswerTimeout.failure("as scripted"));
                    }
                    (self.until, self.since) = (None, None);
                }
                match self.left.pop_front() {
                    None => return Ok(None),
                    Some(Step::Says(text)) => return Ok(Some(Bytes::from(text))),
                    Some(Step::Breaks(fault)) => return Err(fault.failure("as scripted")),
                    Some(Step::Waits(seconds)) => {
                        self.until = Some(Instant::now() + Duration::from_secs(seconds));
                    }
                }
            }
        })
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Keeps every line that would be logged.
#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl Observer for Lines {
    fn notice(&self, notice: &Notice) {
        self.0.lock().push(notice.to_string());
    }
}

/// An engine with everything around it in a test's hands.
pub(crate) struct Stage {
    pub(crate) engine: Arc<Engine>,
    store: Arc<dyn QuotaStore>,
    clock: TokioClock,
    transport: Arc<Scripted>,
    lines: Arc<Lines>,
    config: Value,
}

impl Stage {
    /// An engine under `config`, whose requests get these replies in this order.
    pub(crate) fn new(config: Value, replies: impl IntoIterator<Item = Reply>) -> Self {
        Stage::on(Arc::new(MemoryStore::default()), TokioClock::starting_at(START), config, replies)
    }

    fn on(
        store: Arc<dyn QuotaStore>,
        clock: TokioClock,
        config: Value,
        replies: impl IntoIterator<Item = Reply>,
    ) -> Self {
        let arguments = Arguments {
            config: Some(ConfigArgument::Value(config.clone())),
            state: Some("memory".to_owned()),
            ..Arguments::default()
        };
        let settings = Settings::resolve(arguments, Sources::default()).unwrap();
        let transport = Arc::new(Scripted {
            clock,
            replies: Mutex::new(replies.into_iter().collect()),
            sent: Mutex::default(),
            conversations: Mutex::default(),
            open: Arc::default(),
        });
        let lines = Arc::new(Lines::default());
        let world = World {
            transport: transport.clone(),
            clock: Arc::new(clock),
            entropy: Entropy::seeded(7),
            observer: lines.clone(),
        };
        let engine = Engine::in_world(settings, store.clone(), world).unwrap();
        Stage { engine, store, clock, transport, lines, config }
    }

    /// A new process that finds what this one remembered.
    pub(crate) fn restarted(&self, replies: impl IntoIterator<Item = Reply>) -> Self {
        Stage::on(self.store.clone(), self.clock, self.config.clone(), replies)
    }

    pub(crate) async fn send(&self, ask: Request) -> Result<Answer, Error> {
        self.engine.send(ask).await
    }

    /// Sends in a task of its own, and lets it come as far as it can without time.
    pub(crate) async fn send_aside(&self, ask: Request) -> Aside {
        let engine = self.engine.clone();
        let task = tokio::spawn(async move { engine.send(ask).await });
        settle().await;
        task
    }

    /// What was said in each request, turn by turn.
    pub(crate) fn conversations(&self) -> Vec<Vec<String>> {
        self.transport.conversations.lock().clone()
    }

    /// How many bodies are on their way.
    pub(crate) fn open(&self) -> usize {
        self.transport.open.load(Ordering::Relaxed)
    }

    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.transport.sent.lock().clone()
    }

    /// The keys of all requests that left, in order.
    pub(crate) fn keys_used(&self) -> Vec<String> {
        self.sent().into_iter().map(|sent| sent.key).collect()
    }

    /// When they left, in seconds since the start.
    pub(crate) fn times(&self) -> Vec<f64> {
        self.sent().into_iter().map(|sent| sent.at).collect()
    }

    /// Seconds since the start.
    pub(crate) fn now(&self) -> f64 {
        self.clock.now().since(START).as_secs_f64()
    }

    pub(crate) fn at(&self, seconds: u64) -> Moment {
        START + Duration::from_secs(seconds)
    }

    /// The keys of a provider in the order of the config.
    pub(crate) fn keys_of(&self, provider: &str) -> Vec<KeyStatus> {
        let keys = self.engine.status().unwrap().keys;
        keys.into_iter().filter(|key| key.provider == provider).collect()
    }

    pub(crate) fn states_of(&self, provider: &str) -> Vec<&'static str> {
        self.keys_of(provider).into_iter().map(|key| key.state).collect()
    }

    /// How many wait in all lines.
    pub(crate) fn waiting(&self) -> usize {
        self.engine.status().unwrap().waiting.iter().map(|line| line.waiting).sum()
    }

    pub(crate) fn was_told(&self, words: &str) -> bool {
        self.lines.0.lock().iter().any(|line| line.contains(words))
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.0.lock().clone()
    }
}

pub(crate) type Aside = tokio::task::JoinHandle<Result<Answer, Error>>;

/// Lets every other task come as far as it can without time passing.
pub(crate) async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn pass(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

/// A question to OpenAI.
pub(crate) fn ask(prompt: &str) -> Request {
    let message = Message {
        role: Role::User,
        content: Content::Text(prompt.to_owned()),
        tool_calls: Vec::new(),
        tool_call_id: None,
        name: None,
    };
    let mut ask = Request::new(vec![message]);
    ask.model = Some("gpt-test".to_owned());
    ask
}

/// OpenAI with these keys and limits.
pub(crate) fn openai(keys: &[&str], limits: Value) -> Value {
    json!({"providers": {"openai": {"keys": keys, "limits": limits}}})
}

pub(crate) fn failures(error: &Error) -> Vec<Option<FailureClass>> {
    error.attempts.iter().map(|attempt| attempt.failure).collect()
}

pub(crate) fn is_failure(error: &Error, class: FailureClass) -> bool {
    error.kind == ErrorKind::Failure(class) && error.failure == Some(class)
}

pub(crate) fn within(value: f64, from: f64, to: f64) -> bool {
    (from..=to).contains(&value)
}
