//! Fuzz target: `quotaflow_fuzz::foreign_error`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| quotaflow_fuzz::foreign_error(data));
