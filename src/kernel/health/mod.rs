//! The health of keys and targets: optional refinements, the rest of the kernel works without them.

pub(super) mod breaker;
pub(super) mod key_health;
pub(super) mod shared_quota;
