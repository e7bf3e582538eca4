//! The TLS handshake over TCP, up to the point where the own record layer takes over.
//!
//! Invariant at hand-over: the TLS library has been fed whole records only, and none after the one that completed the
//! handshake. What the other side sent right behind its `Finished` is still in [`Agreed::early`], untouched: sealed
//! records, or clear text if that was agreed.
//!
//! Limits: [`MAX_HANDSHAKE`] bytes from the other side; the caller sets the time-out.

use rustls::{Connection as Tls, Error, ExtractedSecrets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use peerage_content::PeerId;

use crate::TransportError;
use crate::identity::Encryption;
use crate::pinned::from_spki;
use crate::record::{DATA, HEADER, MAX_CIPHERTEXT};

/// Most bytes that a handshake takes from the other side, in bytes. An honest one sends less than 1 KiB.
const MAX_HANDSHAKE: usize = 32 << 10;
/// ChangeCipherSpec, which TLS 1.3 sends for middleboxes and ignores; the lowest type that a handshake has.
const CHANGE_CIPHER_SPEC: u8 = 20;
/// RFC 5705 label of the connection's shared secret.
const EXPORTER: &[u8] = b"EXPORTER-peerage/1";

/// What a finished handshake leaves behind.
pub(crate) struct Agreed {
    /// Who the other side has proved to be.
    pub(crate) peer: PeerId,
    /// The traffic keys; `None` when clear text was agreed.
    pub(crate) secrets: Option<ExtractedSecrets>,
    /// Bytes received behind the handshake.
    pub(crate) early: Vec<u8>,
    /// A secret that both ends of this connection know and nobody else.
    pub(crate) binding: [u8; 32],
    /// Bytes received and sent so far.
    pub(crate) wire: (u64, u64),
}

/// Runs the handshake to its end.
pub(crate) async fn handshake(
    tcp: &mut TcpStream,
    mut tls: Tls,
    encryption: Encryption,
) -> Result<Agreed, TransportError> {
    let (mut input, mut received, mut sent) = (Vec::with_capacity(4096), 0, 0);
    loop {
        sent += send(tcp, &mut tls).await?;
        if !tls.is_handshaking() {
            break;
        }
        let record = loop {
            if let Some(len) = whole_record(&input)? {
                break input.drain(..len).collect::<Vec<u8>>();
            }
            if received >= MAX_HANDSHAKE {
                return Err(TransportError::Handshake { what: "more than 32 KiB and no end" });
            }
            match tcp.read_buf(&mut input).await.map_err(TransportError::Receive)? {
                0 => return Err(TransportError::Handshake { what: "connection closed before its end" }),
                n => received += n,
            }
        };
        let mut rest = &record[..];
        while !rest.is_empty() {
            // Takes at most 4 KiB at a time, and refuses what it has no room for.
            tls.read_tls(&mut rest).map_err(TransportError::Receive)?;
        }
        if let Err(error) = tls.process_new_packets() {
            // The alert that says why. Best effort: the connection has failed either way.
            let _ = send(tcp, &mut tls).await;
            return Err(TransportError::Tls(error));
        }
    }
    finish(tls, encryption, input, (received as u64, sent as u64))
}

fn finish(
    tls: Tls,
    encryption: Encryption,
    early: Vec<u8>,
    wire: (u64, u64),
) -> Result<Agreed, TransportError> {
    let Some(encrypted) = encryption.agreed(tls.alpn_protocol()) else {
        return Err(TransportError::Tls(Error::NoApplicationProtocol));
    };
    let key = tls.peer_certificates().and_then(|keys| from_spki(keys.first()?));
    let peer = key.ok_or(TransportError::Tls(Error::NoCertificatesPresented))?;
    let binding = tls.export_keying_material([0; 32], EXPORTER, None).map_err(TransportError::Tls)?;
    let secrets = tls.dangerous_extract_secrets().map_err(TransportError::Tls)?;
    Ok(Agreed { peer, secrets: encrypted.then_some(secrets), early, binding, wire })
}

/// Sends what the library has to say; returns the number of bytes.
async fn send(tcp: &mut TcpStream, tls: &mut Tls) -> Result<usize, TransportError> {
    let mut out = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut out).map_err(TransportError::Send)?;
    }
    tcp.write_all(&out).await.map_err(TransportError::Send)?;
    Ok(out.len())
}

/// The length of the record that `input` begins with, once all of it is there.
fn whole_record(input: &[u8]) -> Result<Option<usize>, TransportError> {
    let Some((&[kind, major, _, high, low], rest)) = input.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    // Told apart here, so that a stranger who speaks something else is refused by its first five bytes.
    if !(CHANGE_CIPHER_SPEC..=DATA).contains(&kind) || major != 3 {
        return Err(TransportError::Handshake { what: "not TLS" });
    }
    let len = usize::from(u16::from_be_bytes([high, low]));
    if len > MAX_CIPHERTEXT {
        return Err(TransportError::RecordLength { found: len });
    }
    Ok((rest.len() >= len).then_some(HEADER + len))
}
