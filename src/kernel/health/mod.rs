//! Health of keys and targets. Optional: the rest of the kernel works without.
//!
//! - `breaker`: one circuit breaker per target, in memory. It opens when at least five attempts ended in the last
//!   minute and half of the last twenty met an overload, a server error, a timeout or a broken connection. One
//!   attempt is enough where the connection is refused. It stays open for 1 s, and doubles up to 60 s with each
//!   failed probe. While it is open, calls with another target go there at once. A call without one is never held up
//!   by it. A target that broke off or did not answer is not retried while another target is left. Local servers get
//!   300 ms to accept a connection.
//! - `key_health`: 0 to 100 per key, on the key's own ledger. A refusal for quota, credit, permission or the key
//!   itself takes a quarter. An answer gives back an eighth of what is missing. Ten minutes without attempts heal
//!   everything. A request too large for a limit does not count. A key below 70 is `degraded` and is chosen last.
//! - `shared_quota`: two keys of different groups that were refused together three times, and never apart, are
//!   reported in `status()["suspects"]`. Nothing is merged on suspicion.

pub(super) mod breaker;
pub(super) mod key_health;
pub(super) mod shared_quota;
