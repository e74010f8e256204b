//! Guessing of an error's provider from host, shape, library or text.

use serde_json::Value;

use super::super::provider::Provider;
use super::super::wire::Headers;

/// A part of a host's name that is one provider's only.
const HOSTS: [(&str, &str); 3] = [
    ("openai.azure.com", "azure"),
    ("services.ai.azure.com", "azure"),
    ("cognitiveservices.azure.com", "azure"),
];

/// Headers that one provider sends.
const HEADERS: [(&str, &str); 6] = [
    ("anthropic-organization-id", "anthropic"),
    ("openai-organization", "openai"),
    ("x-groq-region", "groq"),
    ("x-ds-trace-id", "deepseek"),
    ("mistral-correlation-id", "mistral"),
    ("x-generation-id", "openrouter"),
];

/// What only one provider writes in its messages.
const SIGNS: [(&str, &str); 9] = [
    ("ai.google.dev", "gemini"),
    ("generativelanguage.googleapis.com", "gemini"),
    ("openrouter.ai", "openrouter"),
    ("free-models-per-", "openrouter"),
    ("console.groq.com", "groq"),
    ("anthropic.com", "anthropic"),
    ("platform.openai.com", "openai"),
    ("console.x.ai", "xai"),
    ("RESOURCE_EXHAUSTED", "gemini"),
];

/// A test on the shape of an error's body.
type Shape = fn(&Value) -> bool;

/// Shapes that one provider gives its errors.
const SHAPES: [(&str, Shape); 6] = [
    ("anthropic", |body| body["type"] == "error" && body["error"]["type"].is_string()),
    ("openrouter", |body| body["error"]["metadata"].is_object()),
    ("gemini", |body| body["error"]["code"].is_number() && body["error"]["status"].is_string()),
    ("openrouter", |body| {
        let error = &body["error"];
        error["code"].is_number() && error["message"].is_string() && error["type"].is_null()
    }),
    ("mistral", |body| body["object"] == "error" && body["code"].is_string()),
    ("xai", |body| body["error"].is_string() && body["code"].is_string()),
];

/// The provider that answers at `host`.
pub(super) fn by_host(host: &str) -> Option<Provider> {
    let host = host.trim().trim_end_matches('.').to_ascii_lowercase();
    let within = |domain: &str| {
        host.strip_suffix(domain).is_some_and(|head| head.is_empty() || head.ends_with('.'))
    };
    // Many servers answer on this machine.
    if host.is_empty() || host == "127.0.0.1" || host == "localhost" {
        return None;
    }
    let known = HOSTS.iter().find(|(domain, _)| within(domain)).map(|(_, provider)| *provider);
    let by_address = || {
        Provider::names().iter().copied().find(|name| {
            let provider = Provider::find(name);
            provider.is_some_and(|provider| domain_of(&provider.base_url).is_some_and(within))
        })
    };
    Provider::find(known.or_else(by_address)?)
}

/// The host of an address, without its port.
fn domain_of(url: &str) -> Option<&str> {
    url.split_once("://")?.1.split(['/', ':']).next()
}

/// The provider whose library this package is: `google.genai`, `langchain_openai`, `mistralai`.
pub(super) fn by_library(package: &str) -> Option<Provider> {
    let package = package.trim().to_ascii_lowercase().replace('.', "_");
    let bare = package.strip_prefix("langchain_").unwrap_or(&package);
    // The first part of `google.cloud` and its many sisters is no provider.
    let first = bare.split('_').next().filter(|first| *first != "google");
    [Some(bare), first, first.and_then(|first| first.strip_suffix("ai"))]
        .into_iter()
        .flatten()
        .filter(|name| !name.is_empty())
        .find_map(Provider::find)
}

/// The provider whose way to write headers and errors this is.
pub(super) fn by_shape(headers: &Headers, body: &Value) -> Option<Provider> {
    let body = body.as_array().and_then(|list| list.first()).unwrap_or(body);
    let header = HEADERS.iter().find(|(name, _)| headers.get(name).is_some());
    let header = header.map(|(_, provider)| *provider);
    let shape = || SHAPES.iter().find(|(_, fits)| fits(body)).map(|(provider, _)| *provider);
    Provider::find(header.or_else(shape)?)
}

/// The provider whose address a message names.
pub(super) fn by_sign(text: &str) -> Option<Provider> {
    let sign = SIGNS.iter().find(|(sign, _)| text.contains(sign));
    Provider::find(sign?.1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn name(provider: Option<Provider>) -> Option<String> {
        provider.map(|provider| provider.name)
    }

    #[test]
    fn hosts_and_libraries_lead_to_their_provider() {
        for (host, expected) in [
            ("api.openai.com", Some("openai")),
            ("API.Groq.com.", Some("groq")),
            ("generativelanguage.googleapis.com", Some("gemini")),
            ("evilapi.openai.com.example.org", None),
            ("notapi.groq.com", None),
            ("127.0.0.1", None),
            ("", None),
        ] {
            assert_eq!(name(by_host(host)).as_deref(), expected, "{host}");
        }
        for (package, expected) in [
            ("openai", Some("openai")),
            ("google.genai", Some("gemini")),
            ("langchain_google_genai", Some("gemini")),
            ("langchain_openai", Some("openai")),
            ("anthropic", Some("anthropic")),
            ("groq", Some("groq")),
            ("google.cloud", None),
            ("requests", None),
            ("", None),
        ] {
            assert_eq!(name(by_library(package)).as_deref(), expected, "{package}");
        }
    }

    #[test]
    fn shapes_lead_to_their_provider() {
        let none = Headers::default();
        for (body, expected) in [
            (json!({"type": "error", "error": {"type": "overloaded_error"}}), Some("anthropic")),
            (json!({"error": {"code": 429, "message": "m", "status": "X"}}), Some("gemini")),
            (json!([{"error": {"code": 429, "message": "m", "status": "X"}}]), Some("gemini")),
            (json!({"error": {"code": 429, "message": "m", "metadata": {}}}), Some("openrouter")),
            (json!({"error": {"code": 402, "message": "m"}}), Some("openrouter")),
            (json!({"error": {"code": 400, "message": "m", "type": "x"}}), None),
            (json!({"error": {"message": "m", "type": "t", "code": "c"}}), None),
            (json!("text"), None),
        ] {
            assert_eq!(name(by_shape(&none, &body)).as_deref(), expected, "{body}");
        }
        let headers: Headers = [("X-Groq-Region", "x")].into_iter().collect();
        assert_eq!(name(by_shape(&headers, &Value::Null)).as_deref(), Some("groq"));
    }
}
