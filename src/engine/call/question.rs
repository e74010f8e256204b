//! Questions as digests: what answers follow from.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::providers::{Message, Provider};

/// A question as a digest: provider, model, messages and parameters. The question itself is not kept.
pub(in crate::engine) type QuestionDigest = [u8; 32];

/// What determines the answers of calls beside their prompts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The first provider of the route.
    pub provider: String,
    /// The model.
    pub model: String,
    /// A digest of provider, address, model, parameters and instructions: the same for calls that resolve to
    /// the same, and independent of when and how they are sent.
    pub digest: QuestionDigest,
}

/// What a digest is made of. It is written as JSON, whose text must stay as it is: digests are kept in state files and
/// checkpoints.
#[derive(Serialize)]
struct Parts<'a> {
    provider: &'a str,
    base_url: &'a str,
    model: &'a str,
    #[serde(flatten)]
    about: About<'a>,
    /// In any order.
    params: BTreeMap<&'a str, &'a Value>,
    /// Only where it is not the provider's own: `raw` differs then.
    #[serde(skip_serializing_if = "Option::is_none")]
    dialect: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum About<'a> {
    /// The question of one call.
    Messages(&'a [Message]),
    /// The question of all calls of a kind, apart from their prompts: the instructions before these.
    System(Option<&'a str>),
}

impl<'a> Parts<'a> {
    /// Of two parameters with the same name the later one holds.
    fn new(
        provider: &'a Provider,
        model: &'a str,
        about: About<'a>,
        params: impl Iterator<Item = (&'a String, &'a Value)>,
    ) -> Self {
        Parts {
            provider: &provider.name,
            base_url: &provider.base_url,
            model,
            about,
            params: params.map(|(name, value)| (name.as_str(), value)).collect(),
            dialect: None,
        }
    }

    fn digest(&self) -> QuestionDigest {
        // All of it came as JSON and can be written as JSON.
        let text = serde_json::to_vec(self).unwrap_or_default();
        Sha256::digest(text).into()
    }
}

/// The digest of everything that the answer to these messages follows from.
pub(super) fn digest_of_call(
    provider: &Provider,
    model: &str,
    params: &Map<String, Value>,
    messages: &[Message],
) -> QuestionDigest {
    let dialect = provider.speaks_otherwise().then(|| format!("{:?}", provider.dialect));
    let parts = Parts::new(provider, model, About::Messages(messages), params.iter());
    Parts { dialect, ..parts }.digest()
}

/// The digest of what the answers to all calls of a kind follow from, whatever their prompts are; `system` stands before
/// each of these. Of two parameters with the same name the later one holds.
pub(super) fn digest_of_kind<'a>(
    provider: &'a Provider,
    model: &'a str,
    params: impl Iterator<Item = (&'a String, &'a Value)>,
    system: Option<&'a str>,
) -> QuestionDigest {
    Parts::new(provider, model, About::System(system), params).digest()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn digests_are_made_of_the_text_they_were_always_made_of() {
        let provider = Provider::find("groq").unwrap();
        let message = json!({"role": "user", "content": "Hi"});
        let messages: [Message; 1] = [serde_json::from_value(message).unwrap()];
        let params = [("b", json!(1)), ("a", json!([true])), ("b", json!(2))];
        let params = params.map(|(name, value)| (name.to_owned(), value));
        let text = |about, dialect| {
            let params = params.iter().map(|(name, value)| (name, value));
            let parts = Parts::new(&provider, "llama", about, params);
            serde_json::to_string(&Parts { dialect, ..parts }).unwrap()
        };
        let head =
            r#"{"provider":"groq","base_url":"https://api.groq.com/openai/v1","model":"llama""#;
        let asked = r#""messages":[{"role":"user","content":"Hi"}]"#;
        let params = r#""params":{"a":[true],"b":2}"#;
        let (system, none) = (r#""system":"Be brief.""#, r#""system":null"#);
        let other = || Some("Gemini".to_owned());
        let of_one = || About::Messages(&messages);
        assert_eq!(text(of_one(), None), format!("{head},{asked},{params}}}"));
        let with_dialect = format!(r#"{head},{asked},{params},"dialect":"Gemini"}}"#);
        assert_eq!(text(of_one(), other()), with_dialect);
        assert_eq!(text(About::System(None), None), format!("{head},{none},{params}}}"));
        let told = About::System(Some("Be brief."));
        assert_eq!(text(told, None), format!("{head},{system},{params}}}"));
    }
}
