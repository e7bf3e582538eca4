//! The encodings in which Windows tools write text: UTF-16 with a byte order mark (regedit, PowerShell 5), UTF-8.

use super::ImportError;

/// The text, without its byte order mark.
pub(super) fn decode(bytes: &[u8]) -> Result<String, ImportError> {
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(ImportError::NotText { found: "UTF-16 of an odd number of bytes" });
        }
        let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
        String::from_utf16(&units).map_err(|_| ImportError::NotText { found: "half a character in UTF-16" })
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        _ => {
            let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
            let text = std::str::from_utf8(bytes);
            text.map(str::to_owned).map_err(|_| ImportError::NotText { found: "bytes that are no UTF-8" })
        }
    }
}
