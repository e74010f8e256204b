//! The ring that does and never decides: it asks the kernel, carries out what it says, and tells it what happened.

mod batch;
mod call;
mod dispatch;
mod guard;
mod plan;
mod stream;
mod world;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use serde_json::Value;

pub use batch::{Batch, Finished};
pub use call::cache::KeptAs;
pub use call::costs::CostEstimate;
pub use call::question::Question;
pub use call::request::{Answer, CacheWish, Request, RetryHook};
pub use call::token_counts::PromptSize;
pub use dispatch::gauge::{Gauge, Reading, Watch};
pub use dispatch::prices::{cost_of_answer, price_book, use_newer_prices};
pub use dispatch::queue_view::Queued;
pub use dispatch::status::{BlockStatus, KeyStatus, LimitStatus, Status, WaitingStatus};
pub use guard::usage_import::{Closed, Usage, UsedLimit};
pub use guard::{Guard, Guarded, Outlook, Permit};
pub use plan::{Load, Plan, PlannedKey, PlannedLimit, PlannedRun};
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

use crate::config::{Settings, StateSetting};
use crate::error::{Error, ErrorKind};
use crate::kernel::RetryBudget;
use crate::stores::{ForkSafeStore, MemoryStore, QuotaStore, StoreError};
pub use crate::stores::{after_fork, before_fork};
use dispatch::types::Dispatch;

/// Carries out calls. Shared by all threads and tasks of a process.
pub struct Engine {
    settings: Settings,
    dispatch: Arc<Dispatch>,
    retry_budget: Mutex<RetryBudget>,
    /// Questions that are being answered, for others who ask the same.
    flights: call::cache::Flights,
    /// Whether prompts may be counted with tokenizers whose tables load beside the calls.
    counts_exactly: AtomicBool,
    /// Tells streams that wait for a piece that it was closed.
    closing: tokio::sync::Notify,
    /// Where streams are while nobody waits for their next piece.
    parked: Mutex<stream::parked::ParkedStreams>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("providers", &self.dispatch.known_providers())
            .finish_non_exhaustive()
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
        let dispatch = Dispatch::new(&settings, store, world)?;
        let budget = settings.retry.budget;
        let budget = RetryBudget::new(budget.share, budget.reserve, dispatch.now());
        Ok(Arc::new(Engine {
            settings,
            dispatch,
            retry_budget: Mutex::new(budget),
            flights: call::cache::Flights::default(),
            counts_exactly: AtomicBool::new(false),
            closing: tokio::sync::Notify::new(),
            parked: Mutex::default(),
        }))
    }

    /// Whether [`Engine::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.dispatch.is_closed()
    }

    /// Cancels waiting calls and rejects new ones; calls under way come to their end, streams end here. Returns how many
    /// requests of streams it ended.
    pub fn close(&self) -> usize {
        self.dispatch.close();
        self.closing.notify_waiters();
        self.end_streams()
    }

    /// What is going on.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn status(&self) -> Result<Status, StoreError> {
        self.dispatch.status()
    }

    /// Opens and empties the ledgers of a provider or of one of its keys; of all when neither is named. Says how many.
    ///
    /// # Errors
    /// When there is no such provider or key, or the state cannot be written.
    pub fn reset(&self, provider: Option<&str>, label: Option<&str>) -> Result<usize, Error> {
        self.dispatch.reset(provider, label)
    }

    /// The limits and the pace of a provider in the words of the config, with those of `models`; the labels of its
    /// `keys`; its `base_url`, if it has one.
    ///
    /// # Errors
    /// When there is no such provider.
    pub fn stated(&self, provider: &str) -> Result<Value, Error> {
        self.dispatch.stated(provider)
    }

    /// Everybody who waits, by target, in the order in which they will be served: turns by age are left out of account.
    /// Then those who pause after a failure, by the end of their pause.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn queue(&self) -> Result<Vec<Queued>, StoreError> {
        self.dispatch.queue()
    }

    /// Takes calls out of the waiting lines, and ends pauses after failures: those of one provider, of a priority below `below`, or all. They end with
    /// [`crate::error::ErrorKind::QueueCleared`]. Says how many.
    ///
    /// # Errors
    /// When there is no such provider.
    pub fn clear_queue(&self, provider: Option<&str>, below: Option<u8>) -> Result<usize, Error> {
        self.dispatch.clear_queue(provider, below)
    }

    /// Closes a key for what somebody else's request met: what [`FailureClass`] and scope say, over all models, for
    /// whoever uses a key elsewhere need not say for which. Says until when; `None` when such a failure closes nothing,
    /// and when it is about one model of the provider.
    ///
    /// # Errors
    /// When there is no such key, or the state cannot be written.
    pub fn close_key(
        &self,
        provider: &str,
        label: &str,
        failure: &Failure,
    ) -> Result<Option<Moment>, Error> {
        self.dispatch.close_key(provider, label, failure)
    }

    /// Closes a key until it is opened again, or until an instant: somebody says that it does not work.
    ///
    /// # Errors
    /// When there is no such key, or the state cannot be written.
    pub fn disable_key(
        &self,
        provider: &str,
        label: &str,
        until: Option<Moment>,
    ) -> Result<(), Error> {
        self.dispatch.disable_key(provider, label, until)
    }

    /// A key is used up until the day turns at its provider: what is said of a key when nothing more is known.
    ///
    /// # Errors
    /// When there is no such key, or the state cannot be written.
    pub fn exhaust_key(
        &self,
        provider: &str,
        label: &str,
        until: Option<Moment>,
    ) -> Result<Moment, Error> {
        self.dispatch.exhaust_key(provider, label, until)
    }

    /// The end of a civil day, `YYYY-MM-DD`, at a provider; `None` when that is no date.
    ///
    /// # Errors
    /// When there is no such provider.
    pub fn day_ends(&self, provider: &str, date: &str) -> Result<Option<Moment>, Error> {
        self.dispatch.day_ends(provider, date)
    }

    /// Opens what is closed for a key, at every model: what its quota closed, and with `also_disabled` everything.
    /// What was counted of days and months is forgotten, for it would close the key again; minutes and hours stay
    /// counted. Says whether there was anything.
    ///
    /// # Errors
    /// When there is no such key, or the state cannot be read or written.
    pub fn open_key(
        &self,
        provider: &str,
        label: &str,
        also_disabled: bool,
    ) -> Result<bool, Error> {
        self.dispatch.open_key(provider, label, also_disabled)
    }

    /// How one key is.
    ///
    /// # Errors
    /// When there is no such key, or the state cannot be read.
    pub fn key(&self, provider: &str, label: &str) -> Result<KeyStatus, Error> {
        self.dispatch.key(provider, label)
    }

    /// Counts at least what is told of here, and closes what is told to be closed. Says of how many keys; those that
    /// are not there are left out.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn take_over(&self, told: &[Usage]) -> Result<usize, Error> {
        self.dispatch.take_over(told)
    }

    /// What these tokens cost at the prices that hold `now`, in millionths of a US dollar, rounded up; `None` when
    /// the price is unknown.
    pub fn cost_of(
        &self,
        provider: &str,
        model: &str,
        usage: &TokenUsage,
        now: Moment,
    ) -> Option<u64> {
        self.dispatch.cost_of(provider, model, usage, now)
    }
}
