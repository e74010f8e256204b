//! The ring that does and never decides: it asks the kernel, carries out what it says, and tells it what happened.

mod batch;
mod call;
mod dispatch;
mod guard;
mod plan;
mod status;
mod stream;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};

pub use batch::{Batch, Finished};
pub use call::cache::KeptAs;
pub use call::costs::{CostEstimate, cost_of_answer, price_book, use_newer_prices};
pub use call::question::Question;
pub use call::request::{Answer, CacheWish, Request, RetryHook};
pub use call::token_counts::PromptSize;
pub use dispatch::gauge::{Gauge, Reading, Watch};
pub use dispatch::queue_view::Queued;
pub use guard::usage_import::{Closed, Usage, UsedLimit};
pub use guard::{Guard, Guarded, Outlook, Permit};
pub use plan::{Load, Plan, PlannedKey, PlannedLimit, PlannedRun};
pub use status::{BlockStatus, KeyStatus, LimitStatus, Status, WaitingStatus};
pub use stream::parked::{Checkout, Overdue, ParkedStream};
pub use stream::{Resume, Seam, StreamEvent, Streaming};
pub use world::World;
pub use world::clock::{Clock, Pause, SystemClock, TokioClock};
pub use world::entropy::Entropy;
pub use world::events::Events;
pub use world::observer::{Notice, Observer, Silent};
pub use world::transport::{
    Chunks, HttpTransport, Incoming, NextChunk, Opened, Opening, Outgoing, Sending, Transport,
};

// The words of this ring's face: who calls it needs no ring below.
pub use crate::kernel::Usage as TokenUsage;
pub use crate::kernel::{Failure, FailureClass, Moment, Origin, Period, Until};
pub use crate::providers::prices::{OwnPrices, PriceBook};
pub use crate::providers::{
    AnswerSchema, Content, ForeignError, Headers, Message, Provider, Role, StreamPiece, json_in,
    provider_of_key, provider_of_variable, shown,
};

use crate::config::{ProviderSettings, Settings, StateSetting};
use crate::error::{Error, ErrorKind};
use crate::kernel::RetryBudget;
use crate::stores::{ForkSafeStore, MemoryStore, QuotaStore};
pub use crate::stores::{after_fork, before_fork};
use dispatch::registry::Vendor;

/// Carries out calls. Shared by all threads and tasks of a process.
pub struct Engine {
    settings: Settings,
    vendors: RwLock<BTreeMap<String, Arc<Vendor>>>,
    store: Arc<dyn QuotaStore>,
    world: World,
    retry_budget: Mutex<RetryBudget>,
    /// Questions that are being answered, for others who ask the same.
    flights: call::cache::Flights,
    users: dispatch::users::UserRoll,
    closed: AtomicBool,
    /// Whether prompts may be counted with tokenizers whose tables load beside the calls.
    counts_exactly: AtomicBool,
    /// Tells streams that wait for a piece that it was closed.
    closing: tokio::sync::Notify,
    /// Where streams are while nobody waits for their next piece.
    parked: Mutex<stream::parked::ParkedStreams>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("providers", &self.known_providers()).finish_non_exhaustive()
    }
}

/// Opens the store that the settings name.
///
/// # Errors
/// [`Error`] with what to do when it cannot be opened, or is not there yet (Redis).
pub fn open_store(setting: &StateSetting, entropy: &Entropy) -> Result<Arc<dyn QuotaStore>, Error> {
    match setting {
        StateSetting::Memory => Ok(Arc::new(MemoryStore::default())),
        StateSetting::UserCache(path) | StateSetting::Sqlite(path) => {
            Ok(Arc::new(ForkSafeStore::open(path, &entropy.salt())?))
        }
        StateSetting::Redis(_) => {
            Err(Error::argument("state", "quota state in Redis is not supported yet")
                .hint("use a path or \"memory\""))
        }
    }
}

impl Engine {
    /// An engine over real HTTP, the machine's clock and the store the settings name. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// [`Error`] when the store cannot be opened or TLS cannot be set up.
    pub fn start(settings: Settings, observer: Arc<dyn Observer>) -> Result<Arc<Self>, Error> {
        let entropy = Entropy::system();
        let store = open_store(&settings.state, &entropy)?;
        let transport = HttpTransport::new(&settings.timeouts).map_err(|words| {
            Error::new(ErrorKind::Internal, format!("HTTPS cannot be set up: {words}"))
        })?;
        let world = World {
            transport: Arc::new(transport),
            clock: Arc::new(SystemClock),
            entropy,
            observer,
        };
        let engine = Engine::in_world(settings, store, world)?;
        engine.count_exactly();
        Ok(engine)
    }

    /// An engine over the store and in the world of your choice.
    ///
    /// # Errors
    /// [`Error`] when the store cannot be read.
    pub fn in_world(
        settings: Settings,
        store: Arc<dyn QuotaStore>,
        world: World,
    ) -> Result<Arc<Self>, Error> {
        let budget = settings.retry.budget;
        let engine = Engine {
            vendors: RwLock::default(),
            store,
            retry_budget: Mutex::new(RetryBudget::new(
                budget.share,
                budget.reserve,
                world.clock.now(),
            )),
            world,
            flights: call::cache::Flights::default(),
            users: dispatch::users::UserRoll::new(&settings.users),
            closed: AtomicBool::new(false),
            counts_exactly: AtomicBool::new(false),
            closing: tokio::sync::Notify::new(),
            parked: Mutex::default(),
            settings,
        };
        for provider in engine.settings.providers.values() {
            engine.add_vendor(provider.clone())?;
        }
        for warning in &engine.settings.warnings {
            engine.world.observer.notice(&Notice::Warning(warning.clone()));
        }
        Ok(Arc::new(engine))
    }

    fn add_vendor(&self, settings: ProviderSettings) -> Result<Arc<Vendor>, Error> {
        let vendor = Arc::new(Vendor::new(settings, self.store.salt()));
        self.remember_groups(&vendor)?;
        let name = vendor.provider.name.clone();
        Ok(self.vendors.write().entry(name).or_insert(vendor).clone())
    }

    /// The same provider, from now on with one lane that needs no key of ours, if it has none.
    fn without_key(&self, vendor: Arc<Vendor>) -> Arc<Vendor> {
        if !vendor.keys.is_empty() {
            return vendor;
        }
        let mut settings = vendor.settings.clone();
        settings.provider.needs_key = false;
        let made = Arc::new(Vendor::new(settings, self.store.salt()));
        let mut vendors = self.vendors.write();
        let known = vendors.entry(made.provider.name.clone()).or_insert_with(|| made.clone());
        if known.keys.is_empty() {
            *known = made;
        }
        known.clone()
    }

    /// The provider of that name or alias; one that was not configured is made when it is asked for.
    fn vendor(&self, name: &str) -> Result<Arc<Vendor>, Error> {
        if let Some(vendor) = self.vendors.read().get(name) {
            return Ok(vendor.clone());
        }
        let Some(provider) = Provider::find(name) else {
            let known = self.known_providers();
            let nearest = known
                .iter()
                .map(|known| (strsim::damerau_levenshtein(known, name), known))
                .filter(|(distance, _)| *distance <= 3)
                .min();
            let hint = match nearest {
                Some((_, nearest)) => format!("did you mean {nearest:?}?"),
                None => format!("known are {}; any other needs a base_url", known.join(", ")),
            };
            let message = format!("there is no provider {name:?}");
            return Err(Error::argument("provider", message).hint(hint));
        };
        let canonical = self.vendors.read().get(&provider.name).cloned();
        match canonical {
            Some(vendor) => Ok(vendor),
            None => self.add_vendor(ProviderSettings::unconfigured(provider)),
        }
    }

    fn known_vendors(&self) -> Vec<Arc<Vendor>> {
        self.vendors.read().values().cloned().collect()
    }

    fn known_providers(&self) -> Vec<String> {
        let mut names: Vec<String> =
            Provider::names().iter().map(|name| (*name).to_owned()).collect();
        names.extend(self.vendors.read().keys().cloned());
        names.sort();
        names.dedup();
        names
    }

    /// Whether [`Engine::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Sends everybody who waits home and takes no more calls; calls under way come to their end, streams end here. Says
    /// how many requests it ended for whose next piece nobody waited.
    pub fn close(&self) -> usize {
        self.closed.store(true, Ordering::Release);
        self.closing.notify_waiters();
        for vendor in self.known_vendors() {
            for target in vendor.known_targets() {
                target.line.lock().close();
                target.changed.notify_one();
            }
        }
        self.end_streams()
    }
}
