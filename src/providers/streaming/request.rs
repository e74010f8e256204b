//! Requests for a streamed answer.

use serde_json::Value;

use super::super::chat::ChatRequest;
use super::super::dialects;
use super::super::provider::Provider;
use super::super::wire::{InvalidRequest, WireRequest};

impl Provider {
    /// Like [`Provider::encode`], but asks for a stream, and for its usage where a stream reports it only when asked.
    ///
    /// `stream` among the parameters may be anything; what `stream_options` holds besides goes along (OpenAI's dialect).
    ///
    /// # Errors
    /// When a message or a parameter cannot be said in this provider's dialect.
    pub fn encode_stream(
        &self,
        request: &ChatRequest,
        model: &str,
    ) -> Result<WireRequest, InvalidRequest> {
        let params = &request.params;
        let extra = |name| params.get("extra_body").is_some_and(|extra| extra.get(name).is_some());
        if !params.contains_key("stream")
            && !params.contains_key("stream_options")
            && !extra("stream")
        {
            return dialects::encode(self, request, model, dialects::Way::InPieces(None));
        }
        let mut request = request.clone();
        request.params.remove("stream");
        let options = request.params.remove("stream_options");
        if let Some(Value::Object(extra)) = request.params.get_mut("extra_body") {
            extra.remove("stream");
        }
        dialects::encode(self, &request, model, dialects::Way::InPieces(options.as_ref()))
    }
}
