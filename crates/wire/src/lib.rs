//! Wire: the peer protocol, version 1. This text is normative.
//!
//! # Participants
//!
//! Two devices of one fleet that hold or want the same content. Either may open the connection; from then on both have
//! the same rights. There is one connection per pair of devices and content.
//!
//! # Goals
//!
//! - Move verified pieces between devices at the speed of the link, in both directions at once.
//! - Tell nothing to a device that holds neither a ticket nor the site key: not even whether the content exists.
//! - Let the devices of a site take each piece over the Internet link once ([`Message::Fetching`]).
//! - Bound what a hostile neighbour can cost: every field has a limit, every wait a time-out.
//!
//! # Non-goals
//!
//! Confidentiality, peer identity and integrity on the way belong to the transport (TLS 1.3 with both Ed25519 keys
//! pinned). Truth of the bytes belongs to the piece map. Finding peers belongs to the coordinator and DNS-SD.
//!
//! # Frames
//!
//! The protocol runs over any ordered byte stream. A frame is: `length u32` (bytes after this field) · `kind u8` · body.
//! Integers are big-endian. A length of 0, above [`Kind::max_len`] of its kind, or a body that does not parse ends the
//! connection. Kinds from [`FIRST_SKIPPABLE`] up are extensions: a receiver that does not know one skips it (up to
//! [`MAX_SKIPPED`] bytes), so that a newer peer and an older one still talk; an unknown lower kind ends the connection.
//!
//! # Course of a connection
//!
//! 1. The side that connected sends [`Hello`] within 5 s. It names the content and carries the sender's swarm ticket.
//! 2. The other side checks the ticket against the key of the TLS connection, the content and the time. If anything is
//!    wrong — ticket missing, void, another's; content unknown, not shared, banned peer — it answers the same
//!    [`Message::Reject`] with [`RejectCode::NotAdmitted`] and closes. Otherwise it answers with its own `Hello`, whose
//!    ticket the first side checks in the same way.
//!    What the two are to each other (LAN, group or Internet peers) follows from the places in both tickets.
//! 3. Both sides are choked. A side that wants to serve the other sends [`Message::Unchoke`].
//! 4. An unchoked side sends up to [`MAX_REQUESTS`] outstanding [`Message::Request`]s for parts of pieces that the other
//!    side has. Each is answered by [`DataHead`] frames that cover it in ascending order without gaps, each at most
//!    [`MAX_DATA`] bytes, or by a `Reject` that names it. The answering side may end an answer early only by `Choke`,
//!    which drops all requests not yet answered, or in response to [`Message::Cancel`]; after a `Cancel` data already
//!    on its way still arrives and is counted.
//! 5. [`Message::Have`] tells of pieces verified since the `Hello`; `Fetching` of pieces that the sender is getting from
//!    the origin: the receiver leaves them to it. Both are hints; a false `Have` costs its sender the connection when a
//!    request for it is rejected.
//! 6. [`Message::GetMap`] asks for a part of the piece map in file form; it is answered by [`Message::Map`] or `Reject`,
//!    and the next one is sent when the answer has arrived.
//! 7. Nothing received for 60 s ends the connection; a side with nothing to say sends [`Message::Ping`] after 30 s.
//! 8. [`Message::Bye`] says why a side closes. Two sides that both have everything say goodbye.
//!
//! 9. A side that does not serve the other for a reason of its own says which with [`Message::Withheld`], when the
//!    connection begins, when the reason changes, and before a `Bye` that the same reason brings about; `Nothing` says that
//!    it is over. It is for people ([`Withheld`] is a short list, and unknown values count as `Other`): nothing follows from
//!    it for requests, `Choke` and `Unchoke` alone decide about those. Its kind is one that an older peer skips.
//!
//! # Neighbours
//!
//! Where no coordinator gives tickets, devices of a fleet that see each other by DNS-SD prove that they hold its site key
//! ([`peerage_content::SiteKey`]). The feature bit [`Features::SITE_PROOF`] says that two values follow the bitmap of a
//! `Hello`; its ticket is then empty.
//!
//! - `member`: keyed BLAKE3 over the connection's TLS exporter value (label `EXPORTER-peerage/1`, 32 bytes), the side (0:
//!   connected, 1: was connected to), the content id, the prover's key and the verifier's. So a proof is worth nothing
//!   on another connection, for another content, or to somebody else, and cannot be reflected.
//! - `group`: the same, under another key and followed by the group id; zeroes when the prover is in no group. A device
//!   that may only have peers of its group refuses a neighbour that does not prove it.
//!
//! The keys are derived from the site key by BLAKE3's key derivation with the contexts `peerage site proof v1` and
//! `peerage site group proof v1`. A `Hello` carries either a ticket or a proof; the answer carries what the question
//! did. A wrong proof is answered like everything else that is not admitted. The side that connects names the content
//! before the other has proved anything: it connects only to keys that an advert sealed with the site key named
//! ([`peerage_content::Advert`]), and the TLS handshake has proved that key.
//!
//! # Versions
//!
//! `Hello.version` is the highest version that the sender speaks; both use the lower of the two. Optional behaviour is
//! announced by feature bits; unknown bits are ignored, and a side uses a feature only if both announced it.
//!
//! # Punishment
//!
//! A piece that does not match the map is charged to the peer(s) that sent it; three charges ban it (product §6.6).
//! Unrequested data, more outstanding requests than allowed (of the piece map: one), requests outside the content and malformed frames end the
//! connection and are charged as well.

mod codec;
mod hello;
mod message;

pub use codec::{DATA_HEAD_LEN, DataHead, Frame, FrameHead, HEAD_LEN, Kind, WireError};
pub use hello::{Features, Hello};
pub use message::{ByeReason, Message, RejectCode, Withheld};

/// Highest protocol version spoken here.
pub const VERSION: u8 = 1;
/// Largest payload of one data frame, in bytes.
pub const MAX_DATA: u32 = 1 << 20;
/// Requests that may be outstanding in one direction of a connection.
pub const MAX_REQUESTS: usize = 64;
/// Pieces named by one `Have` or `Fetching`.
pub const MAX_LISTED: usize = 16 * 1024;
/// Bytes of the piece map in one `Map`.
pub const MAX_MAP_PART: u32 = 256 << 10;
/// Kinds from here up may be skipped by a receiver that does not know them.
pub const FIRST_SKIPPABLE: u8 = 0x80;
/// Longest unknown frame that is skipped, in bytes.
pub const MAX_SKIPPED: u32 = 64 << 10;
/// Time within which the first `Hello` must have arrived.
pub const HELLO_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
/// A connection on which nothing arrives for this long is closed.
pub const IDLE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);
/// A side that has sent nothing for this long sends a `Ping`.
pub const PING_AFTER: std::time::Duration = std::time::Duration::from_secs(30);

#[cfg(test)]
mod tests;
