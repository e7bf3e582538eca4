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
            .map_err(|_| TransportError::BadRecord)
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
            .map_err(|_| TransportError::BadRecord)
    }
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
