//! Config errors, with path and hint.

use std::fmt;
use std::path::{Path, PathBuf};

/// A config, argument or key that cannot be used.
///
/// No part of it ever holds a key: values are described by their type, and names that look like keys are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// What is wrong, in a sentence without a full stop.
    pub message: String,
    /// Where it is: `providers.openai.limits.rpn`; empty when it is the file as a whole.
    pub path: String,
    /// What to do instead, if that is known: ``did you mean `rpm`?``.
    pub hint: Option<String>,
    /// The file it stands in; `None` for arguments and the environment.
    pub file: Option<PathBuf>,
}

impl ConfigError {
    /// An error at a path.
    pub(super) fn at(path: impl Into<String>, message: impl Into<String>) -> Self {
        ConfigError { message: message.into(), path: path.into(), hint: None, file: None }
    }

    /// An error of a file as a whole.
    pub(super) fn of_file(file: &Path, message: impl Into<String>) -> Self {
        ConfigError { file: Some(file.to_owned()), ..ConfigError::at("", message) }
    }

    /// The same with a hint.
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        ConfigError { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for ConfigError {
    /// `file: path: message; hint`, without the parts that are not known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}: ", file.display())?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}
