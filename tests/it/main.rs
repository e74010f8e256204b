//! Do the parts that touch the world keep their promises: stores, transport, driver, and the law of the rings?

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of tests fail tests too"
)]

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
