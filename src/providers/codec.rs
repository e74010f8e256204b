//! The codec of a provider: requests to bytes, answers and refusals to values.

use serde_json::{Map, Value};

use crate::kernel::{Failure, Hints, Moment, RateHint};

use super::chat::{ChatRequest, Completion};
use super::provider::Provider;
use super::wire::{Headers, InvalidRequest, WireRequest, WireResponse};
use super::{dialects, hints, params, refusals};

impl Provider {
    /// The request as this provider wants it, all but the key.
    ///
    /// # Errors
    /// When a message or a parameter cannot be said in this provider's dialect.
    pub fn encode(
        &self,
        request: &ChatRequest,
        model: &str,
    ) -> Result<WireRequest, InvalidRequest> {
        dialects::encode(self, request, model, dialects::Way::Whole)
    }

    /// Looks at the parameters of a call before anything is reserved.
    ///
    /// `extra_body` (an object) is merged into the body unchecked: the way out for what is new.
    ///
    /// # Errors
    /// An unknown name (with the nearest known one), a wrong type, or a number out of range.
    pub fn check_params(&self, params: &Map<String, Value>) -> Result<(), InvalidRequest> {
        params::check(self, params)
    }

    /// Reads an answer of any status and any body.
    ///
    /// # Errors
    /// Everything that is not an answer, classified; also a 200 with an error inside.
    pub fn decode(&self, response: &WireResponse<'_>) -> Result<Completion, Failure> {
        dialects::decode(self, response)
    }

    /// What the headers of an answer of any status say about limits and about whose key it was.
    ///
    /// What the body of a refusal says besides: [`Provider::limits_told`].
    pub fn hints(&self, response_headers: &Headers, now: Moment) -> Hints {
        let mut hints = hints::read(&self.entry.rate_headers, response_headers, now);
        for rate in &mut hints.rates {
            rate.zone = self.zone_of(rate.period);
        }
        hints
    }

    /// What the body of a refusal says about limits: how large they are, and what is left where it names what was used.
    ///
    /// [`Hints::refine`] puts it together with what the headers say. Nothing for answers that refuse no quota.
    pub fn limits_told(&self, response: &WireResponse<'_>) -> Vec<RateHint> {
        refusals::limits_told(self, response)
    }

    /// The refusal in one event of a stream that began with a 200; `None` when the event is none.
    ///
    /// `event` is the name of the event (empty when it has none; `error` also for the field `error:` of old llama.cpp
    /// servers). `response` is the stream's own status and headers, with the event's data, or one line of NDJSON, as
    /// its body. The refusal is judged like one with a status of its own, by what the event says of itself.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use quotaflow::kernel::{Amounts, FailureClass, Moment};
    /// use quotaflow::providers::{Headers, Provider, WireResponse};
    ///
    /// let anthropic = Provider::find("anthropic").unwrap();
    /// let data = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    /// let (headers, body) = (Headers::default(), Bytes::from(data));
    /// let event = WireResponse {
    ///     status: 200, headers: &headers, body: &body, now: Moment::EPOCH,
    ///     estimate: Amounts::default(), model: "claude-x",
    /// };
    /// let failure = anthropic.refusal_in_event("error", &event).unwrap();
    /// assert_eq!((failure.class, failure.status), (FailureClass::Overloaded, Some(529)));
    /// ```
    pub fn refusal_in_event(&self, event: &str, response: &WireResponse<'_>) -> Option<Failure> {
        refusals::in_event(self, event, response)
    }

    /// The row of the refusal table that judges this answer, for logs and tests.
    pub fn refusal_row(&self, response: &WireResponse<'_>) -> &'static str {
        refusals::row_of(self, response)
    }

    /// The rows of the refusal table for this provider, in the order in which they are tried.
    pub fn refusal_rows(&self) -> Vec<&'static str> {
        refusals::rows(self).map(|row| row.id).collect()
    }
}
