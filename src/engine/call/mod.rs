//! One call: its route, its attempts, its answer or its error.

pub(super) mod answer;
pub(super) mod cache;
pub(super) mod costs;
pub(super) mod errors;
mod flights;
pub(super) mod kept;
pub(super) mod question;
pub(super) mod request;
pub(super) mod route;
pub(super) mod run;
pub(super) mod send;
pub(super) mod token_counts;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;

use super::dispatch::types::Dispatch;
use crate::config::Settings;
use crate::kernel::RetryBudget;
use flights::Flights;

/// Carries out calls over a dispatch. A running call holds it.
pub(super) struct Calls {
    pub(super) settings: Settings,
    pub(super) dispatch: Arc<Dispatch>,
    retry_budget: Mutex<RetryBudget>,
    flights: Flights,
    /// Whether prompts may be counted with tokenizers whose tables load beside the calls.
    pub(super) counts_exactly: AtomicBool,
}

impl Calls {
    pub(super) fn new(settings: Settings, dispatch: Arc<Dispatch>) -> Arc<Self> {
        let budget = settings.retry.budget;
        let budget = RetryBudget::new(budget.share, budget.reserve, dispatch.now());
        Arc::new(Calls {
            settings,
            dispatch,
            retry_budget: Mutex::new(budget),
            flights: Flights::default(),
            counts_exactly: AtomicBool::new(false),
        })
    }
}
