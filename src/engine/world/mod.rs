//! The outside world as an engine sees it: clock, transport, entropy, observer.

pub(super) mod clock;
pub(super) mod entropy;
pub(super) mod events;
pub(super) mod observer;
pub(super) mod transport;
