//! The outside world as an engine sees it: clock, transport, entropy, observer.

pub(super) mod clock;
pub(super) mod entropy;
pub(super) mod events;
pub(super) mod observer;
pub(super) mod transport;

use std::sync::Arc;

use clock::Clock;
use entropy::Entropy;
use observer::Observer;
use transport::Transport;

/// What an engine needs from outside; a test can replace each part.
pub struct World {
    /// Sends requests to the providers.
    pub transport: Arc<dyn Transport>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Draws random numbers.
    pub entropy: Entropy,
    /// Receives the notices about calls.
    pub observer: Arc<dyn Observer>,
}
