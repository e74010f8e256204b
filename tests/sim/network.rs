//! The way of requests to the simulator: delays, losses, counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quotaflow::engine::{Clock, Incoming, Outgoing, Sending, TokioClock, Transport};
use quotaflow::kernel::{Failure, FailureClass, Moment, Scope};
use quotaflow::providers::Headers;
use quotaflow::simulator::{Answer, Fault, IncomingRequest, Simulator, Stats};
use tokio::sync::oneshot;

use crate::trace::{Trace, this_call};

/// The longest way to the provider and the longest way back, in milliseconds: within the kernel's guard of 100.
const LONGEST_WAY: u64 = 90;

/// A request that left the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Departure {
    pub(crate) call: Option<u32>,
    pub(crate) at: Moment,
}

/// A request that the provider saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) at: Moment,
    pub(crate) key: String,
    pub(crate) status: u16,
    /// The provider counts it against its limits.
    pub(crate) counted: bool,
}

/// The wires and the providers behind them. What has left arrives, whatever becomes of the sender.
pub(crate) struct Network {
    simulator: Mutex<Simulator>,
    /// Labels by secret.
    labels: BTreeMap<String, String>,
    ways: Mutex<fastrand::Rng>,
    truth: TokioClock,
    trace: Arc<Trace>,
    departures: Mutex<Vec<Departure>>,
    arrivals: Mutex<Vec<Arrival>>,
}

impl Network {
    pub(crate) fn new(
        mut simulator: Simulator,
        labels: BTreeMap<String, String>,
        seed: u64,
        truth: TokioClock,
        trace: Arc<Trace>,
    ) -> Arc<Self> {
        simulator.start(truth.now().as_nanos());
        Arc::new(Network {
            simulator: Mutex::new(simulator),
            labels,
            ways: Mutex::new(fastrand::Rng::with_seed(seed)),
            truth,
            trace,
            departures: Mutex::default(),
            arrivals: Mutex::default(),
        })
    }

    pub(crate) fn stats(&self) -> Stats {
        self.simulator.lock().stats()
    }

    /// Refusals by reason, without those that a rule of the simulation asked for.
    pub(crate) fn refusals(&self) -> BTreeMap<&'static str, u64> {
        let mut refused = self.stats().refused;
        refused.remove("injected");
        refused
    }

    pub(crate) fn departures(&self) -> Vec<Departure> {
        self.departures.lock().clone()
    }

    /// Looks at all arrivals so far.
    pub(crate) fn arrivals<T>(&self, look: impl FnOnce(&[Arrival]) -> T) -> T {
        look(&self.arrivals.lock())
    }

    fn way(&self) -> Duration {
        Duration::from_millis(self.ways.lock().u64(0..=LONGEST_WAY))
    }

    /// The provider's end of one request.
    async fn deliver(
        self: Arc<Self>,
        call: Option<u32>,
        request: Outgoing,
        reply: oneshot::Sender<Result<Incoming, Failure>>,
    ) {
        let (there, back) = (self.way(), self.way());
        tokio::time::sleep(there).await;
        let secret = request.key.as_ref().map_or("", |(_, secret)| secret.expose());
        let label = self.labels.get(secret).cloned().unwrap_or_default();
        let answer = ask(&mut self.simulator.lock(), &request, self.nanos());
        self.arrivals.lock().push(Arrival {
            at: self.truth.now(),
            key: label.clone(),
            status: answer.status,
            counted: answer.ticket.is_some(),
        });
        let word = match answer.fault {
            None => answer.status.to_string(),
            Some(fault) => format!("{fault:?}"),
        };
        self.trace.line(call, format_args!("reaches the provider with {label}: {word}"));
        tokio::time::sleep(answer.delay).await;
        if answer.fault == Some(Fault::Hang) {
            // The client hangs up when its patience ends.
            tokio::time::sleep(request.read_timeout).await;
        }
        if let Some(ticket) = answer.ticket {
            self.simulator.lock().finished(ticket, self.nanos());
        }
        tokio::time::sleep(back).await;
        let outcome = match answer.fault {
            Some(_) => Err(Failure::new(FailureClass::Network, Scope::Call, "connection reset")),
            None => {
                let headers = answer.headers.iter().map(|(name, value)| (*name, value.as_ref()));
                let headers: Headers = headers.filter(|(name, _)| Headers::is_read(name)).collect();
                Ok(Incoming { status: answer.status, headers, body: Bytes::from(answer.body) })
            }
        };
        // Nobody listens when the call was dropped meanwhile.
        let _ = reply.send(outcome);
    }

    fn nanos(&self) -> i64 {
        self.truth.now().as_nanos()
    }
}

/// Shows a request to the stand-in as it stands on the wire, with its key.
fn ask(simulator: &mut Simulator, request: &Outgoing, now: i64) -> Answer {
    let after_scheme = request.url.split_once("://").map_or("", |(_, rest)| rest);
    let path = after_scheme.find('/').map_or("/", |slash| &after_scheme[slash..]);
    let key = request
        .key
        .as_ref()
        .map(|(header, secret)| (header.name, format!("{}{}", header.prefix, secret.expose())));
    let headers: Vec<(&str, &str)> = request
        .headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .chain(key.iter().map(|(name, value)| (*name, value.as_str())))
        .collect();
    let body = &request.body;
    simulator.answer(&IncomingRequest { method: "POST", path, headers: &headers, body }, now)
}

/// The transport of one engine.
pub(crate) struct Wire(pub(crate) Arc<Network>);

impl Transport for Wire {
    fn post(&self, request: Outgoing) -> Sending {
        let (call, patience) = (this_call(), request.read_timeout);
        self.0.departures.lock().push(Departure { call, at: self.0.truth.now() });
        let (reply, outcome) = oneshot::channel();
        tokio::spawn(self.0.clone().deliver(call, request, reply));
        Box::pin(async move {
            match tokio::time::timeout(patience, outcome).await {
                Ok(outcome) => outcome.expect("the network always replies"),
                Err(_) => Err(Failure::new(FailureClass::Timeout, Scope::Call, "no answer")),
            }
        })
    }
}
