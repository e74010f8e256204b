//! Sources of the config: environment, `.env`, config file.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::secret::Secret;

use super::arguments::ConfigArgument;
use super::error::ConfigError;
use super::redact::{looks_like_a_key, shown};

/// The variable that names a config file.
const CONFIG_VARIABLE: &str = "QUOTAFLOW_CONFIG";

/// Config files of a working folder, the first one wins.
const LOCAL_NAMES: [&str; 4] =
    ["quotaflow.yaml", "quotaflow.yml", "quotaflow.toml", "quotaflow.json"];

/// Config files of the user's config folder, the first one wins.
const USER_NAMES: [&str; 4] = ["config.yaml", "config.yml", "config.toml", "config.json"];

/// A larger file than this is not a config.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;

/// A config file that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    /// Where it is; its ending names the format.
    pub path: PathBuf,
    /// What it says; secret, for it may hold keys.
    pub text: Secret,
}

/// Everything the machine says that settings depend on. The default says nothing at all.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The variables of the process.
    pub environment: BTreeMap<String, Secret>,
    /// The variables of `.env`; those of the process win.
    pub dotenv: BTreeMap<String, Secret>,
    /// The config file.
    pub file: Option<ConfigFile>,
    /// The user's home, for `~/`.
    pub home: Option<PathBuf>,
    /// Where the user's caches are.
    pub cache_folder: Option<PathBuf>,
    /// What was odd while looking.
    pub warnings: Vec<String>,
}

/// Where [`Sources::gather_at`] looks.
#[derive(Clone, Debug)]
pub struct Places {
    /// Where `.env` and `quotaflow.yaml` are looked for.
    pub working_folder: PathBuf,
    /// Where the user's `quotaflow/config.yaml` is looked for.
    pub config_folder: Option<PathBuf>,
    /// Where the state file goes.
    pub cache_folder: Option<PathBuf>,
    /// The user's home.
    pub home: Option<PathBuf>,
    /// The variables of the process.
    pub environment: BTreeMap<String, Secret>,
}

impl Places {
    /// Those of this process. Variables that are not Unicode are left out.
    pub fn of_this_process() -> Places {
        let folders = directories::BaseDirs::new();
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, Secret::new(value.into_string().ok()?)))
        });
        Places {
            working_folder: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            config_folder: folders.as_ref().map(|folders| folders.config_dir().to_owned()),
            cache_folder: folders.as_ref().map(|folders| folders.cache_dir().to_owned()),
            home: folders.as_ref().map(|folders| folders.home_dir().to_owned()),
            environment: variables.collect(),
        }
    }
}

impl Sources {
    /// Looks at this process and its machine. The config file is the first of: the argument, `$QUOTAFLOW_CONFIG`,
    /// `./quotaflow.{yaml,yml,toml,json}`, `quotaflow/config.{yaml,yml,toml,json}` in the user's config folder.
    ///
    /// Nothing is changed: a `.env` does not become part of the environment.
    ///
    /// # Errors
    /// A config file that was named and is not there, or one that cannot be read.
    pub fn gather(config: Option<&ConfigArgument>) -> Result<Sources, ConfigError> {
        Sources::gather_at(Places::of_this_process(), config)
    }

    /// The same, looking at the places given.
    ///
    /// # Errors
    /// As [`Sources::gather`].
    pub fn gather_at(
        places: Places,
        config: Option<&ConfigArgument>,
    ) -> Result<Sources, ConfigError> {
        let mut sources = Sources {
            environment: places.environment,
            home: places.home,
            cache_folder: places.cache_folder,
            ..Sources::default()
        };
        sources.read_dotenv(&places.working_folder.join(".env"));
        let folders = (places.working_folder.as_path(), places.config_folder.as_deref());
        if let Some(path) = sources.find_config(config, folders)? {
            sources.file = Some(ConfigFile { text: read(&path)?, path });
        }
        Ok(sources)
    }

    /// A variable of the process, else of `.env`.
    pub(super) fn variable(&self, name: &str) -> Option<&Secret> {
        self.environment.get(name).or_else(|| self.dotenv.get(name))
    }

    /// A digest of the key that a variable holds, in the process or else in `.env`: the same for the same key under the
    /// same salt. `None` where there are only blanks, or several keys with commas.
    pub fn digest_of(&self, name: &str, salt: &str) -> Option<String> {
        let key = self.variable(name)?.expose().trim();
        let several = name.ends_with('S') && key.contains(',');
        (!key.is_empty() && !several).then(|| Secret::new(key).digest(salt))
    }

    /// Every variable of the process, and those of `.env` that the process does not have.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&str, &Secret)> {
        let more = self.dotenv.iter().filter(|(name, _)| !self.environment.contains_key(*name));
        self.environment.iter().chain(more).map(|(name, value)| (name.as_str(), value))
    }

    fn read_dotenv(&mut self, path: &Path) {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                let reason = error.kind();
                self.warnings.push(format!("{} cannot be read: {reason}", path.display()));
                return;
            }
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        for line in dotenvy::from_read_iter(text.as_bytes()) {
            match line {
                // As dotenv does it, the first of two equal names counts.
                Ok((name, value)) => {
                    self.dotenv.entry(name).or_insert_with(|| Secret::new(value));
                }
                // The error quotes the line, and the line may be a key.
                Err(_) => self.warnings.push(format!(
                    "{} has a line that is not NAME=value: it is left out",
                    path.display()
                )),
            }
        }
    }

    fn find_config(
        &mut self,
        argument: Option<&ConfigArgument>,
        (working, user): (&Path, Option<&Path>),
    ) -> Result<Option<PathBuf>, ConfigError> {
        match argument {
            Some(ConfigArgument::Value(_)) => return Ok(None),
            Some(ConfigArgument::Path(path)) => {
                return self.stated(path, working, "config").map(Some);
            }
            None => {}
        }
        let named = self.variable(CONFIG_VARIABLE).map(|path| path.expose().trim().to_owned());
        if let Some(path) = named.filter(|path| !path.is_empty()) {
            return self.stated(Path::new(&path), working, CONFIG_VARIABLE).map(Some);
        }
        let local = LOCAL_NAMES.map(|name| working.join(name));
        let user = user.map(|folder| USER_NAMES.map(|name| folder.join("quotaflow").join(name)));
        for names in std::iter::once(local).chain(user) {
            let mut found = names.into_iter().filter(|path| path.is_file());
            let Some(first) = found.next() else { continue };
            for other in found {
                self.warnings.push(format!(
                    "{} is not read, because {} is there",
                    other.display(),
                    first.display()
                ));
            }
            return Ok(Some(first));
        }
        Ok(None)
    }

    fn stated(&self, path: &Path, working: &Path, name: &str) -> Result<PathBuf, ConfigError> {
        let text = path.to_string_lossy();
        if looks_like_a_key(&text) || text.chars().any(char::is_control) {
            return Err(ConfigError::at(
                shown(name, false),
                "this is not the path of a config file",
            ));
        }
        let path = match (text.strip_prefix("~/"), &self.home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => working.join(path),
        };
        if path.is_file() {
            return Ok(path);
        }
        let error = ConfigError::of_file(&path, "there is no such file");
        Err(error.hint(format!("the path comes from {name}")))
    }
}

fn read(path: &Path) -> Result<Secret, ConfigError> {
    let wrong = |error: io::Error| match error.kind() {
        io::ErrorKind::InvalidData => ConfigError::of_file(path, "this is not UTF-8 text"),
        kind => ConfigError::of_file(path, format!("this file cannot be read: {kind}")),
    };
    if fs::metadata(path).map_err(wrong)?.len() > LARGEST_FILE {
        return Err(ConfigError::of_file(path, "this file is too large for a config"));
    }
    fs::read_to_string(path).map(Secret::new).map_err(wrong)
}
