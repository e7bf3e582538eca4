//! An enrolment token as someone typed or pasted it, and the first bytes that come to the relay's door. What is accepted
//! prints as a token that is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerage_content::{EnrolToken, RelayToken};

fuzz_target!(|text: &str| {
    if let Ok(token) = text.parse::<EnrolToken>() {
        assert_eq!(token.to_string(), text.trim());
        assert_eq!(token.to_string().parse(), Ok(token));
    }
    if let Some(greeting) = text.as_bytes().first_chunk()
        && let Some(token) = RelayToken::of_greeting(greeting)
    {
        assert_eq!(token.greeting(), *greeting);
    }
});
