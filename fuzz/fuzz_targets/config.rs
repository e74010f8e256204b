//! Fuzz target: `quotaflow_fuzz::config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| quotaflow_fuzz::config(data));
