//! Content: what a file *is*, apart from where its bytes come from.
//!
//! - [`ContentId`]: the BLAKE3 hash of the whole file (what `b3sum` prints).
//! - [`Layout`]: how a content of some size is cut into pieces of 1 MiB and blocks of 16 KiB.
//! - [`PieceMap`]: the list of all pieces' subtree values. It proves itself against the id.
//! - [`PieceHasher`]: verifies one piece while its bytes arrive.
//! - [`Digester`]: one pass over a file that yields id, map and SHA-256.
//! - [`ContentRecord`], [`SwarmTicket`]: signed statements; [`Signed`] is their common envelope.
//! - [`Bitmap`]: which pieces somebody has.
//! - [`SiteKey`], [`Advert`]: how devices of a fleet know each other without a coordinator.
//! - [`RelayToken`]: what lets one end of a connection in at the coordinator's relay.
//!
//! This room is pure: no clock, no files, no randomness. Every parser of foreign bytes has limits and never panics.

mod advert;
mod bitmap;
mod bytes_io;
mod digest;
mod id;
mod key;
mod layout;
mod piece_map;
mod record;
mod relay;
mod scope;
mod signed;
mod site_key;
mod ticket;
mod token;
mod verify;

pub use advert::{ADVERT_LEN, ADVERT_NONCE, Advert};
pub use bitmap::{Bitmap, BitmapError};
pub use bytes_io::{Reader, ShortInput, Writer};
pub use digest::{Digest, Digester};
pub use id::{ContentId, ParseHexError, Sha256};
pub use key::{KeyError, PeerId, PublicKey, SecretKey, Signature};
pub use layout::{
    BLOCK_SIZE, BLOCKS_PER_PIECE, Layout, LayoutError, MAX_CONTENT_SIZE, PIECE_SIZE, PieceIndex,
};
pub use piece_map::{PieceMap, PieceMapError};
pub use record::{ContentRecord, RecordError, Validators};
pub use relay::{RELAY_GREETING_LEN, RELAY_JOINED, RelayToken};
pub use scope::{Scope, ScopeSet};
pub use signed::{Signed, SignedError, Statement, Unchecked};
pub use site_key::{GROUP_LEN, Side, SiteClaim, SiteKey, SiteProof};
pub use ticket::{MAX_TICKET_LIFE_S, Place, SwarmTicket};
pub use token::{EnrolToken, TokenError};
pub use verify::{BlockSet, PieceHasher, VerifyError};
