//! The TLS 1.3 record layer after the handshake (RFC 8446 §5), one direction at a time and without I/O.
//!
//! A sealed record is `23 · 0x0303 · length u16` and the ciphertext of plaintext, one byte of content type and, from
//! others, zero padding; a tag of 16 bytes ends it. The header is authenticated, the nonce is the record's number
//! combined with the direction's secret offset: a record that was changed, repeated, left out or moved does not open.
//!
//! Limits: a plaintext holds at most 2^14 bytes, a ciphertext 256 more. One key seals at most [`MAX_RECORDS`] records,
//! well below the 2^24.5 that RFC 8446 §5.5 allows for AES-GCM: 256 GiB of full records; then the connection closes and
//! the peers connect again. Keys are never changed within a connection, and a `KeyUpdate` from the other side ends it:
//! peers of this protocol do not send one.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;

use crate::TransportError;

/// Bytes before a ciphertext.
pub(crate) const HEADER: usize = 5;
/// Longest plaintext of one record.
pub(crate) const MAX_PLAIN: usize = 1 << 14;
/// What sealing adds behind a plaintext: content type and tag.
pub(crate) const TRAILER: usize = 1 + TAG;
/// Longest record made here.
pub(crate) const MAX_SEALED: usize = HEADER + MAX_PLAIN + TRAILER;
/// Longest ciphertext accepted (RFC 8446 §5.2).
pub(crate) const MAX_CIPHERTEXT: usize = MAX_PLAIN + 256;
/// Records under one key.
pub(crate) const MAX_RECORDS: u64 = 1 << 24;

const TAG: usize = 16;
const NONCE: usize = 12;

/// Content types (RFC 8446 §5.1).
pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const DATA: u8 = 23;

/// One direction's key, offset and next record number.
#[derive(Debug)]
struct Direction {
    key: LessSafeKey,
    offset: [u8; NONCE],
    next: u64,
}

impl Direction {
    fn new((next, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, TransportError> {
        let (algorithm, key, offset) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(UNKNOWN_CIPHER),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| UNKNOWN_CIPHER)?;
        let offset = offset.as_ref().try_into().map_err(|_| UNKNOWN_CIPHER)?;
        Ok(Self { key: LessSafeKey::new(key), offset, next })
    }

    /// The nonce of the next record. Each is given out once, used or not.
    fn nonce(&mut self) -> Result<Nonce, TransportError> {
        if self.next >= MAX_RECORDS {
            return Err(TransportError::RecordLimit);
        }
        let mut nonce = self.offset;
        for (byte, number) in nonce[NONCE - 8..].iter_mut().zip(self.next.to_be_bytes()) {
            *byte ^= number;
        }
        self.next += 1;
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

const UNKNOWN_CIPHER: TransportError = TransportError::Handshake { what: "cipher without a record layer" };

/// Seals records for sending.
#[derive(Debug)]
pub(crate) struct Sealer(Direction);

impl Sealer {
    pub(crate) fn new(secrets: (u64, ConnectionTrafficSecrets)) -> Result<Self, TransportError> {
        Direction::new(secrets).map(Self)
    }

    /// Records that the key is still good for.
    pub(crate) fn left(&self) -> u64 {
        MAX_RECORDS.saturating_sub(self.0.next)
    }

    /// Seals `plain` into `out`, which is [`HEADER`] + [`TRAILER`] bytes longer. The plaintext is read once and not
    /// copied.
    pub(crate) fn seal_from(&mut self, kind: u8, plain: &[u8], out: &mut [u8]) -> Result<(), TransportError> {
        let (header, cipher, trailer) = fields(plain.len(), out)?;
        let nonce = self.0.nonce()?;
        self.0
            .key
            .seal_out_of_place_scatter(nonce, Aad::from(*header), plain, cipher, &[kind], trailer)
            .map_err(|_| unsealed())
    }

    /// Seals the `len` bytes of plaintext that stand at `HEADER` in `out`.
    pub(crate) fn seal_in_place(
        &mut self,
        kind: u8,
        len: usize,
        out: &mut [u8],
    ) -> Result<(), TransportError> {
        let (header, cipher, trailer) = fields(len, out)?;
        let nonce = self.0.nonce()?;
        self.0
            .key
            .seal_in_place_scatter(nonce, Aad::from(*header), cipher, &[kind], trailer)
            .map_err(|_| unsealed())
    }
}

fn unsealed() -> TransportError {
    TransportError::Send(std::io::Error::other("record cannot be sealed"))
}

/// Header, ciphertext of the content, and ciphertext of the content type with the tag.
type Fields<'a> = (&'a mut [u8; HEADER], &'a mut [u8], &'a mut [u8]);

/// Writes the header and divides the rest of a record of `len` bytes of plaintext.
fn fields(len: usize, out: &mut [u8]) -> Result<Fields<'_>, TransportError> {
    let found = len + TRAILER;
    if len > MAX_PLAIN || out.len() != HEADER + found {
        return Err(TransportError::RecordLength { found });
    }
    let Some((header, rest)) = out.split_first_chunk_mut::<HEADER>() else {
        return Err(TransportError::RecordLength { found });
    };
    let [high, low] = (found as u16).to_be_bytes();
    *header = [DATA, 3, 3, high, low];
    let (cipher, trailer) = rest.split_at_mut(len);
    Ok((header, cipher, trailer))
}

/// The length of the ciphertext behind a header.
///
/// # Errors
/// The record is not an encrypted one, or its length is not allowed.
pub(crate) fn ciphertext_len(header: [u8; HEADER]) -> Result<usize, TransportError> {
    // The version is legacy and ignored, as RFC 8446 §5.1 demands; it is authenticated with the rest.
    let [kind, _, _, high, low] = header;
    if kind != DATA {
        return Err(TransportError::UnexpectedRecord { what: "not encrypted" });
    }
    match usize::from(u16::from_be_bytes([high, low])) {
        len @ TRAILER..=MAX_CIPHERTEXT => Ok(len),
        found => Err(TransportError::RecordLength { found }),
    }
}

/// Room that [`Opener::open_to`] needs for a record of `len` bytes.
pub(crate) const fn opened_len(len: usize) -> usize {
    len.saturating_sub(HEADER + TAG)
}

/// Opens received records.
#[derive(Debug)]
pub(crate) struct Opener(Direction);

impl Opener {
    pub(crate) fn new(secrets: (u64, ConnectionTrafficSecrets)) -> Result<Self, TransportError> {
        Direction::new(secrets).map(Self)
    }

    /// Opens a whole record in place: content type and length of the plaintext, which then stands at `HEADER`.
    ///
    /// # Errors
    /// The record does not authenticate, or its plaintext is too long or has no content type.
    pub(crate) fn open_in_place(&mut self, record: &mut [u8]) -> Result<(u8, usize), TransportError> {
        let nonce = self.0.nonce()?;
        let Some((header, cipher)) = record.split_first_chunk_mut::<HEADER>() else {
            return Err(TransportError::RecordLength { found: 0 });
        };
        let plain = self
            .0
            .key
            .open_in_place(nonce, Aad::from(*header), cipher)
            .map_err(|_| TransportError::BadRecord)?;
        content(plain)
    }

    /// Opens a whole record straight into the first bytes of `out`, which has room for [`opened_len`]: one byte more
    /// than the plaintext. That byte and padding are left behind the plaintext.
    ///
    /// # Errors
    /// As [`Self::open_in_place`]; `out` then holds nothing to be used.
    pub(crate) fn open_to(&mut self, record: &[u8], out: &mut [u8]) -> Result<(u8, usize), TransportError> {
        let found = record.len().saturating_sub(HEADER);
        let nonce = self.0.nonce()?;
        let short = TransportError::RecordLength { found };
        let Some((header, cipher)) = record.split_first_chunk::<HEADER>() else { return Err(short) };
        let Some((cipher, tag)) = cipher.split_last_chunk::<TAG>() else { return Err(short) };
        let Some(out) = out.get_mut(..cipher.len()) else { return Err(short) };
        self.0
            .key
            .open_separate_gather(nonce, Aad::from(*header), cipher, tag, out)
            .map_err(|_| TransportError::BadRecord)?;
        content(out)
    }
}

/// Takes padding and content type off a decrypted record (RFC 8446 §5.4).
fn content(plain: &[u8]) -> Result<(u8, usize), TransportError> {
    let Some(at) = plain.iter().rposition(|byte| *byte != 0) else {
        return Err(TransportError::UnexpectedRecord { what: "no content type" });
    };
    if at > MAX_PLAIN {
        return Err(TransportError::RecordLength { found: at });
    }
    Ok((plain[at], at))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use rustls::crypto::cipher::{AeadKey, Iv};

    use super::*;

    /// Keys whose next record has the number `next`.
    pub(crate) fn keys(next: u64) -> (u64, ConnectionTrafficSecrets) {
        let (key, iv) = (AeadKey::from([7; 32]), Iv::new([9; NONCE]));
        (next, ConnectionTrafficSecrets::Aes256Gcm { key, iv })
    }

    fn pair() -> (Sealer, Opener) {
        (Sealer::new(keys(3)).unwrap(), Opener::new(keys(3)).unwrap())
    }

    fn seal(sealer: &mut Sealer, kind: u8, plain: &[u8]) -> Vec<u8> {
        let mut record = vec![0; HEADER + plain.len() + TRAILER];
        sealer.seal_from(kind, plain, &mut record).unwrap();
        record
    }

    proptest! {
        #[test]
        fn round_trip(plain in prop::collection::vec(any::<u8>(), 0..MAX_PLAIN), kind in 1_u8..) {
            let (mut sealer, mut opener) = pair();
            let record = seal(&mut sealer, kind, &plain);
            prop_assert_eq!(ciphertext_len(*record.first_chunk().unwrap()).unwrap(), record.len() - HEADER);
            let mut out = vec![0xee; opened_len(record.len())];
            prop_assert_eq!(opener.open_to(&record, &mut out).unwrap(), (kind, plain.len()));
            prop_assert_eq!(&out[..plain.len()], &plain[..]);

            // The same content again, sealed and opened in place: another record, since its number is another.
            let mut again = [&[0; HEADER][..], &plain, &[0; TRAILER]].concat();
            sealer.seal_in_place(kind, plain.len(), &mut again).unwrap();
            prop_assert_ne!(&again[HEADER..], &record[HEADER..]);
            prop_assert_eq!(opener.open_in_place(&mut again).unwrap(), (kind, plain.len()));
            prop_assert_eq!(&again[HEADER..][..plain.len()], &plain[..]);
        }

        #[test]
        fn any_change_is_noticed(
            plain in prop::collection::vec(any::<u8>(), 0..100),
            at in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let mut record = seal(&mut pair().0, DATA, &plain);
            record[at.index(plain.len() + HEADER + TRAILER)] ^= 1 << bit;
            let mut out = vec![0; record.len()];
            prop_assert!(pair().1.open_to(&record, &mut out).is_err());
            prop_assert!(pair().1.open_in_place(&mut record).is_err());
        }

        #[test]
        fn foreign_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..60), room in 0_usize..60) {
            if let Some(header) = bytes.first_chunk() {
                let _ = ciphertext_len(*header);
            }
            prop_assert!(pair().1.open_to(&bytes, &mut vec![0; room]).is_err());
            prop_assert!(pair().1.open_in_place(&mut bytes).is_err());
        }
    }

    #[test]
    fn records_come_once_and_in_order() {
        let (mut sealer, mut opener) = pair();
        let [first, second] = [b"one", b"two"].map(|plain| seal(&mut sealer, DATA, plain));
        opener.open_in_place(&mut first.clone()).unwrap();
        assert!(matches!(opener.open_in_place(&mut first.clone()), Err(TransportError::BadRecord)));
        let mut opener = pair().1;
        assert!(matches!(opener.open_in_place(&mut second.clone()), Err(TransportError::BadRecord)));
    }

    #[test]
    fn padding_is_taken_off() {
        // Content type 0 is a byte of padding; the real one stands before it.
        let (mut sealer, mut opener) = pair();
        let mut record = seal(&mut sealer, 0, b"abc\x17\0\0");
        assert_eq!(opener.open_in_place(&mut record).unwrap(), (DATA, 3));
        let mut only_padding = seal(&mut sealer, 0, &[0; 9]);
        assert!(matches!(
            opener.open_in_place(&mut only_padding),
            Err(TransportError::UnexpectedRecord { what: "no content type" })
        ));
    }

    #[test]
    fn lengths_are_bounded() {
        let header = |len: u16| [DATA, 3, 3, len.to_be_bytes()[0], len.to_be_bytes()[1]];
        for (len, allowed) in [(16, false), (17, true), (16_640, true), (16_641, false)] {
            assert_eq!(ciphertext_len(header(len)).is_ok(), allowed, "{len}");
        }
        let (mut sealer, _) = pair();
        let too_long = vec![0; MAX_PLAIN + 1];
        assert!(sealer.seal_from(DATA, &too_long, &mut vec![0; MAX_SEALED + 1]).is_err());
        assert!(sealer.seal_from(DATA, b"abc", &mut [0; 9]).is_err());
        // A record of the longest allowed ciphertext with more content than a plaintext may have.
        let mut record = [&header(16_640)[..], &[1; MAX_PLAIN + 256]].concat();
        let Direction { key, offset, .. } = Direction::new(keys(0)).unwrap();
        let (head, body) = record.split_first_chunk_mut::<HEADER>().unwrap();
        let (body, tag_at) = body.split_last_chunk_mut::<TAG>().unwrap();
        let nonce = Nonce::assume_unique_for_key(offset);
        tag_at
            .copy_from_slice(key.seal_in_place_separate_tag(nonce, Aad::from(*head), body).unwrap().as_ref());
        let error = Opener::new(keys(0)).unwrap().open_in_place(&mut record).unwrap_err();
        assert!(matches!(error, TransportError::RecordLength { .. }), "{error:?}");
    }

    #[test]
    fn a_key_has_its_day() {
        let (mut sealer, mut opener) = (Sealer::new(keys(MAX_RECORDS - 1)).unwrap(), pair().1);
        assert_eq!(sealer.left(), 1);
        seal(&mut sealer, DATA, b"the last");
        assert!(matches!(sealer.seal_from(DATA, b"", &mut [0; 22]), Err(TransportError::RecordLimit)));
        opener.0.next = MAX_RECORDS;
        assert!(matches!(opener.open_in_place(&mut [0; 40]), Err(TransportError::RecordLimit)));
    }
}
