//! The simulator's control endpoints (`/health`, `/stats`, `/control`).

use serde::{Deserialize, Serialize};

use super::answer::{Answer, IncomingRequest};
use super::settings::FaultRule;
use super::shared::Shared;
use super::stats::{Stats, TimelineEntry};

/// The body of `POST /control`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Order {
    clear_faults: bool,
    faults: Vec<FaultRule>,
    reset_stats: bool,
}

/// The body of `GET /stats?timeline=true`.
#[derive(Serialize)]
struct StatsWithTimeline {
    #[serde(flatten)]
    stats: Stats,
    timeline: Vec<TimelineEntry>,
}

/// The answer to a request for the simulator itself; `None` when it is for a provider.
pub(super) fn answer(request: &IncomingRequest<'_>, shared: &Shared) -> Option<Answer> {
    match (request.method, request.bare_path()) {
        ("GET", "/health") => Some(Answer::json(200, br#"{"status":"ok"}"#.to_vec())),
        ("GET", "/stats") => Some(stats(request, shared)),
        ("POST", "/control") => Some(control(request, shared)),
        _ => None,
    }
}

fn stats(request: &IncomingRequest<'_>, shared: &Shared) -> Answer {
    let stats = shared.simulator.lock().stats();
    let text = if request.path.ends_with("?timeline=true") {
        let timeline = shared.simulator.lock().timeline();
        serde_json::to_vec(&StatsWithTimeline { stats, timeline })
    } else {
        serde_json::to_vec(&stats)
    };
    match text {
        Ok(text) => Answer::json(200, text),
        Err(error) => wrong(500, &error.to_string()),
    }
}

fn control(request: &IncomingRequest<'_>, shared: &Shared) -> Answer {
    let order: Order = match serde_json::from_slice(request.body) {
        Ok(order) => order,
        Err(error) => return wrong(400, &error.to_string()),
    };
    let mut simulator = shared.simulator.lock();
    if order.clear_faults {
        simulator.clear_faults();
    }
    if let Err(error) = simulator.add_faults(order.faults) {
        return wrong(400, &error.to_string());
    }
    if order.reset_stats {
        simulator.reset_stats();
    }
    Answer::json(200, br#"{"status":"ok"}"#.to_vec())
}

fn wrong(status: u16, reason: &str) -> Answer {
    Answer::json(status, serde_json::json!({"error": reason}).to_string().into_bytes())
}
