//! Integration tests of the stores and the engine, and the law of the rings.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of tests fail tests too"
)]

mod circles;
mod engine;
mod fuzz_targets;
mod law;
mod stores;
