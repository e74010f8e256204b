//! Fuzz target: `quotaflow_fuzz::stream`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| quotaflow_fuzz::stream(data));
