//! The engine: carries out what the kernel decides.
//!
//! Floors, each may use those before it: `world` (clock, transport, entropy, observer) → `dispatch` (keys, targets,
//! lines, reservations) → `call` (one prompt) → `plan` → `stream`, `batch`, `guard` → `Engine`. No lock is held across
//! an `await`.

mod batch;
mod call;
mod dispatch;
mod guard;
mod plan;
mod stream;
mod world;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

pub use batch::{Batch, Finished};
pub use call::answer::Answer;
pub use call::costs::CostEstimate;
pub use call::kept::KeptAs;
pub use call::question::Question;
pub use call::request::{CacheWish, Request, RetryHook};
pub use call::token_counts::PromptSize;
pub use dispatch::gauge::{Gauge, Reading, Watch};
pub use dispatch::prices::{cost_of_answer, price_book, use_newer_prices};
pub use dispatch::queue_view::Queued;
pub use dispatch::status::{BlockStatus, KeyStatus, LimitStatus, Status, WaitingStatus};
pub use guard::usage_import::{Closed, Usage, UsedLimit};
pub use guard::{Guard, Guarded, Outlook, Permit};
pub use plan::{Load, Plan, PlannedKey, PlannedLimit, PlannedRun};
pub use stream::parked::{Checkout, ParkedStream};
pub use stream::streams::Overdue;
pub use stream::{Resume, Seam, StreamEvent, Streaming};
pub use world::World;
pub use world::clock::{Clock, Pause, SystemClock, TokioClock};
pub use world::entropy::Entropy;
pub use world::events::Events;
pub use world::observer::{Notice, Observer, Silent};
pub use world::transport::{
    Chunks, HttpTransport, Incoming, NextChunk, Opened, Opening, Outgoing, Sending, Transport,
};

// Names from the rings below that callers of the engine need.
pub use crate::kernel::Usage as TokenUsage;
pub use crate::kernel::{Failure, FailureClass, Moment, Origin, Period, Until};
pub use crate::providers::prices::{OwnPrices, PriceBook};
pub use crate::providers::{
    AnswerSchema, Content, ForeignError, Headers, Message, Provider, Role, StreamPiece, json_in,
    provider_of_key, provider_of_variable, shown,
};

use crate::config::{Settings, StateSetting};
use crate::error::{Error, ErrorKind};
use crate::stores::{ForkSafeStore, MemoryStore, QuotaStore, StoreError};
pub use crate::stores::{after_fork, before_fork};
use call::Calls;
use dispatch::types::Dispatch;
use stream::streams::Streams;

/// Carries out calls. Shared by all threads and tasks of a process.
pub struct Engine {
    dispatch: Arc<Dispatch>,
    calls: Arc<Calls>,
    streams: Arc<Streams>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let providers = self.dispatch.known_providers();
        f.debug_struct("Engine").field("providers", &providers).finish_non_exhaustive()
    }
}

/// Opens the store that the settings name.
///
/// # Errors
/// [`Error`] with what to do when it cannot be opened, or is not supported yet (Redis).
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

/// Start and end.
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
        let calls = Calls::new(settings, dispatch.clone());
        let streams = Streams::new(calls.clone());
        Ok(Arc::new(Engine { dispatch, calls, streams }))
    }

    /// Counts prompts for targets with a token limit with the model's own tokenizer, once its tables are loaded. They
    /// are loaded by a thread beside the calls. [`Engine::start`] enables this; in virtual time the result would depend
    /// on loading time.
    pub fn count_exactly(&self) {
        self.calls.count_exactly();
    }

    /// Whether [`Engine::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.dispatch.is_closed()
    }

    /// Cancels waiting calls and rejects new ones. Calls that were sent come to their end; streams end now. Returns how
    /// many requests of parked streams it ended.
    pub fn close(&self) -> usize {
        self.dispatch.close();
        self.streams.close()
    }
}

/// Calls.
impl Engine {
    /// Carries out one call, with its waits, retries and fallbacks.
    ///
    /// Dropping the future cancels the call: what was not sent is given back.
    ///
    /// # Errors
    /// [`Error`] with all attempts.
    pub fn send(&self, ask: Request) -> impl Future<Output = Result<Answer, Error>> + Send + use<> {
        self.calls.send(ask)
    }

    /// As [`Engine::send`], for a task that was made with the call: it needs no room for it any more once it runs.
    ///
    /// # Errors
    /// As [`Engine::send`].
    pub fn send_boxed(
        &self,
        ask: Box<Request>,
    ) -> impl Future<Output = Result<Answer, Error>> + Send + use<> {
        self.calls.send_boxed(ask)
    }

    /// Begins a call whose answer comes in pieces; nothing is reserved or sent yet. Its time counts from here.
    ///
    /// `silence` is the longest time without a byte from the server, `None`: as for other calls. How long it may go on
    /// without a piece is [`crate::config::Timeouts::for_a_piece`].
    ///
    /// # Errors
    /// [`Error`] about the call: arguments, no key, a deadline that has passed, a closed engine.
    pub fn stream(
        &self,
        ask: Request,
        resume: Option<Resume>,
        silence: Option<Duration>,
    ) -> Result<Streaming, Error> {
        self.streams.stream(ask, resume, silence)
    }

    /// Ends the parked streams whose time is over; a stream that waits for a piece reports that by itself. Called again
    /// after [`Overdue::next`], it misses none.
    pub fn end_overdue(&self) -> Overdue {
        self.streams.end_overdue()
    }

    /// After how long the next parked stream is overdue; `None` when there is none whose time ends.
    pub fn next_overdue(&self) -> Option<Duration> {
        self.streams.next_overdue()
    }

    /// An empty batch of calls that are mostly like `usual`, at most so many at once; without a number the quotas
    /// decide (see [`crate::kernel::Intake`]). `bell` is called on the engine's threads when there is something to
    /// take: it must return at once.
    pub fn batch(
        &self,
        usual: &Request,
        most: Option<usize>,
        bell: impl Fn() + Send + Sync + 'static,
    ) -> Batch {
        self.calls.batch(usual, most, bell)
    }

    /// Begins a guarded call; nothing is reserved yet.
    ///
    /// # Errors
    /// When there is no such provider or key, or its deadline has passed.
    pub fn guard(&self, guard: &Guard) -> Result<Guarded, Error> {
        self.calls.guard(guard)
    }

    /// Whether a guarded call could go now, judged by all limits and blocks, or by the limits over one period.
    ///
    /// # Errors
    /// When there is no such provider or key, or the state cannot be read.
    pub fn outlook(&self, guard: &Guard, period: Option<Period>) -> Result<Outlook, Error> {
        self.calls.outlook(guard, period)
    }

    /// Counts a request that was sent without a permit, and its failure if it had one. Returns the label of the key it
    /// was counted for.
    ///
    /// # Errors
    /// When there is no such provider or key, or the state cannot be written.
    pub fn record(&self, guard: &Guard, failure: Option<Failure>) -> Result<String, Error> {
        self.calls.record(guard, failure)
    }

    /// Forgets all cached answers. Returns how many.
    ///
    /// # Errors
    /// [`Error`] when the state cannot be written.
    pub fn clear_cache(&self) -> Result<u64, Error> {
        self.calls.clear_cache()
    }
}

/// Sizes, costs and plans of calls that are not sent.
impl Engine {
    /// What such calls ask, with `system` before each prompt: names, tasks and the config are resolved. Needs no key.
    ///
    /// # Errors
    /// When the provider or the model is unknown.
    pub fn question(&self, ask: &Request, system: Option<&str>) -> Result<Question, Error> {
        self.calls.question(ask, system)
    }

    /// The provider and the model that `ask` names, or its task.
    ///
    /// # Errors
    /// When they are unknown.
    pub fn whose(&self, ask: &Request) -> Result<(String, String), Error> {
        self.calls.whose(ask)
    }

    /// How many tokens the prompt of `ask` is for its model; needs no key and sends nothing. Loads the tables of the
    /// model's tokenizer if it has to (about 0.2 s).
    ///
    /// # Errors
    /// When the model or provider is unknown, or the state cannot be read.
    pub fn prompt_size(&self, ask: &Request) -> Result<PromptSize, Error> {
        self.calls.prompt_size(ask)
    }

    /// How many tokens each of these conversations will be billed as at the first target of the route: counted where
    /// the model's tokenizer is known, else estimated and corrected by earlier bills.
    ///
    /// # Errors
    /// [`Error`] when `ask` has no route, or the state cannot be read.
    pub fn prompt_sizes(
        &self,
        ask: &Request,
        prompts: Vec<Vec<Message>>,
    ) -> Result<Vec<u64>, Error> {
        self.calls.prompt_sizes(ask, prompts)
    }

    /// How many tokens a text is for the model of `ask`, without the frame of a message.
    ///
    /// # Errors
    /// As [`Engine::prompt_size`].
    pub fn text_size(&self, ask: &Request, text: &str) -> Result<u64, Error> {
        self.calls.text_size(ask, text)
    }

    /// What the prompt of `ask` will cost; `None` when the price of its model is unknown. Sends nothing and needs no
    /// key.
    ///
    /// # Errors
    /// As [`Engine::prompt_size`]; and when a parameter is invalid, as for a call with it.
    pub fn estimate_cost(&self, ask: &Request) -> Result<Option<CostEstimate>, Error> {
        self.calls.estimate_cost(ask)
    }

    /// What these tokens cost at the prices that hold `now`, in millionths of a US dollar, rounded up; `None` when the
    /// price is unknown.
    pub fn cost_of(
        &self,
        provider: &str,
        model: &str,
        usage: &TokenUsage,
        now: Moment,
    ) -> Option<u64> {
        self.dispatch.cost_of(provider, model, usage, now)
    }

    /// The forecast for sending these runs one after the other, each the way its ask says, within the quotas that they
    /// share, from what is used and closed now. Sends nothing and changes nothing. Where the first ask has no route that
    /// is an error; prompts of others without one are refused. Takes some microseconds a prompt; every few thousand of
    /// them `goes_on` is asked, and when it returns `false` there is no plan.
    ///
    /// # Errors
    /// [`Error`] when the first ask has no route, or the state cannot be read.
    pub fn plan(
        &self,
        asks: &[&Request],
        runs: &[PlannedRun],
        load: &Load,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Option<Plan>, Error> {
        self.calls.plan(asks, runs, load, goes_on)
    }
}

/// Keys, quotas and the queue.
impl Engine {
    /// The keys, limits, blocks and lines at this instant.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn status(&self) -> Result<Status, StoreError> {
        self.dispatch.status()
    }

    /// The status of one key.
    ///
    /// # Errors
    /// When there is no such key, or the state cannot be read.
    pub fn key(&self, provider: &str, label: &str) -> Result<KeyStatus, Error> {
        self.dispatch.key(provider, label)
    }

    /// Opens and empties the ledgers of a provider or of one of its keys; of all when neither is named. Returns how
    /// many.
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

    /// All waiting calls, by target, in the order in which they will be served; turns by age are not considered. Then
    /// the calls that pause after a failure, by the end of their pause.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn queue(&self) -> Result<Vec<Queued>, StoreError> {
        self.dispatch.queue()
    }

    /// Takes calls out of the waiting lines, and ends pauses after failures: those of one provider, of a priority below
    /// `below`, or all. They end with [`crate::error::ErrorKind::QueueCleared`]. Returns how many.
    ///
    /// # Errors
    /// When there is no such provider.
    pub fn clear_queue(&self, provider: Option<&str>, below: Option<u8>) -> Result<usize, Error> {
        self.dispatch.clear_queue(provider, below)
    }

    /// Closes a key for the failure of a request that was sent elsewhere: what [`FailureClass`] and scope say, over all
    /// models, because the model may be unknown. Returns until when; `None` when such a failure closes nothing, and
    /// when it is about one model of the provider.
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

    /// Marks a key as invalid: closes it until an instant, or until it is opened again.
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

    /// Marks a key as used up until an instant, or until the day turns at its provider.
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

    /// Opens what is closed for a key, at every model: what its quota closed, and with `also_disabled` everything. The
    /// counts of days and months are forgotten, because they would close the key again; minutes and hours stay counted.
    /// Returns whether anything changed.
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

    /// Counts at least the given usage, and closes what it lists as closed. Returns for how many keys; unknown keys are
    /// left out.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn take_over(&self, told: &[Usage]) -> Result<usize, Error> {
        self.dispatch.take_over(told)
    }
}
