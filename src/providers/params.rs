//! Which parameters does a provider take, and are these right?

use serde_json::{Map, Value};

use super::catalogue::Provider;
use super::wire::InvalidRequest;

pub(super) fn check(
    _provider: &Provider,
    _params: &Map<String, Value>,
) -> Result<(), InvalidRequest> {
    Ok(())
}
