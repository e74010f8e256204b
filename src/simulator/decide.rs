//! The simulator's decision about each request.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::answer::{Answer, IncomingRequest, Ticket};
use super::decision::{Decision, Verdict};
use super::faults::{Faults, Occasion};
use super::meters::{Meters, Organization, Wanted};
use super::random::Random;
use super::request::{Directory, Problem, Request};
use super::settings::{
    FaultEffect, FaultRule, KeySettings, Latency, OutputTokens, Provider, SettingsError,
    SimulatorSettings, StreamSettings, TokenSettings,
};
use super::stats::{Counter, Outcome, Stats, TimelineEntry};

/// The simulator without its sockets: bytes and an instant in, an answer out. The same seed, requests and instants
/// give the same answers.
///
/// ```
/// use quotaflow::simulator::{IncomingRequest, Simulator, SimulatorSettings};
/// let settings = SimulatorSettings::from_yaml(
///     "keys: [{key: sk-test-1, provider: openai, limits: {rpm: 1}}]",
/// )?;
/// let mut simulator = Simulator::new(settings)?;
/// let request = IncomingRequest {
///     method: "POST",
///     path: "/v1/chat/completions",
///     headers: &[("authorization", "Bearer sk-test-1")],
///     body: br#"{"model": "gpt-test", "messages": [{"role": "user", "content": "Hello"}]}"#,
/// };
/// let answer = simulator.answer(&request, 0);
/// assert_eq!(answer.status, 200);
/// simulator.finished(answer.ticket.unwrap(), 1_000);
/// assert_eq!(simulator.answer(&request, 2_000).status, 429);
/// # Ok::<(), quotaflow::simulator::SettingsError>(())
/// ```
#[derive(Debug)]
pub struct Simulator {
    latency: Latency,
    tokens: TokenSettings,
    streams: StreamSettings,
    directory: Arc<Directory>,
    keys: Vec<Key>,
    organizations: Vec<Organization>,
    meters: Vec<Meters>,
    faults: Faults,
    random: Random,
    counter: Counter,
    started: Option<i64>,
    serial: u64,
}

/// What the simulator knows of a key.
#[derive(Debug)]
struct Key {
    organization: usize,
    models: Option<std::collections::BTreeSet<String>>,
}

impl Simulator {
    /// A simulator for these settings, with every limit unused.
    pub fn new(settings: SimulatorSettings) -> Result<Self, SettingsError> {
        let settings = settings.checked()?;
        if let Some(tokenizer) = settings.tokens.tokenizer {
            tokenizer.load();
        }
        let (mut organizations, mut places) = (Vec::new(), HashMap::new());
        let mut keys = Vec::with_capacity(settings.keys.len());
        for key in &settings.keys {
            let name = key.organization.clone().unwrap_or_else(|| format!("org-{}", key.label));
            let place = *places.entry((key.provider, name.clone())).or_insert(organizations.len());
            if place == organizations.len() {
                organizations.push(organization_of(key, name));
            } else if key.speaks_of_limits() {
                organizations[place].limits = key.limits.clone();
                organizations[place].pools.clone_from(&key.pools);
            }
            keys.push(Key { organization: place, models: key.models.clone() });
        }
        let labels = settings.keys.iter().map(|key| key.label.clone()).collect();
        let secrets = settings.keys.into_iter().enumerate();
        let directory = Directory::new(secrets.map(|(index, key)| (key.key, index, key.provider)));
        Ok(Simulator {
            latency: settings.latency,
            tokens: settings.tokens,
            streams: settings.stream,
            directory: Arc::new(directory),
            keys,
            organizations,
            meters: Vec::new(),
            faults: Faults::new(settings.faults),
            random: Random::new(settings.seed),
            counter: Counter::new(labels, settings.timeline.0),
            started: None,
            serial: 0,
        })
    }

    /// Answers a request that arrives at `now_nanos` (nanoseconds since the epoch).
    ///
    /// The answer is to be sent after its `delay`, and its ticket handed to [`finished`](Self::finished) then.
    pub fn answer(&mut self, request: &IncomingRequest<'_>, now_nanos: i64) -> Answer {
        let asked = Request::read(&self.directory, request);
        self.decide(&asked, now_nanos).into_answer(&asked)
    }

    /// A request is over: it leaves its slot, and its tokens become what they really were.
    pub fn finished(&mut self, ticket: Ticket, now_nanos: i64) {
        self.counter.end();
        if let Some(meters) = self.meters.get_mut(ticket.meters) {
            meters.finish(&ticket, now_nanos);
        }
    }

    /// Sets the instant from which `between` and the timeline count; without it that is the first request.
    pub fn start(&mut self, now_nanos: i64) {
        self.started = Some(now_nanos);
    }

    /// Adds rules behind those there are.
    pub fn add_faults(&mut self, rules: Vec<FaultRule>) -> Result<(), SettingsError> {
        let labels = (0..self.keys.len()).map(|key| self.counter.label(key).to_owned()).collect();
        for (index, rule) in rules.iter().enumerate() {
            rule.check(&format!("faults[{index}]"), &labels)?;
        }
        self.faults.add(rules);
        Ok(())
    }

    /// Drops all rules.
    pub fn clear_faults(&mut self) {
        self.faults.clear();
    }

    /// The counts so far.
    pub fn stats(&self) -> Stats {
        self.counter.stats()
    }

    /// The newest requests, oldest first, as many as the settings keep.
    pub fn timeline(&self) -> Vec<TimelineEntry> {
        self.counter.timeline()
    }

    /// Forgets the counts and the timeline; the limits stay as used as they are.
    pub fn reset_stats(&mut self) {
        self.counter.reset();
    }

    /// The keys, for reading requests without holding a lock.
    pub(super) fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory)
    }

    /// Decides on a request and charges its limits.
    pub(super) fn decide(&mut self, asked: &Request<'_>, now: i64) -> Decision {
        self.serial += 1;
        let started = *self.started.get_or_insert(now);
        let seconds = (now - started) as f64 / 1e9;
        let delay = Duration::from_secs_f64(self.latency());
        let mut decision = Decision {
            verdict: Verdict::Completion,
            serial: self.serial,
            now,
            input_tokens: self.tokens.of_prompt(&asked.texts),
            output_tokens: 0,
            cut: false,
            organization: String::new(),
            free_tier: false,
            limits: Vec::new(),
            idle_retry_after: None,
            delay,
            pieces: self.streams.pieces,
            pause: Duration::from_secs_f64(self.streams.pause),
            mid_stream: None,
            ticket: None,
        };
        decision.verdict = match self.admit(asked, seconds, &mut decision) {
            Err(verdict) => verdict,
            Ok(()) => Verdict::Completion,
        };
        let completed = decision.is_completion();
        self.counter.count(Outcome {
            key: asked.key,
            seconds,
            status: decision.status(asked.provider),
            refused: if completed { None } else { Some(decision.reason()) },
            tokens: (decision.input_tokens, decision.output_tokens),
        });
        decision
    }

    fn admit(
        &mut self,
        asked: &Request<'_>,
        seconds: f64,
        decision: &mut Decision,
    ) -> Result<(), Verdict> {
        if let Some(problem) = &asked.problem {
            return Err(Verdict::Wrong(problem.clone()));
        }
        let key = asked.key.ok_or(Verdict::Wrong(Problem::BadKey))?;
        let Key { organization, models } = &self.keys[key];
        let organization = *organization;
        if models.as_ref().is_some_and(|models| !models.contains(asked.model.as_ref())) {
            return Err(Verdict::Wrong(Problem::NoSuchModel));
        }
        decision.organization.push_str(&self.organizations[organization].name);
        decision.free_tier = self.organizations[organization].free_tier;
        let place = self.meters_of(organization, &asked.model, decision.now);
        let wanted = Wanted { input: decision.input_tokens, output: asked.max_tokens.unwrap_or(0) };
        let passed = self.meters[place].check(wanted, decision.now);
        if let Err(refusal) = passed {
            decision.limits = self.meters[place].views(decision.now);
            return Err(Verdict::Refused(refusal));
        }
        let label = self.counter.label(key);
        let (provider, streams) = (asked.provider, asked.streams);
        let occasion = Occasion { provider, label, model: &asked.model, streams, seconds };
        let effect = self.faults.strike(occasion, &mut self.random);
        if !effect.as_ref().is_some_and(FaultEffect::is_free) {
            self.meters[place].take(wanted, decision.now);
            self.counter.begin();
            let full = match self.tokens.output {
                OutputTokens::Fixed(tokens) => tokens,
                OutputTokens::Between { min, max } => self.random.between(min, max),
            };
            decision.output_tokens = full.min(asked.max_tokens.unwrap_or(u64::MAX));
            decision.cut = decision.output_tokens < full;
            decision.ticket = Some(Ticket {
                meters: place,
                taken_at: decision.now,
                input: wanted.input,
                output_charged: wanted.output,
                output: decision.output_tokens,
                tokens_count: effect.as_ref().is_none_or(|effect| effect.status.is_none()),
            });
        }
        decision.limits = self.meters[place].views(decision.now);
        if asked.provider == Provider::Anthropic && self.random.fraction() < 0.1 {
            decision.idle_retry_after = Some(self.random.between(3, 61));
        }
        let Some(effect) = effect else { return Ok(()) };
        decision.delay += Duration::from_secs_f64(effect.slow);
        decision.mid_stream = effect.then;
        let spoils = effect.then.is_some_and(|middle| middle.spoils());
        // Only slow: the answer itself is right.
        if effect.status.is_none() && effect.shape.is_none() && !spoils {
            return Ok(());
        }
        Err(Verdict::Injected(effect))
    }

    fn meters_of(&mut self, organization: usize, model: &str, now: i64) -> usize {
        let organization = &mut self.organizations[organization];
        let (name, limits) = organization.meter_of(model);
        if let Some(place) = organization.places.get(name) {
            return *place;
        }
        let (name, place) = (name.to_owned(), self.meters.len());
        self.meters.push(Meters::new(organization.provider, limits, now));
        organization.places.insert(name, place);
        place
    }

    fn latency(&mut self) -> f64 {
        match self.latency {
            Latency::Fixed(seconds) => seconds,
            Latency::Between { min, max } => min + self.random.fraction() * (max - min),
        }
    }
}

fn organization_of(key: &KeySettings, name: String) -> Organization {
    Organization {
        name,
        provider: key.provider,
        free_tier: key.free_tier,
        limits: key.limits.clone(),
        pools: key.pools.clone(),
        places: HashMap::new(),
    }
}
