//! Settings as Windows tools write them. What is taken reads back as a policy file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerage_policy::{import, parse_layer};

fuzz_target!(|bytes: &[u8]| {
    let Ok(found) = import(bytes) else { return };
    let text = found.layer.to_toml();
    let again = parse_layer("policy.toml", &text).expect("what import takes is a policy");
    assert_eq!(again.to_toml(), text);
});
