//! The arguments of `LLMInterface(...)`.

use std::fmt;
use std::path::PathBuf;

use serde_json::Value;

/// The config as it was handed over: where it is, or what it says.
#[derive(Clone, PartialEq)]
pub enum ConfigArgument {
    /// A file; its ending (`.yaml`, `.yml`, `.toml`, `.json`) names the format.
    Path(PathBuf),
    /// The tree itself, in the shape of the file.
    Value(Value),
}

impl fmt::Debug for ConfigArgument {
    /// Without content: a tree may hold keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConfigArgument::Path(_) => "Path(..)",
            ConfigArgument::Value(_) => "Value(..)",
        })
    }
}

/// The arguments of `LLMInterface(config=None, *, keys=None, limits=None, base_urls=None, state=None)`.
///
/// Each overrides what the config file and the environment say.
#[derive(Clone, Default, PartialEq)]
pub struct Arguments {
    /// The config; `None` searches for one.
    pub config: Option<ConfigArgument>,
    /// `{"openai": ["sk-…", {"key": …, "label": …, "group": …, "limits": {…}}, "$NAME", {"env": "NAME"}]}`.
    pub keys: Option<Value>,
    /// `{"openai": {"rpm": 60, "tpd": 100000, "models": {"gpt-4o": {"rpm": 3}}}}`, for each quota group.
    pub limits: Option<Value>,
    /// `{"openai": "http://127.0.0.1:8000/v1"}`; a name that is no known provider becomes an OpenAI-compatible one.
    pub base_urls: Option<Value>,
    /// `memory`, the path of a file, or a `redis://` address.
    pub state: Option<String>,
    /// Whether `keys` and `limits` may name what is no provider (`RateLimiter`): nothing is sent there, only counted.
    pub others: bool,
}

impl fmt::Debug for Arguments {
    /// Only which arguments were given: any of them may hold a key in the wrong place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = [
            ("config", self.config.is_some()),
            ("keys", self.keys.is_some()),
            ("limits", self.limits.is_some()),
            ("base_urls", self.base_urls.is_some()),
            ("state", self.state.is_some()),
        ];
        let names = given.iter().filter(|(_, given)| *given).map(|(name, _)| name);
        f.write_str("Arguments given: ")?;
        f.debug_list().entries(names).finish()
    }
}
