//! Reading of one stream event: pieces, the end, or a refusal.

use bytes::Bytes;

use crate::kernel::Failure;

use super::super::provider::Provider;
use super::super::transport_fault::TransportFault;
use super::super::wire::WireResponse;
use super::super::{dialects, refusals};
use super::accumulator::{Gathered, StreamPiece, Told};

/// The largest answer, in bytes, so that memory is bounded.
pub(super) const LARGEST_ANSWER: usize = 32 << 20;

/// Reads one event: its name and its data.
pub(super) fn read(
    provider: &Provider,
    stream: &mut dialects::Stream,
    gathered: &mut Gathered,
    (name, data): (&str, &[u8]),
    context: &WireResponse<'_>,
    pieces: &mut Vec<StreamPiece>,
) -> Result<Told, Failure> {
    let text = String::from_utf8_lossy(data);
    if refusals::could_be(name, &text) {
        let body = Bytes::copy_from_slice(data);
        let refusal = WireResponse { body: &body, ..*context };
        if let Some(failure) = provider.refusal_in_event(name, &refusal) {
            return Err(failure);
        }
    }
    match stream.read(&text, gathered, pieces) {
        Told::Nonsense => Err(judged(provider, data, context)),
        Told::TooMuch => Err(too_large("a streamed answer", LARGEST_ANSWER)),
        Told::More if gathered.output_bytes + gathered.held > LARGEST_ANSWER => {
            Err(too_large("a streamed answer", LARGEST_ANSWER))
        }
        told => Ok(told),
    }
}

/// What a body means that is no answer.
pub(super) fn judged(provider: &Provider, body: &[u8], context: &WireResponse<'_>) -> Failure {
    let body = Bytes::copy_from_slice(body);
    refusals::judge(provider, &WireResponse { body: &body, ..*context })
}

/// `what` has more bytes than `largest`.
pub(super) fn too_large(what: &str, largest: usize) -> Failure {
    let words = format!("more than {} MiB in {what}", largest >> 20);
    TransportFault::BodyTooLarge.failure(&words)
}
