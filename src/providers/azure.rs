//! URLs of Azure OpenAI resources.
//!
//! The form of the base URL chooses the route, as it does for Microsoft's and OpenAI's SDKs:
//!
//! | base URL ends with | route |
//! |---|---|
//! | `/openai/v1` or `/v1` | v1: the model is in the body, no `api-version` |
//! | `/models` | models of Foundry: the model is in the body, with `api-version` |
//! | `/openai/deployments/NAME` | classic, that deployment whatever the model |
//! | `/openai` | classic, the model names the deployment |
//! | anything else, mostly only a host (`AZURE_OPENAI_ENDPOINT`) | classic, `/openai` is added |

/// The version that serves the models of Foundry by default.
const FOUNDRY_VERSION: &str = "2024-05-01-preview";

/// The full address for a chat; `model` has been checked to hold nothing that would need escaping.
pub(super) fn chat_url(base_url: &str, model: &str, version: &str) -> String {
    let base = base_url.trim_end_matches('/');
    let path = base.split_once("://").map_or(base, |(_, rest)| rest);
    let path = path.split_once('/').map_or("", |(_, path)| path);
    let ends = |end: &str| path == end || path.ends_with(&format!("/{end}"));
    if ends("v1") {
        return format!("{base}/chat/completions");
    }
    let (middle, version) = match path {
        _ if ends("models") => {
            let chosen = version != super::catalogue::AZURE_VERSION;
            (String::new(), if chosen { version } else { FOUNDRY_VERSION })
        }
        _ if path.contains("openai/deployments/") => (String::new(), version),
        _ if ends("openai") => (format!("/deployments/{model}"), version),
        _ => (format!("/openai/deployments/{model}"), version),
    };
    format!("{base}{middle}/chat/completions?api-version={version}")
}

/// The full address for a response: it is only on v1, which lies beside the classic routes.
pub(super) fn responses_url(base_url: &str) -> String {
    let base = base_url.trim_end_matches('/');
    if base.ends_with("/v1") {
        return format!("{base}/responses");
    }
    let resource = base.split_once("/openai/deployments/").map_or(base, |(resource, _)| resource);
    let resource = resource.strip_suffix("/openai").unwrap_or(resource);
    let resource = resource.strip_suffix("/models").unwrap_or(resource);
    format!("{resource}/openai/v1/responses")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_the_base_url_chooses_the_route() {
        const VERSION: &str = "?api-version=2024-10-21";
        let host = "https://r.openai.azure.com";
        for (base, expected) in [
            ("", format!("/openai/deployments/gpt-x/chat/completions{VERSION}")),
            ("/", format!("/openai/deployments/gpt-x/chat/completions{VERSION}")),
            ("/openai", format!("/openai/deployments/gpt-x/chat/completions{VERSION}")),
            ("/gateway", format!("/gateway/openai/deployments/gpt-x/chat/completions{VERSION}")),
            (
                "/openai/deployments/mine",
                format!("/openai/deployments/mine/chat/completions{VERSION}"),
            ),
            ("/openai/v1", "/openai/v1/chat/completions".to_owned()),
            ("/openai/v1/", "/openai/v1/chat/completions".to_owned()),
            ("/models", "/models/chat/completions?api-version=2024-05-01-preview".to_owned()),
        ] {
            let url = chat_url(&format!("{host}{base}"), "gpt-x", "2024-10-21");
            assert_eq!(url, format!("{host}{expected}"), "{base}");
        }
        let chosen = chat_url("http://h/models", "m", "2025-01-01-preview");
        assert_eq!(chosen, "http://h/models/chat/completions?api-version=2025-01-01-preview");
        let chosen = chat_url("http://h", "m", "2025-01-01-preview");
        assert!(chosen.ends_with("?api-version=2025-01-01-preview"), "{chosen}");
    }

    #[test]
    fn responses_are_on_v1_whatever_the_form() {
        for base in
            ["", "/", "/openai", "/openai/v1", "/openai/v1/", "/models", "/openai/deployments/mine"]
        {
            let url = responses_url(&format!("https://r.openai.azure.com{base}"));
            assert_eq!(url, "https://r.openai.azure.com/openai/v1/responses", "{base}");
        }
        assert_eq!(responses_url("http://h/gateway"), "http://h/gateway/openai/v1/responses");
    }
}
