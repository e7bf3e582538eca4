//! What a peer sends: a run of frames. Each takes what it says, and a message reads back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerage_wire::Frame;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Some((frame, taken))) = Frame::decode(rest) {
        assert!(taken > 0 && taken <= rest.len());
        if let Frame::Message(message) = &frame {
            let encoded = message.encode();
            let again = Frame::decode(&encoded).expect("what we encode, we accept");
            assert_eq!(again, Some((frame.clone(), encoded.len())));
        }
        rest = &rest[taken..];
    }
});
