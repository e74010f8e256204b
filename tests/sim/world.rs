//! A simulated world: its parts, and how a call is made in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use quotaflow::config::{Arguments, ConfigArgument, Settings, Sources};
use quotaflow::engine::{self, Answer, Clock, Engine, Entropy, Request, TokioClock};
use quotaflow::error::{Error, ErrorKind};
use quotaflow::kernel::{FailureClass, Moment};
use quotaflow::providers::{Content, Message, Role};
use quotaflow::simulator::{Simulator, SimulatorSettings};
use quotaflow::stores::{MemoryStore, QuotaStore};
use serde_json::{Map, Value};

use crate::network::{Network, Wire};
use crate::trace::{CALL, Trace};
use crate::watch::Watch;

/// Everything a world follows from.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) start: Moment,
    /// What the user configured.
    pub(crate) config: Value,
    /// What the providers are like.
    pub(crate) providers: Value,
}

/// Providers, wires, a clock, and the trace of what happens.
pub(crate) struct World {
    pub(crate) network: Arc<Network>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) trace: Arc<Trace>,
    pub(crate) truth: TokioClock,
    settings: Settings,
    seed: u64,
    calls: AtomicU32,
}

/// How a call ended.
#[derive(Clone, Debug)]
pub(crate) enum End {
    Answered(Box<Answer>),
    Failed(Box<Error>),
    /// The caller dropped it.
    Dropped,
}

/// A call that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) call: u32,
    pub(crate) lasted: Duration,
    pub(crate) end: End,
}

impl Ended {
    pub(crate) fn answer(&self) -> &Answer {
        match &self.end {
            End::Answered(answer) => answer,
            other => panic!("call {} has no answer: {other:?}", self.call),
        }
    }

    pub(crate) fn is_answered(&self) -> bool {
        matches!(self.end, End::Answered(_))
    }

    pub(crate) fn error(&self) -> &Error {
        match &self.end {
            End::Failed(error) => error,
            other => panic!("call {} did not fail: {other:?}", self.call),
        }
    }
}

impl World {
    /// A world whose time begins now. Must be made in virtual time.
    pub(crate) fn new(plan: &Plan) -> World {
        let truth = TokioClock::starting_at(plan.start);
        let trace = Trace::new(truth);
        let simulated = SimulatorSettings::from_yaml(&plan.providers.to_string()).unwrap();
        let labels: BTreeMap<String, String> =
            simulated.keys.iter().map(|key| (key.key.clone(), key.label.clone())).collect();
        let simulator = Simulator::new(simulated).unwrap();
        let network = Network::new(simulator, labels, plan.seed, truth, trace.clone());
        let config = Some(ConfigArgument::Value(plan.config.clone()));
        let arguments = Arguments { config, state: Some("memory".into()), ..Arguments::default() };
        World {
            network,
            watch: Arc::new(Watch::right(truth)),
            trace,
            truth,
            settings: Settings::resolve(arguments, Sources::default()).unwrap(),
            seed: plan.seed,
            calls: AtomicU32::new(0),
        }
    }

    /// A process that begins, with what `store` remembers.
    pub(crate) fn engine(&self, store: Arc<dyn QuotaStore>) -> Arc<Engine> {
        self.engine_with(store, Arc::new(Wire(self.network.clone())))
    }

    pub(crate) fn engine_with(
        &self,
        store: Arc<dyn QuotaStore>,
        transport: Arc<dyn engine::Transport>,
    ) -> Arc<Engine> {
        let world = engine::World {
            transport,
            clock: self.watch.clone(),
            entropy: Entropy::seeded(self.seed),
            observer: self.trace.clone(),
        };
        Engine::in_world(self.settings.clone(), store, world).unwrap()
    }

    /// A process that remembers in memory.
    pub(crate) fn fresh_engine(&self) -> Arc<Engine> {
        self.engine(Arc::new(MemoryStore::default()))
    }

    /// One call; dropped after `drop_after` if that is given and it has not ended by then.
    pub(crate) fn call(
        &self,
        engine: &Arc<Engine>,
        ask: Request,
        drop_after: Option<Duration>,
    ) -> impl Future<Output = Ended> + Send + use<> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let (engine, trace, truth) = (engine.clone(), self.trace.clone(), self.truth);
        CALL.scope(call, async move {
            let began = truth.now();
            let what = ask.task_name.as_ref().or(ask.model.as_ref()).cloned().unwrap_or_default();
            trace.line(Some(call), format_args!("asks for {what}"));
            let sending = engine.send(ask);
            let end = match drop_after {
                None => of(sending.await),
                Some(patience) => match tokio::time::timeout(patience, sending).await {
                    Ok(outcome) => of(outcome),
                    Err(_) => End::Dropped,
                },
            };
            let lasted = truth.now().since(began);
            let seconds = lasted.as_secs_f64();
            match &end {
                End::Answered(answer) => trace.line(
                    Some(call),
                    format_args!("is answered by {} after {seconds:.3} s", answer.key),
                ),
                End::Failed(error) => trace
                    .line(Some(call), format_args!("fails after {seconds:.3} s: {}", kind(error))),
                End::Dropped => trace.line(Some(call), "is dropped by its caller"),
            }
            Ended { call, lasted, end }
        })
    }

    /// One call, carried out to its end.
    pub(crate) async fn carry_out(&self, engine: &Arc<Engine>, ask: Request) -> Ended {
        self.call(engine, ask, None).await
    }

    /// Lets `calls` go on side by side and brings their ends, in the order of the calls.
    pub(crate) async fn all(
        calls: impl IntoIterator<Item = impl Future<Output = Ended> + Send + 'static>,
    ) -> Vec<Ended> {
        let going: Vec<_> = calls.into_iter().map(tokio::spawn).collect();
        let mut ended = Vec::with_capacity(going.len());
        for call in going {
            ended.push(call.await.unwrap());
        }
        ended
    }

    /// Waits until the true time is `moment`.
    pub(crate) async fn until(&self, moment: Moment) {
        self.truth.sleep_until(moment).await;
    }

    /// Every reservation has ended, nobody waits, and the providers have nothing left to do.
    pub(crate) fn assert_nothing_is_held(&self, engine: &Engine) {
        let status = engine.status().unwrap();
        for key in &status.keys {
            assert_eq!(key.in_flight, 0, "{} still holds something", key.label);
        }
        assert!(status.waiting.is_empty(), "{:?}", status.waiting);
        assert_eq!(self.network.stats().in_flight, 0);
    }
}

fn of(outcome: Result<Answer, Error>) -> End {
    match outcome {
        Ok(answer) => End::Answered(Box::new(answer)),
        Err(error) => End::Failed(Box::new(error)),
    }
}

fn kind(error: &Error) -> String {
    match &error.kind {
        ErrorKind::Failure(class) => class.to_string(),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// Whether an error is one that a caller is promised for trouble on the way (and not a bug or a mistake).
pub(crate) fn is_promised(error: &Error) -> bool {
    match &error.kind {
        ErrorKind::Deadline => true,
        ErrorKind::Failure(class) => class.is_quota() || TROUBLES.contains(class),
        _ => false,
    }
}

const TROUBLES: [FailureClass; 4] = [
    FailureClass::Overloaded,
    FailureClass::ServerError,
    FailureClass::Timeout,
    FailureClass::Network,
];

/// A question to one model.
pub(crate) fn ask(provider: &str, model: &str, prompt: &str) -> Request {
    let mut ask = Request::new(vec![question(prompt)]);
    (ask.provider, ask.model) = (Some(provider.to_owned()), Some(model.to_owned()));
    ask
}

/// A question for a task of the config.
pub(crate) fn ask_task(task: &str, prompt: &str) -> Request {
    let mut ask = Request::new(vec![question(prompt)]);
    ask.task_name = Some(task.to_owned());
    ask
}

pub(crate) fn max_tokens(most: u64) -> Map<String, Value> {
    Map::from_iter([("max_tokens".to_owned(), Value::from(most))])
}

fn question(prompt: &str) -> Message {
    Message {
        role: Role::User,
        content: Content::Text(prompt.to_owned()),
        tool_calls: Vec::new(),
        tool_call_id: None,
        name: None,
    }
}
