//! Tests of what touches the world (stores, transport, engine) and of the law of rings.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of tests fail tests too"
)]

mod circles;
mod compatibility;
mod driver;
#[cfg(target_os = "linux")]
mod full_disk;
mod fuzz_targets;
mod law;
mod processes;
mod spoilt_files;
mod state;
mod stores;
mod transport;
