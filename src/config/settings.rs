//! The settings of a process, read and validated.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::kernel::{Limit, Resource};
use crate::providers::Provider;
use crate::providers::prices::OwnPrices;
use crate::secret::Secret;

/// Everything the user can decide. Made by [`Settings::resolve`]; its `Debug` shows no key.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Every provider of the catalogue and those of the user, by canonical name, whether they have a key or not.
    pub providers: BTreeMap<String, ProviderSettings>,
    /// Which model answers what.
    pub routes: Routes,
    /// Where counts are remembered.
    pub state: StateSetting,
    /// How often and how fast a failed call is tried again.
    pub retry: RetrySettings,
    /// In which order the targets of a route are asked.
    pub strategy: Strategy,
    /// How long is waited for a provider.
    pub timeouts: Timeouts,
    /// How many calls may wait at once; more are refused. Default 100,000.
    pub queue_max_size: usize,
    /// The longest block of a provider that is waited out when a call has no deadline. Default 300 s.
    pub max_wait: Duration,
    /// Which answers are kept, to be given again.
    pub answer_cache: AnswerCache,
    /// What tokens cost, where the user said so or a server is the user's own.
    pub prices: Arc<OwnPrices>,
    /// How users share the waiting lines, and how much each may use.
    pub users: Users,
    /// What is probably not meant, one sentence each; never holds a key.
    pub warnings: Vec<String>,
}

/// The weight of a user of whom none is stated, in thousandths.
pub(super) const USUAL_WEIGHT: u32 = 1_000;

/// Which answers are kept, to be given again to the same question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerCache {
    /// How long an answer holds. Default a day.
    pub ttl: Duration,
    /// How many bytes of them are kept; the oldest go first. Default 64 MiB.
    pub max_bytes: u64,
    /// Whether calls that do not say `cache=` have it. Default false.
    pub always: bool,
}

impl Default for AnswerCache {
    fn default() -> Self {
        AnswerCache { ttl: Duration::from_secs(86_400), max_bytes: 64 * 1024 * 1024, always: false }
    }
}

/// One provider as this user uses it.
#[derive(Clone, Debug)]
pub struct ProviderSettings {
    /// The provider, with the user's base URL applied.
    pub provider: Provider,
    /// Its keys, in the order of preference; no two hold the same secret or the same label.
    pub keys: Vec<KeySettings>,
    /// Limits of each quota group, over all models.
    pub limits: Vec<Limit>,
    /// Limits of each quota group for one model; they hold beside the ones over all models.
    pub model_limits: BTreeMap<String, Vec<Limit>>,
    /// How its calls are paced, over all models; [`ProviderSettings::pacing`] says what holds for one.
    pub pacing: PacingSettings,
    /// The pacing of single models, over the provider's.
    pub model_pacing: BTreeMap<String, PacingSettings>,
    /// What holds where neither says anything: the retries of the whole config.
    pub(super) usual: Pacing,
    /// The model when a call names none.
    pub default_model: Option<String>,
    /// Instead of [`Timeouts::read`] for this provider.
    pub timeout: Option<Duration>,
    /// The names under which keys were looked for.
    pub(super) key_names: Vec<String>,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySettings {
    /// What it is called everywhere: its environment name, the label it was given, or `openai key 1`.
    pub label: String,
    /// The key.
    pub secret: Secret,
    /// The quota group it was put in; `None` is a group of its own until the provider says otherwise.
    pub group: Option<String>,
    /// Limits of this key's group instead of the provider's.
    pub limits: Option<Vec<Limit>>,
}

/// Which model answers what: `models` with `default`, `fallback` and one entry for each task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Routes {
    /// For calls that name neither a task with a route of its own nor a model.
    pub default: Option<Target>,
    /// What is tried, in order, when the first target cannot answer.
    pub fallback: Vec<Target>,
    /// Routes of tasks, by name.
    pub tasks: BTreeMap<String, TaskRoute>,
}

/// The route of one task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRoute {
    /// What is tried first.
    pub target: Target,
    /// Its own fallbacks; `None` means [`Routes::fallback`], an empty list means none.
    pub fallback: Option<Vec<Target>>,
}

/// A model of a provider, and the parameters it is called with.
#[derive(Clone, PartialEq)]
pub struct Target {
    /// The canonical name of the provider; always a key of [`Settings::providers`].
    pub provider: String,
    /// The model, in the provider's words.
    pub model: String,
    /// Parameters in OpenAI's names, under those of the call.
    pub params: Map<String, Value>,
}

impl fmt::Debug for Target {
    /// The names of the parameters only: a value may be a prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)?;
        f.debug_list().entries(self.params.keys()).finish()
    }
}

/// The pacing stated for a provider or one of its models; `None` is not stated.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PacingSettings {
    /// [`Pacing::max_tokens_per_request`].
    pub max_tokens_per_request: Option<u64>,
    /// [`Pacing::base_delay`].
    pub base_delay: Option<Duration>,
    /// [`Pacing::max_retries`].
    pub max_retries: Option<u32>,
    /// [`Pacing::retry_multiplier`].
    pub retry_multiplier: Option<f64>,
    /// [`Pacing::pause_threshold`].
    pub pause_threshold: Option<f64>,
}

/// How calls of one model are paced; made by [`ProviderSettings::pacing`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pacing {
    /// A call whose estimated input and `max_tokens` together are more tokens than this is not sent.
    /// Default `None`: any size.
    pub max_tokens_per_request: Option<u64>,
    /// The first pause after a failure, where the call does not say. Default [`RetrySettings::retry_delay`].
    pub base_delay: Duration,
    /// How often a call is tried again, where it does not say. Default [`RetrySettings::max_retries`].
    pub max_retries: u32,
    /// By how much each pause is longer than the one before; 1 or more. Default [`RetrySettings::retry_multiplier`].
    pub retry_multiplier: f64,
    /// The share of every limit that calls of any priority may use; the rest is kept for those of priority 5 and
    /// above. More than 0, at most 1, which keeps nothing. Default 0.9.
    pub pause_threshold: f64,
}

/// In which order the targets of a route are asked. The default is as they are written.
///
/// A target is *local* when its server is ([`ProviderSettings::is_local`]). A call that names its provider or model
/// has that first in any case.
///
/// ```
/// use quotaflow::config::{Strategy, Wanted};
/// let (local, paid, free) = (
///     Wanted { local: true, free: true, named: false },
///     Wanted { local: false, free: false, named: false },
///     Wanted { local: false, free: true, named: false },
/// );
/// let asked = |strategy: Strategy| strategy.order(&[paid, free, local]);
/// assert_eq!(asked(Strategy::default()), [0, 1, 2]);
/// assert_eq!(asked(Strategy { local: LocalTargets::First, ..Strategy::default() }), [2, 0, 1]);
/// # use quotaflow::config::LocalTargets;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strategy {
    /// Where local targets stand. Default: where they are written.
    pub local: LocalTargets,
    /// Whether a call whose first target is local may go on to others. Default true; with false it never costs money.
    pub fallback_to_api: bool,
    /// Whether fallbacks that cost nothing come before those that do. Default false.
    pub cost_optimized: bool,
}

/// Where local targets stand in a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalTargets {
    /// Where they are written.
    #[default]
    AsWritten,
    /// Before all others (`use_local_first`).
    First,
    /// After all others (`local_last`).
    Last,
}

/// What the order of a route depends on, of one of its targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// It is local.
    pub local: bool,
    /// It costs nothing.
    pub free: bool,
    /// The call itself names it.
    pub named: bool,
}

impl Default for Strategy {
    fn default() -> Self {
        Strategy { local: LocalTargets::default(), fallback_to_api: true, cost_optimized: false }
    }
}

/// What is stated of those on whose behalf calls are made (`user=`).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Users {
    /// Holds for users without an entry.
    pub default: UserSettings,
    /// Those with an entry of their own, by name; what it does not state is the default's.
    pub named: BTreeMap<String, UserSettings>,
}

/// One user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserSettings {
    /// The share of a waiting line, in thousandths; 1000 is the usual weight of 1.
    pub weight: u32,
    /// Limits over all targets together. They roll unless the user says otherwise.
    pub limits: Vec<Limit>,
}

impl Default for UserSettings {
    fn default() -> Self {
        UserSettings { weight: USUAL_WEIGHT, limits: Vec::new() }
    }
}

/// Where counts are remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateSetting {
    /// The default: this SQLite file in the user's cache folder.
    UserCache(PathBuf),
    /// This SQLite file.
    Sqlite(PathBuf),
    /// Nowhere: counts end with the process.
    Memory,
    /// A Redis server; secret, because its address may hold a password.
    Redis(Secret),
}

/// How often and how fast a failed call is tried again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetrySettings {
    /// How often, after the first attempt. Default 3.
    pub max_retries: u32,
    /// The first pause. Default 1 s.
    pub retry_delay: Duration,
    /// By how much each pause is longer than the one before; 1 or more. Default 2.
    pub retry_multiplier: f64,
    /// The longest pause. Default 300 s.
    pub cap: Duration,
    /// What all calls together may spend on retries.
    pub budget: RetryBudget,
}

/// What all calls of the process together may spend on retries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// Retries for each first attempt, from 0 to 1. Default 0.2.
    pub share: f64,
    /// Retries that are there before any call was made. Default 10.
    pub reserve: u32,
}

/// How long is waited for a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection. Default 10 s.
    pub connect: Duration,
    /// For the first byte of an answer, and for each next one. Default 600 s.
    pub read: Duration,
    /// For a call with everything in it, waiting and retries included. Default `None`: no end.
    pub call: Option<Duration>,
    /// For the next piece of a streamed answer, whatever keeps the connection alive. Default `None`: see
    /// [`Timeouts::for_a_piece`].
    pub piece: Option<Duration>,
}

/// DeepSeek, whose comments keep a connection alive while a call waits for the model, gives up after ten minutes.
const PIECE: Duration = Duration::from_secs(600);

impl Timeouts {
    /// How long a reader waits for the next piece of an answer on which `silence` is the longest silence, and `asked`
    /// whether the call itself asked for that: as configured, else 600 s or that silence, whichever is longer. A
    /// silence that the call asked for is allowed in any case.
    pub fn for_a_piece(&self, silence: Duration, asked: bool) -> Duration {
        match self.piece {
            Some(piece) if !asked => piece,
            piece => piece.unwrap_or(PIECE).max(silence),
        }
    }
}

impl Default for RetrySettings {
    fn default() -> Self {
        RetrySettings {
            max_retries: 3,
            retry_delay: Duration::from_secs(1),
            retry_multiplier: 2.0,
            cap: Duration::from_secs(300),
            budget: RetryBudget::default(),
        }
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        RetryBudget { share: 0.2, reserve: 10 }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(10),
            read: Duration::from_secs(600),
            call: None,
            piece: None,
        }
    }
}

impl ProviderSettings {
    /// A provider of the catalogue that the user wrote nothing about: no keys, no limits.
    pub fn unconfigured(provider: Provider) -> Self {
        ProviderSettings {
            key_names: provider.key_envs.iter().map(|name| (*name).to_owned()).collect(),
            provider,
            keys: Vec::new(),
            limits: Vec::new(),
            model_limits: BTreeMap::new(),
            pacing: PacingSettings::default(),
            model_pacing: BTreeMap::new(),
            usual: Pacing::default(),
            default_model: None,
            timeout: None,
        }
    }
}

impl Settings {
    /// Whether what calls cost counts against any limit.
    pub fn limits_money(&self) -> bool {
        let money = |limits: &[Limit]| limits.iter().any(|limit| limit.resource == Resource::Spend);
        let of_provider = |provider: &ProviderSettings| {
            money(&provider.limits)
                || provider.model_limits.values().any(|limits| money(limits))
                || provider
                    .keys
                    .iter()
                    .filter_map(|key| key.limits.as_ref())
                    .any(|limits| money(limits))
        };
        let users = &self.users;
        self.providers.values().any(of_provider)
            || money(&users.default.limits)
            || users.named.values().any(|user| money(&user.limits))
    }

    /// Under which names a key of this provider was looked for, for the error that says there is none.
    ///
    /// Empty for a provider that is not in [`Settings::providers`].
    ///
    /// ```
    /// use quotaflow::config::{Arguments, Settings, Sources};
    /// let arguments = Arguments { state: Some("memory".into()), ..Arguments::default() };
    /// let settings = Settings::resolve(arguments, Sources::default()).unwrap();
    /// assert_eq!(
    ///     settings.key_names_looked_for("openai"),
    ///     ["OPENAI_API_KEY", "OPENAI_API_KEY_2", "OPENAI_API_KEY_BACKUP_1", "OPENAI_API_KEYS"],
    /// );
    /// ```
    pub fn key_names_looked_for(&self, provider: &str) -> Vec<String> {
        let canonical = Provider::find(provider).map_or_else(|| provider.to_owned(), |p| p.name);
        self.providers
            .get(&canonical)
            .map(|settings| settings.key_names.clone())
            .unwrap_or_default()
    }
}
