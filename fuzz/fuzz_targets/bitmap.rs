//! A peer's bitmap: the first two bytes say over how many pieces it ranges. What is accepted reads back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerage_content::Bitmap;

fuzz_target!(|input: (u16, &[u8])| {
    let (pieces, bytes) = (u32::from(input.0), input.1);
    if let Ok(bitmap) = Bitmap::from_bytes(bytes, pieces) {
        assert_eq!(bitmap.to_bytes(), bytes);
        assert_eq!(bitmap.iter().count() + bitmap.missing().count(), pieces as usize);
        assert!(bitmap.iter().all(|piece| piece.0 < pieces));
    }
});
