//! Health of keys and targets. Optional: the rest of the kernel works without.

pub(super) mod breaker;
pub(super) mod key_health;
pub(super) mod shared_quota;
