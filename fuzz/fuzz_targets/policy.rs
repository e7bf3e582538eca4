//! A policy file, and the amounts that people write in it and on the command line. An amount that is accepted, shown
//! and read again is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerage_policy::units::{parse_duration, parse_rate, parse_size, show_rate, show_size};
use peerage_policy::{check, parse_layer};

fuzz_target!(|text: &str| {
    let _ = check(&[("policy.toml".to_owned(), text.to_owned())]);
    if let Ok(layer) = parse_layer("policy.toml", text) {
        let again = parse_layer("again.toml", &layer.to_toml()).expect("our own text");
        assert_eq!(again.to_toml(), layer.to_toml());
    }
    let _ = parse_duration(text);
    if let Ok(size) = parse_size(text) {
        assert_eq!(parse_size(&show_size(size)).ok(), Some(size));
    }
    if let Ok(rate) = parse_rate(text) {
        assert_eq!(parse_rate(&show_rate(rate)).ok(), Some(rate));
    }
});
