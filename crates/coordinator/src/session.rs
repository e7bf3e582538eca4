//! Session tokens: what a device shows instead of signing every request.
//!
//! A token is `version 1 · peer 32 · epoch 8 · expires 8 · MAC 32`, base64url, under a key derived from a persisted
//! secret, so a restart does not log the fleet out. The epoch names one enrolment: a device that was revoked and
//! enrolled again does not get its old sessions back. Whether the enrolment still stands is the roster's affair.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use peerage_content::{PeerId, Reader, ShortInput, Writer};
use subtle::ConstantTimeEq;

/// Seconds that a session lasts.
pub(crate) const SESSION_LIFE_S: u64 = 3600;

const VERSION: u8 = 1;
const BODY: usize = 1 + 32 + 8 + 8;
const MAC: usize = 32;

/// What a genuine token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) peer: PeerId,
    pub(crate) epoch: u64,
}

/// Makes and checks session tokens.
pub(crate) struct Sessions {
    key: [u8; 32],
}

impl Sessions {
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        Self { key: blake3::derive_key("peerage coordinator session token v1", secret) }
    }

    pub(crate) fn issue(&self, session: Session, now: u64) -> String {
        let mut body = Writer::new();
        body.u8(VERSION).raw(session.peer.as_bytes()).u64(session.epoch).u64(now + SESSION_LIFE_S);
        let mut token = body.finish();
        let mac = blake3::keyed_hash(&self.key, &token);
        token.extend_from_slice(mac.as_bytes());
        URL_SAFE_NO_PAD.encode(token)
    }

    /// The session of a token that this coordinator made and that has not ended.
    pub(crate) fn check(&self, token: &str, now: u64) -> Option<Session> {
        let mut raw = [0u8; BODY + MAC];
        let len = URL_SAFE_NO_PAD.decode_slice(token, &mut raw).ok()?;
        let (body, mac) = raw.split_at(BODY);
        let expected = blake3::keyed_hash(&self.key, body);
        if len != raw.len() || !bool::from(expected.as_bytes().ct_eq(mac)) {
            return None;
        }
        let (session, expires) = read(body).ok()?;
        (now < expires).then_some(session)
    }
}

fn read(body: &[u8]) -> Result<(Session, u64), ShortInput> {
    let mut reader = Reader::new(body);
    if reader.u8("version")? != VERSION {
        return Err(ShortInput { field: "version", why: "not 1" });
    }
    let peer = PeerId::from_bytes(reader.array("peer")?);
    Ok((Session { peer, epoch: reader.u64("epoch")? }, reader.u64("expires")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_unaltered_and_fresh_tokens() {
        let sessions = Sessions::new(&[1; 32]);
        let session = Session { peer: PeerId::from_bytes([7; 32]), epoch: 3 };
        let token = sessions.issue(session, 1000);
        assert_eq!(sessions.check(&token, 1000 + SESSION_LIFE_S - 1), Some(session));
        assert_eq!(sessions.check(&token, 1000 + SESSION_LIFE_S), None, "ended");
        assert_eq!(Sessions::new(&[1; 32]).check(&token, 1000), Some(session), "survives a restart");
        assert_eq!(Sessions::new(&[2; 32]).check(&token, 1000), None);
        for at in 0..token.len() {
            let mut bad = token.clone().into_bytes();
            bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(sessions.check(std::str::from_utf8(&bad).unwrap(), 1000), None, "character {at}");
        }
        for bad in ["", "AAAA", &token[1..], &format!("{token}A"), &"A".repeat(5000), "é"] {
            assert_eq!(sessions.check(bad, 1000), None, "{bad}");
        }
    }
}
