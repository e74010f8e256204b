//! Fuzz target: `quotaflow_fuzz::answer_text`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| quotaflow_fuzz::answer_text(data));
