//! A piece map from anyone: whatever it claims to be, it is refused unless it proves the content that was asked for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerage_content::{ContentId, PieceMap, PieceMapError};

fuzz_target!(|bytes: &[u8]| {
    match PieceMap::from_bytes(bytes, ContentId::from_bytes([0; 32])) {
        // Well formed, so it is the map of some content: asked for that one, it is accepted and reads back as it was.
        Err(PieceMapError::WrongContent { found, .. }) => {
            let map = PieceMap::from_bytes(bytes, found).expect("it proves what it merges to");
            assert_eq!((map.id(), map.to_bytes()), (found, bytes.to_vec()));
        }
        Err(_) => {}
        // One value of 32 zero bytes is, as far as the map can tell, the content whose id that is.
        Ok(map) => assert_eq!(map.to_bytes(), bytes),
    }
});
