//! The gate before every endpoint: whose a request is.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use peerage_api::Code;
use peerage_content::{EnrolToken, PeerId};
use subtle::ConstantTimeEq;

use crate::state::{Failure, Parts};

fn bearer(headers: &HeaderMap) -> Result<&str, Failure> {
    headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| Failure::new(Code::Unauthorized, "no bearer token"))
}

/// The device whose session is shown.
pub(super) fn device(state: &Parts, headers: &HeaderMap) -> Result<PeerId, Failure> {
    let session = state
        .sessions
        .check(bearer(headers)?, state.clock.unix())
        .filter(|session| state.roster.honours(session))
        .ok_or_else(|| Failure::new(Code::Unauthorized, "the session is unknown, ended or revoked"))?;
    Ok(session.peer)
}

/// The admin token: its secret alone, as the client sends it, or its whole text form, as it stands in the file.
pub(super) fn administrator(state: &Parts, headers: &HeaderMap) -> Result<(), Failure> {
    let denied = || Failure::new(Code::Unauthorized, "not the admin token");
    let text = bearer(headers)?;
    let secret: [u8; 16] = match text.parse::<EnrolToken>() {
        Ok(token) => token.secret,
        Err(_) => URL_SAFE_NO_PAD.decode(text).ok().and_then(|raw| raw.try_into().ok()).ok_or_else(denied)?,
    };
    if bool::from(secret.ct_eq(&state.admin.secret)) { Ok(()) } else { Err(denied()) }
}
