//! Matching of model names against price rules.

use std::sync::OnceLock;

use fancy_regex::Regex;
use serde::Deserialize;

/// Which names of models a price is for. Names are compared in lower case.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Rule {
    /// One of our texts: a sign and what follows it.
    Text(Text),
    /// One of these.
    Either(Vec<Rule>),
    /// All of these.
    All { and: Vec<Rule> },
}

/// `=` equals, `^` begins with, `$` ends with, `*` contains, `~` matches a pattern. Anything else matches nothing.
#[derive(Debug, Deserialize)]
#[serde(from = "String")]
pub(super) struct Text {
    text: String,
    /// Compiled when it is needed first; `None` inside: it is no pattern that we understand.
    pattern: OnceLock<Option<Regex>>,
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Text { text, pattern: OnceLock::new() }
    }
}

impl Rule {
    /// Whether `name`, in lower case, is meant.
    pub(super) fn is_for(&self, name: &str) -> bool {
        match self {
            Rule::Text(text) => text.is_for(name),
            Rule::Either(rules) => rules.iter().any(|rule| rule.is_for(name)),
            Rule::All { and } => and.iter().all(|rule| rule.is_for(name)),
        }
    }
}

impl Text {
    fn is_for(&self, name: &str) -> bool {
        let mut rest = self.text.chars();
        let sign = rest.next();
        let text = rest.as_str();
        match sign {
            Some('=') => name == text,
            Some('^') => name.starts_with(text),
            Some('$') => name.ends_with(text),
            Some('*') => name.contains(text),
            Some('~') => {
                let pattern = self.pattern.get_or_init(|| Regex::new(text).ok());
                pattern.as_ref().is_some_and(|pattern| pattern.is_match(name).unwrap_or(false))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        for (rule, name, is_for) in [
            (r#""=gpt-4""#, "gpt-4", true),
            (r#""=gpt-4""#, "gpt-4o", false),
            (r#""^gpt-4""#, "gpt-4o", true),
            (r#""$-mini""#, "o3-mini", true),
            (r#""*son""#, "claude-sonnet", true),
            (r#""~^o[134]""#, "o3", true),
            (r#""~^o[134]""#, "o2", false),
            (r#""~^(?!.*-tts).*flash$""#, "gemini-flash", true),
            (r#""~^(?!.*-tts).*flash$""#, "gemini-tts-flash", false),
            (r#""~(""#, "(", false),
            (r#""gpt-4""#, "gpt-4", false),
            (r#""""#, "", false),
            (r#"["=a","=b"]"#, "b", true),
            (r#"[]"#, "b", false),
            (r#"{"and":["^a",["$b","$c"]]}"#, "ac", true),
            (r#"{"and":["^a",["$b","$c"]]}"#, "xc", false),
        ] {
            let parsed: Rule = serde_json::from_str(rule).unwrap();
            assert_eq!(parsed.is_for(name), is_for, "{rule} {name}");
        }
    }
}
