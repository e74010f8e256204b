//! A provider: its names, its address, and how it counts.

use std::num::NonZeroU64;

use crate::kernel::{Period, Refill, Resource, default_burst};

use super::catalogue::{COMPATIBLE, Dialect, ENTRIES, Entry, MODEL_PREFIXES, NAMES, Refills};
use super::local;
use super::wire::InvalidRequest;

/// One vendor endpoint.
///
/// ```
/// use quotaflow::providers::Provider;
/// let gemini = Provider::find("google_genai").unwrap();
/// assert_eq!(gemini.name, "gemini");
/// assert_eq!(gemini.key_envs, ["GEMINI_API_KEY", "GOOGLE_API_KEY"]);
/// ```
#[derive(Clone, Debug)]
pub struct Provider {
    /// The canonical name.
    pub name: String,
    /// The wire format it speaks.
    pub dialect: Dialect,
    /// Where it is, as its official SDK takes it, without a slash at the end; empty when only the user can know
    /// (Azure: one address per resource).
    pub base_url: String,
    /// Names of the environment variables that hold its address, when it has none of its own.
    pub base_url_envs: &'static [&'static str],
    /// The version of the API in the query of each address; `None`: it has none (all but Azure).
    pub api_version: Option<String>,
    /// The environment variable that names another version.
    pub api_version_env: Option<&'static str>,
    /// Names of the environment variables that hold its key, the preferred one first.
    pub key_envs: &'static [&'static str],
    /// Whether a call without a key is bound to fail.
    pub needs_key: bool,
    /// The zone of its calendar resets; `None` when nothing of it resets by the calendar.
    pub reset_zone: Option<&'static str>,
    /// Whether `max_tokens` is charged in full when a call is admitted.
    pub reserves_max_tokens: bool,
    /// Whether output counts in a plain `tokens` limit.
    pub counts_output: bool,
    /// Whether input that came from the provider's cache counts in token limits.
    pub counts_cached_input: bool,
    pub(super) entry: &'static Entry,
}

impl Provider {
    /// The provider of that name or alias, whatever its case; `None` when there is none.
    pub fn find(name: &str) -> Option<Provider> {
        let name = name.trim();
        let same = |known: &&str| known.eq_ignore_ascii_case(name);
        ENTRIES
            .iter()
            .find(|entry| same(&entry.name) || entry.aliases.iter().any(&same))
            .map(|entry| Provider::of(entry, entry.name, entry.base_url))
    }

    /// The canonical names, for error texts.
    pub fn names() -> &'static [&'static str] {
        &NAMES
    }

    /// Any server that speaks OpenAI's chat dialect; it may or may not want a key.
    ///
    /// ```
    /// use quotaflow::providers::Provider;
    /// let local = Provider::compatible("box", "http://127.0.0.1:8000/v1/");
    /// assert_eq!(local.base_url, "http://127.0.0.1:8000/v1");
    /// assert!(!local.needs_key);
    /// ```
    pub fn compatible(name: &str, base_url: &str) -> Provider {
        Provider::of(&COMPATIBLE, name, base_url)
    }

    /// This provider asked in `dialect`; `None` when it does not speak that.
    ///
    /// ```
    /// use quotaflow::providers::{Dialect, Provider};
    /// let openai = Provider::find("openai").unwrap();
    /// assert!(openai.clone().speaking(Dialect::Responses).is_some());
    /// assert!(openai.speaking(Dialect::Gemini).is_none());
    /// ```
    pub fn speaking(mut self, dialect: Dialect) -> Option<Provider> {
        let speaks = self.entry.dialect == dialect || self.entry.also_speaks.contains(&dialect);
        self.dialect = dialect;
        speaks.then_some(self)
    }

    /// Whether it is asked in another dialect than its own.
    pub(crate) fn speaks_otherwise(&self) -> bool {
        self.dialect != self.entry.dialect
    }

    /// This provider at another address.
    ///
    /// # Errors
    /// When `base_url` is not an `http` or `https` address with a host, or holds a query,
    /// a fragment or a password.
    pub fn with_base_url(mut self, base_url: &str) -> Result<Provider, InvalidRequest> {
        let none = self.base_url.is_empty();
        let like = if none { "https://my-resource.openai.azure.com" } else { &self.base_url };
        let wrong = |why: &str| {
            InvalidRequest::about(
                "base_url",
                format!("base_url of {} {why}; write something like {like}", self.name),
            )
        };
        let url = url::Url::parse(base_url.trim()).map_err(|_| wrong("is not an address"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(wrong("must start with http:// or https:// and name a host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("must not hold a user or a password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("must not hold a query or a fragment"));
        }
        self.base_url = trimmed(base_url);
        Ok(self)
    }

    /// Whether this is a server of the user's own, near at hand: Ollama, llama.cpp and vLLM wherever they are (but not
    /// Ollama's cloud), and anything on this machine or in a private network.
    ///
    /// ```
    /// use quotaflow::providers::Provider;
    /// let ollama = Provider::find("ollama").unwrap();
    /// assert!(ollama.is_local());
    /// assert!(!ollama.with_base_url("https://ollama.com/v1").unwrap().is_local());
    /// assert!(Provider::compatible("box", "http://192.168.1.7:8000/v1").is_local());
    /// assert!(!Provider::find("openai").unwrap().is_local());
    /// ```
    pub fn is_local(&self) -> bool {
        local::is_local(self.entry.self_hosted, &self.base_url)
    }

    /// Whether it is a server that people run themselves: one that is known as such, or one of the user's own on this
    /// machine or in this network. A provider of the catalogue that was moved there (a proxy, a simulator) is none.
    ///
    /// ```
    /// use quotaflow::providers::Provider;
    /// assert!(Provider::find("ollama").unwrap().is_self_hosted());
    /// assert!(Provider::compatible("box", "http://127.0.0.1:8000/v1").is_self_hosted());
    /// let moved = Provider::find("openai").unwrap().with_base_url("http://127.0.0.1:8000/v1");
    /// assert!(!moved.unwrap().is_self_hosted());
    /// ```
    pub fn is_self_hosted(&self) -> bool {
        let is_known = ENTRIES.iter().any(|entry| entry.name == self.entry.name);
        self.is_local() && (self.entry.self_hosted || !is_known)
    }

    /// The provider that a model's name points at; `None` when the name does not show it.
    ///
    /// ```
    /// use quotaflow::providers::Provider;
    /// assert_eq!(Provider::for_model("claude-sonnet-5"), Some("anthropic"));
    /// assert_eq!(Provider::for_model("anthropic/claude-sonnet-5"), Some("openrouter"));
    /// assert_eq!(Provider::for_model("llama3"), None);
    /// ```
    pub fn for_model(model: &str) -> Option<&'static str> {
        let model = model.trim();
        if model.split_once('/').is_some_and(|(vendor, name)| {
            !vendor.is_empty() && !name.is_empty() && vendor != "models"
        }) {
            return Some("openrouter");
        }
        let bare = model.strip_prefix("models/").unwrap_or(model).to_ascii_lowercase();
        MODEL_PREFIXES
            .iter()
            .find(|(prefix, _)| bare.starts_with(prefix))
            .map(|(_, provider)| *provider)
    }

    /// How a limit comes back that the user stated as a bare number.
    ///
    /// Buckets for OpenAI, Groq and Anthropic: all three document a continuous refill, and that
    /// minute limits are enforced over shorter slices, so a large request bucket holds two seconds'
    /// worth ([`default_burst`]).
    /// Gemini's and OpenRouter's days end at a midnight; what is not documented rolls.
    pub fn refill(&self, resource: Resource, period: Period, amount: NonZeroU64) -> Refill {
        let calendar = |zone: &str| Refill::Calendar { zone: zone.to_owned() };
        match (resource, period, self.entry.refills) {
            (Resource::Concurrency, ..) => Refill::Release,
            (Resource::Spend, ..) => Refill::Rolling,
            (_, Period::Month, _) => calendar("UTC"),
            (_, Period::Day, Refills::MidnightDays { zone }) => calendar(zone),
            (Resource::Requests, Period::Second | Period::Minute, Refills::Buckets) => {
                Refill::Bucket { burst: default_burst(amount) }
            }
            (_, _, Refills::Buckets) => Refill::Bucket { burst: amount },
            _ => Refill::Rolling,
        }
    }

    /// The zone at whose midnight a limit on that period comes back here; `None`: it does not turn so.
    pub(super) fn zone_of(&self, period: Period) -> Option<&'static str> {
        match period {
            Period::Day => self.reset_zone,
            Period::Month => Some("UTC"),
            _ => None,
        }
    }

    pub(super) fn of(entry: &'static Entry, name: &str, base_url: &str) -> Provider {
        Provider {
            name: name.to_owned(),
            dialect: entry.dialect,
            base_url: trimmed(base_url),
            base_url_envs: entry.base_url_envs,
            api_version: entry.api_version.map(|(version, _)| version.to_owned()),
            api_version_env: entry.api_version.map(|(_, variable)| variable),
            key_envs: entry.key_envs,
            needs_key: entry.needs_key,
            reset_zone: match entry.refills {
                Refills::MidnightDays { zone } => Some(zone),
                Refills::Buckets | Refills::Windows => None,
            },
            reserves_max_tokens: entry.reserves_max_tokens,
            counts_output: entry.counts_output,
            counts_cached_input: entry.counts_cached_input,
            entry,
        }
    }
}

fn trimmed(base_url: &str) -> String {
    base_url.trim().trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refill(provider: &str, resource: Resource, period: Period, amount: u64) -> Refill {
        let amount = NonZeroU64::new(amount).unwrap();
        Provider::find(provider).unwrap().refill(resource, period, amount)
    }

    fn bucket(burst: u64) -> Refill {
        Refill::Bucket { burst: NonZeroU64::new(burst).unwrap() }
    }

    fn calendar(zone: &str) -> Refill {
        Refill::Calendar { zone: zone.to_owned() }
    }

    #[test]
    fn names_and_aliases_are_found_whatever_their_case() {
        for (asked, name) in [
            ("OpenAI", "openai"),
            ("google", "gemini"),
            ("Google_GenAI", "gemini"),
            (" groq ", "groq"),
            ("llama.cpp", "llamacpp"),
            ("Azure_OpenAI", "azure"),
            ("x.ai", "xai"),
        ] {
            assert_eq!(Provider::find(asked).unwrap().name, name);
        }
        assert!(Provider::find("opnai").is_none());
        assert!(Provider::names().iter().all(|name| Provider::find(name).unwrap().name == *name));
    }

    #[test]
    fn limits_refill_as_their_provider_documents() {
        use Period::{Day, Minute, Month};
        use Resource::{Concurrency, Requests, Tokens};
        assert_eq!(refill("openai", Requests, Minute, 600), bucket(20));
        assert_eq!(refill("openai", Requests, Minute, 3), bucket(3));
        assert_eq!(refill("anthropic", Tokens, Minute, 30_000), bucket(30_000));
        assert_eq!(refill("groq", Requests, Day, 14_400), bucket(14_400));
        assert_eq!(refill("gemini", Requests, Minute, 10), Refill::Rolling);
        assert_eq!(refill("gemini", Requests, Day, 20), calendar("America/Los_Angeles"));
        assert_eq!(refill("openrouter", Requests, Day, 50), calendar("UTC"));
        assert_eq!(refill("openrouter", Requests, Minute, 20), Refill::Rolling);
        assert_eq!(refill("ollama", Requests, Day, 5), Refill::Rolling);
        assert_eq!(refill("xai", Requests, Minute, 600), bucket(20));
        assert_eq!(refill("cerebras", Requests, Day, 100), bucket(100));
        assert_eq!(refill("azure", Tokens, Minute, 1_000), bucket(1_000));
        assert_eq!(refill("mistral", Requests, Minute, 100), Refill::Rolling);
        assert_eq!(refill("deepseek", Concurrency, Minute, 500), Refill::Release);
        assert_eq!(refill("vllm", Requests, Minute, 5), Refill::Rolling);
        assert_eq!(refill("openai", Tokens, Month, 5), calendar("UTC"));
        assert_eq!(refill("gemini", Concurrency, Minute, 5), Refill::Release);
    }

    #[test]
    fn models_name_their_provider() {
        for (model, provider) in [
            ("gpt-4o-mini", Some("openai")),
            ("o3-mini", Some("openai")),
            ("chatgpt-4o-latest", Some("openai")),
            ("claude-x", Some("anthropic")),
            ("models/gemini-2.5-flash", Some("gemini")),
            ("Gemini-2.5-Flash", Some("gemini")),
            ("meta-llama/llama-3:free", Some("openrouter")),
            ("grok-4", Some("xai")),
            ("deepseek-chat", Some("deepseek")),
            ("deepseek-r1:8b", None),
            ("codestral-latest", Some("mistral")),
            ("mistral-large", None),
            ("", None),
        ] {
            assert_eq!(Provider::for_model(model), provider, "{model}");
        }
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        let openai = Provider::find("openai").unwrap();
        for wrong in [
            "",
            "api.openai.com/v1",
            "ftp://h/v1",
            "http://",
            "http://u:p@h/v1",
            "https://h/v1?key=x",
            "https://h/#a",
        ] {
            let refused = openai.clone().with_base_url(wrong).unwrap_err();
            assert_eq!(refused.field.as_deref(), Some("base_url"), "{wrong}");
        }
        let moved = openai.with_base_url(" http://127.0.0.1:8080/v1/ ").unwrap();
        assert_eq!(moved.base_url, "http://127.0.0.1:8080/v1");
    }
}
