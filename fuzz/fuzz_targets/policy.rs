//! A policy file, and the amounts that people write in it and on the command line. An amount that is accepted, shown
//! and read again is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerage_policy::parse_layer;
use peerage_policy::units::{parse_duration, parse_rate, parse_size, show_rate, show_size};

fuzz_target!(|text: &str| {
    let _ = parse_layer("policy.toml", text);
    let _ = parse_duration(text);
    if let Ok(size) = parse_size(text) {
        assert_eq!(parse_size(&show_size(size)).ok(), Some(size));
    }
    if let Ok(rate) = parse_rate(text) {
        assert_eq!(parse_rate(&show_rate(rate)).ok(), Some(rate));
    }
});
