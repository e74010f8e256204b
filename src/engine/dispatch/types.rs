//! Types that hold one another: provider, target, line, reservation.
//!
//! A target holds its waiting line, a line may hand out reservations, and a reservation reports to the line of its
//! target when it ends. So these types are defined in one file. What they do is in the files named after it:
//! `registry`, `target`, `line`, `reservation`, `spend`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use serde_json::{Map, Value};
use tokio::sync::{Notify, oneshot};

use super::backoff::Resting;
use super::gauge::Watch;
use super::key::Key;
use super::lanes::Lanes;
use super::latency::RecentLatency;
use super::users::{User, UserRoll};
use crate::config::{Pacing, ProviderSettings};
use crate::engine::world::World;
use crate::kernel::{
    Breaker, Configured, Demand, Late, Moment, Obstacle, Paid, Patience, Refusal, Reservation,
    SharedQuotaSuspicion, Usage, WaitingLine,
};
use crate::providers::prices::OwnPrices;
use crate::providers::{ChatRequest, Provider, Tokenizer};
use crate::stores::{QuotaStore, StoreError};

/// Keys, targets, lines and the ledgers behind them. It knows no call.
pub(in crate::engine) struct Dispatch {
    pub(in crate::engine) world: World,
    pub(in crate::engine) store: Arc<dyn QuotaStore>,
    pub(super) vendors: RwLock<BTreeMap<String, Arc<Vendor>>>,
    pub(super) users: UserRoll,
    /// The user's own prices.
    pub(in crate::engine) prices: Arc<OwnPrices>,
    /// The models without a price that a warning was given of.
    pub(super) unpriced: Mutex<BTreeSet<String>>,
    /// How many calls may wait in one line.
    pub(in crate::engine) queue_max_size: usize,
    pub(super) closed: AtomicBool,
}

impl fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatch")
            .field("providers", &self.known_providers())
            .finish_non_exhaustive()
    }
}

/// One provider with its keys.
#[derive(Debug)]
pub(crate) struct Vendor {
    pub(crate) provider: Provider,
    pub(crate) keys: Vec<Key>,
    pub(crate) settings: ProviderSettings,
    /// Whether the server is the user's own.
    pub(crate) local: bool,
    pub(super) model_limits: HashMap<String, Configured>,
    pub(super) no_limits: Configured,
    pub(super) targets: RwLock<HashMap<String, Arc<Target>>>,
}

/// One model at one provider: the lanes that lead there and the line before it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) vendor: Arc<Vendor>,
    pub(crate) model: String,
    /// `provider/model`, for people.
    pub(crate) name: String,
    /// How its calls are paced.
    pub(crate) pacing: Pacing,
    pub(super) lanes: RwLock<Arc<Lanes>>,
    pub(crate) line: Mutex<Line>,
    /// The calls that pause here after a failure.
    pub(crate) resting: Mutex<Resting>,
    /// Whether it is in such trouble that calls go elsewhere if they can.
    pub(crate) breaker: Mutex<Breaker>,
    pub(super) suspects: Mutex<SharedQuotaSuspicion>,
    /// Whether a key is refused, so that an answer to another one says something about the two.
    pub(super) watches: AtomicBool,
    /// How long an answer takes lately.
    pub(super) latency: Mutex<RecentLatency>,
    /// Notified when something changed that its line waits for.
    pub(crate) changed: Notify,
    /// The tokenizer of the model, where it is public.
    pub(crate) tokenizer: Option<Tokenizer>,
    /// Whether a limit on tokens was configured or learned.
    pub(crate) counts_tokens: AtomicBool,
    /// A few prompts that were billed before they could be counted.
    pub(in crate::engine) uncounted: Mutex<Vec<Uncounted>>,
}

/// A prompt that was billed before the tables of its model's tokenizer were loaded.
#[derive(Debug)]
pub(in crate::engine) struct Uncounted {
    pub(in crate::engine) request: ChatRequest,
    pub(in crate::engine) params: Map<String, Value>,
    /// The lane it went down.
    pub(in crate::engine) lane: usize,
    pub(in crate::engine) billed: u64,
}

/// The line before one target.
#[derive(Debug)]
pub(crate) struct Line {
    pub(super) waiters: WaitingLine<Waiter>,
    /// Whether a task serves it.
    pub(super) served: bool,
    /// What stood in the way of the head when it was last tried.
    pub(super) in_the_way: Option<Refusal>,
    /// The limits of their own that hold users up.
    pub(super) user_limits: BTreeMap<Arc<str>, Obstacle>,
}

/// A call that waits in a line.
#[derive(Debug)]
pub(in crate::engine) struct Waiter {
    pub(super) demand: Demand,
    pub(super) excluded: Arc<[usize]>,
    pub(super) patience: Patience,
    pub(super) may_wait_for_refund: bool,
    pub(super) user: Arc<User>,
    pub(in crate::engine) since: Moment,
    /// Since when it waits, in its turn, for what calls in flight may give back.
    pub(super) waiting_for_refund_since: OnceLock<Moment>,
    pub(super) watch: Option<Arc<Watch>>,
    // Boxed: a hundred thousand of these may wait, each with nothing in it yet.
    pub(super) reply: oneshot::Sender<Box<Waited>>,
}

/// How waiting ended.
#[derive(Debug)]
pub(crate) enum Waited {
    Reserved(Box<HeldReservation>),
    /// At the head of the line it turned out to be too far away.
    NotNow(Refusal),
    Never(Option<Refusal>),
    /// Too many go before it.
    TooLate(Late),
    StateFailed(StoreError),
    LineFull,
    /// The line was cleared.
    Cleared,
    Closed,
}

/// A reserved lane. It is settled once, or its drop settles it: what never left is given back, what may have left
/// stays counted.
#[derive(Debug)]
#[must_use = "dropping it gives the reservation back"]
pub(crate) struct HeldReservation {
    pub(super) dispatch: Arc<Dispatch>,
    pub(crate) target: Arc<Target>,
    pub(super) lanes: Arc<Lanes>,
    pub(super) user: Arc<User>,
    pub(crate) reservation: Reservation,
    /// What its user paid with in the waiting line, if it stood there.
    pub(crate) paid: Option<Box<Paid>>,
    /// Whether it finds out if its target is well again.
    pub(crate) probes: bool,
    /// What the whole answer was billed as, if the provider said so and the reservation was an estimate.
    pub(crate) bill: Option<Usage>,
    pub(super) left: bool,
    /// What was used of it until now, once an answer has begun to arrive.
    pub(super) so_far: Option<Usage>,
    pub(super) over: bool,
}
