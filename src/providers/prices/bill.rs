//! The price that an answer itself states.

use serde::Deserialize;
use serde_json::Value;

use super::rates::PICODOLLARS;

/// Ten thousand million of xAI's ticks are a US dollar.
const TICK: u64 = PICODOLLARS / 10_000_000_000;

/// What a provider's answer says of its bill beside the tokens. Nothing, when it cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bill {
    /// The whole cost in picodollars (OpenRouter's `usage.cost`, in US dollars; xAI's `usage.cost_in_usd_ticks`).
    pub total: Option<u64>,
    /// Tokens written to the prompt cache for an hour (Anthropic's `cache_creation`).
    pub written_for_an_hour: u64,
    /// The model that answered, in the provider's words.
    pub model: Option<String>,
    /// The terms: the service tier (OpenAI, Anthropic), the speed (Anthropic).
    terms: Vec<(&'static str, String)>,
}

#[derive(Deserialize)]
struct Body {
    #[serde(alias = "modelVersion")]
    model: Option<Value>,
    service_tier: Option<Value>,
    usage: Option<Value>,
}

impl Bill {
    /// Reads the body of an answer of `provider`.
    ///
    /// ```
    /// use quotaflow::providers::prices::Bill;
    /// let bill = Bill::read("openrouter", br#"{"model":"a/b","usage":{"cost":0.00014}}"#);
    /// assert_eq!(bill.total, Some(140_000_000));
    /// assert_eq!(bill.model.as_deref(), Some("a/b"));
    /// ```
    pub fn read(provider: &str, body: &[u8]) -> Bill {
        let Ok(body) = serde_json::from_slice::<Body>(body) else { return Bill::default() };
        let usage = body.usage.unwrap_or(Value::Null);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let tier = body.service_tier.as_ref().and_then(text).or(text(&usage["service_tier"]));
        let terms = [("service_tier", tier), ("speed", text(&usage["speed"]))];
        Bill {
            total: match provider {
                "openrouter" => total(&usage),
                "xai" => {
                    usage["cost_in_usd_ticks"].as_u64().and_then(|ticks| ticks.checked_mul(TICK))
                }
                _ => None,
            },
            written_for_an_hour: usage["cache_creation"]["ephemeral_1h_input_tokens"]
                .as_u64()
                .unwrap_or(0),
            model: body.model.as_ref().and_then(text),
            terms: terms.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
        }
    }

    /// The terms it was answered on, as [`super::ModelPrices::rates`] takes them.
    pub fn terms(&self) -> Vec<(&str, &str)> {
        self.terms.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }
}

/// OpenRouter's own price, and beside it what the vendor takes from a key that the user brought along.
fn total(usage: &Value) -> Option<u64> {
    let dollars = |value: &Value| value.as_f64().filter(|dollars| *dollars >= 0.0);
    let own = dollars(&usage["cost"])?;
    let brought = usage["is_byok"].as_bool() == Some(true);
    let upstream = dollars(&usage["cost_details"]["upstream_inference_cost"]);
    let all = own + upstream.filter(|_| brought).unwrap_or(0.0);
    Some((all * PICODOLLARS as f64).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_and_parts_are_found_where_providers_write_them() {
        let openai = Bill::read("openai", br#"{"service_tier":"flex","usage":{"cost":5}}"#);
        assert_eq!((openai.terms(), openai.total), (vec![("service_tier", "flex")], None));
        let body = br#"{"model":"claude-x","usage":{"service_tier":"standard","speed":"fast",
            "cache_creation":{"ephemeral_1h_input_tokens":7}}}"#;
        let anthropic = Bill::read("anthropic", body);
        assert_eq!(anthropic.written_for_an_hour, 7);
        assert_eq!(anthropic.terms(), [("service_tier", "standard"), ("speed", "fast")]);
        let gemini = Bill::read("gemini", br#"{"modelVersion":"gemini-x"}"#);
        assert_eq!(gemini.model.as_deref(), Some("gemini-x"));
    }

    #[test]
    fn a_key_that_was_brought_along_is_paid_beside_the_router() {
        let body = br#"{"usage":{"cost":0.001,"is_byok":true,"cost_details":{"upstream_inference_cost":0.02}}}"#;
        assert_eq!(Bill::read("openrouter", body).total, Some(21_000_000_000));
    }

    #[test]
    fn ticks_are_ten_thousand_million_a_dollar() {
        let body = br#"{"usage":{"cost_in_usd_ticks":37756000}}"#;
        // $0.0037756
        assert_eq!(Bill::read("xai", body).total, Some(3_775_600_000));
        assert_eq!(Bill::read("openai", body).total, None);
    }

    #[test]
    fn what_is_no_bill_says_nothing() {
        for body in ["", "[]", "null", "{", r#"{"usage":3,"model":4}"#, r#"{"usage":{"cost":-1}}"#]
        {
            assert_eq!(Bill::read("openrouter", body.as_bytes()), Bill::default(), "{body}");
        }
    }
}
