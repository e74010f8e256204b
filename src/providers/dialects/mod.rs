//! How is a request written and an answer read?

use crate::kernel::{Failure, FailureClass, Scope};

use super::catalogue::Provider;
use super::chat::{ChatRequest, Completion};
use super::wire::{InvalidRequest, WireRequest, WireResponse};

pub(super) fn encode(
    provider: &Provider,
    _request: &ChatRequest,
    _model: &str,
) -> Result<WireRequest, InvalidRequest> {
    Err(InvalidRequest { message: format!("{} cannot be called yet", provider.name), field: None })
}

pub(super) fn decode(
    provider: &Provider,
    response: &WireResponse<'_>,
) -> Result<Completion, Failure> {
    let message = format!("{} cannot be read yet", provider.name);
    let failure = Failure::new(FailureClass::ServerError, Scope::Call, message);
    Err(Failure { status: Some(response.status), ..failure })
}
