//! What do the headers of an answer say about limits?

use crate::kernel::{Hints, Moment};

use super::entries::RateHeaders;
use super::wire::Headers;

pub(super) fn read(_family: RateHeaders, _headers: &Headers, _now: Moment) -> Hints {
    Hints::default()
}
