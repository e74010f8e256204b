//! Secrets: keys that cannot be shown by accident.

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// A string that is never printed: keys, config text and addresses with a password in them.
///
/// Its `Debug` and `Display` show `[secret]`, it has no `Serialize`, and its memory is overwritten when it is dropped.
/// The one way to the content is [`Secret::expose`], which only the transport and the config reader have a reason to call.
///
/// ```
/// use quotaflow::secret::Secret;
/// let key = Secret::new("sk-test-1");
/// assert_eq!(format!("{key} {key:?}"), "[secret] [secret]");
/// assert_eq!(key.expose(), "sk-test-1");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

/// How many hexadecimal digits [`Secret::digest`] has: 64 bits, plenty to tell one user's keys apart.
const DIGEST_DIGITS: usize = 16;

impl Secret {
    /// Takes the string over.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(Zeroizing::new(text.into()))
    }

    /// The content itself. The caller is responsible for where it goes.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A short name for the secret that does not give it away: 16 hexadecimal digits of SHA-256 over salt and content.
    ///
    /// The same secret has another name under another salt, so two state files cannot be compared.
    ///
    /// ```
    /// use quotaflow::secret::Secret;
    /// let key = Secret::new("sk-test-1");
    /// assert_eq!(key.digest("one salt"), key.clone().digest("one salt"));
    /// assert_ne!(key.digest("one salt"), key.digest("another salt"));
    /// ```
    pub fn digest(&self, salt: &str) -> String {
        let mut hash = Sha256::new();
        // The length in front keeps ("ab", "c") and ("a", "bc") apart.
        hash.update((salt.len() as u64).to_be_bytes());
        hash.update(salt.as_bytes());
        hash.update(self.0.as_bytes());
        let bytes = hash.finalize();
        bytes.iter().take(DIGEST_DIGITS / 2).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Secret::new(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Secret::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_format_shows_the_content() {
        let secret = Secret::new("sk-test-planted");
        for text in [format!("{secret}"), format!("{secret:?}"), format!("{:#?}", Some(&secret))] {
            assert!(text.contains("[secret]") && !text.contains("planted"), "{text}");
        }
    }

    #[test]
    fn a_digest_is_short_hexadecimal_and_depends_on_salt_and_content() {
        let digest = Secret::new("sk-test-1").digest("salt");
        assert_eq!(digest.len(), DIGEST_DIGITS);
        assert!(digest.chars().all(|digit| digit.is_ascii_hexdigit()));
        assert_ne!(digest, Secret::new("sk-test-2").digest("salt"));
        assert_ne!(Secret::new("bc").digest("a"), Secret::new("c").digest("ab"));
    }
}
