//! The real engine in days of virtual time, held to every promise on quotas.
//!
//! See README.md beside this file.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests"
)]

mod crash;
mod days;
mod excerpt;
mod learned_month;
mod network;
mod planned;
mod small_worlds;
mod speed;
mod tenants;
mod trace;
mod unknown_limits;
mod watch;
mod week;
mod world;

use std::future::Future;

/// Runs `story` in virtual time: whenever everybody waits, the clock jumps to whoever wakes first.
fn in_virtual_time<T>(story: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(story)
}

/// A civil time in a zone, as `2026-03-08T00:00[America/Los_Angeles]`.
fn at(zoned: &str) -> quotaflow::kernel::Moment {
    quotaflow::kernel::Moment::from_zoned(&zoned.parse::<jiff::Zoned>().unwrap())
}
