//! An enrolment token as someone typed or pasted it. What is accepted prints as a token that is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerage_content::EnrolToken;

fuzz_target!(|text: &str| {
    if let Ok(token) = text.parse::<EnrolToken>() {
        assert_eq!(token.to_string(), text.trim());
        assert_eq!(token.to_string().parse(), Ok(token));
    }
});
