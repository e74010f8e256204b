//! Detection of a key's provider, by variable name or key prefix.

use super::catalogue::ENTRIES;

/// How keys begin, as the documentation of their providers shows them; the longer beginning comes first.
const BEGINNINGS: [(&str, &str); 9] = [
    ("sk-ant-", "anthropic"),
    ("sk-or-", "openrouter"),
    ("sk-", "openai"),
    ("AIza", "gemini"),
    ("AQ.", "gemini"),
    ("gsk_", "groq"),
    ("xai-", "xai"),
    ("csk-", "cerebras"),
    ("tgp_", "together"),
];

/// The canonical name of the provider whose key a variable of this name holds; `None` when the name does not show it.
///
/// The names of the catalogue come first (`OPENAI_API_KEY`, and what begins so: `OPENAI_API_KEY_2`,
/// `OPENAI_API_KEY_BACKUP_1`, `OPENAI_API_KEYS`), then a provider's name as a word of it, then anywhere in it.
///
/// ```
/// use quotaflow::providers::provider_of_variable;
/// assert_eq!(provider_of_variable("GOOGLE_API_KEY_BACKUP_1"), Some("gemini"));
/// assert_eq!(provider_of_variable("TEAM_ANTHROPIC_KEY"), Some("anthropic"));
/// assert_eq!(provider_of_variable("MY_KEY"), None);
/// ```
pub fn provider_of_variable(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_uppercase();
    let begins = |base: &str| {
        let rest = name.strip_prefix(base);
        rest.is_some_and(|rest| rest.is_empty() || rest == "S" || rest.starts_with('_'))
    };
    let by_catalogue = ENTRIES
        .iter()
        .flat_map(|entry| entry.key_envs.iter().map(|base| (*base, entry.name)))
        .filter(|(base, _)| begins(base))
        .max_by_key(|(base, _)| base.len())
        .map(|(_, name)| name);
    let names = || {
        ENTRIES.iter().flat_map(|entry| {
            std::iter::once(entry.name)
                .chain(entry.aliases.iter().copied())
                .map(|name| (name.to_ascii_uppercase().replace('-', "_"), entry.name))
        })
    };
    let words = format!("_{name}_");
    let longest = |found: fn(&str, &str) -> bool| {
        names()
            .filter(|(known, _)| found(&words, known))
            .max_by_key(|(known, _)| known.len())
            .map(|(_, name)| name)
    };
    by_catalogue
        .or_else(|| longest(|words, known| words.contains(&format!("_{known}_"))))
        .or_else(|| longest(|words, known| known.len() > 4 && words.contains(known)))
}

/// The canonical name of the provider whose keys begin like this one; `None` when nothing begins so.
///
/// ```
/// use quotaflow::providers::provider_of_key;
/// assert_eq!(provider_of_key("gsk_test_1"), Some("groq"));
/// assert_eq!(provider_of_key("whatever"), None);
/// ```
pub fn provider_of_key(key: &str) -> Option<&'static str> {
    let (_, provider) = BEGINNINGS.iter().find(|(beginning, _)| key.starts_with(beginning))?;
    ENTRIES.iter().map(|entry| entry.name).find(|name| name == provider)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variables_name_tells_the_provider() {
        for (name, provider) in [
            ("OPENAI_API_KEY", Some("openai")),
            ("openai_api_key", Some("openai")),
            ("OPENAI_API_KEYS", Some("openai")),
            ("OPENROUTER_API_KEY_2", Some("openrouter")),
            ("GEMINI_API_KEY_BACKUP", Some("gemini")),
            ("GOOGLE_API_KEY_BACKUP_1", Some("gemini")),
            ("JOBAPP_CLAUDE_TOKEN", Some("anthropic")),
            ("MYGOOGLEKEY", Some("gemini")),
            ("GROQ", Some("groq")),
            ("AGROQX", None),
            ("KEY", None),
            ("", None),
        ] {
            assert_eq!(provider_of_variable(name), provider, "{name}");
        }
    }

    #[test]
    fn a_key_that_begins_like_two_belongs_to_the_longer_beginning() {
        for (key, provider) in [
            ("sk-ant-test-1", Some("anthropic")),
            ("sk-or-test-1", Some("openrouter")),
            ("sk-test-1", Some("openai")),
            ("AIza-test-1", Some("gemini")),
            ("aiza-test-1", None),
            ("", None),
        ] {
            assert_eq!(provider_of_key(key), provider, "{key}");
        }
    }
}
