//! Enrolment and sessions: how a device comes in, and how it is known again.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use peerage_api::Code;
use peerage_api::coordinator::{
    Device, EnrollRequest, EnrollResponse, NewTokenRequest, NewTokenResponse, SessionRequest,
    SessionResponse, enroll_proof, session_proof,
};
use peerage_content::{EnrolToken, PeerId, Signature};
use peerage_policy::fleet::Tag;
use tokio::time::Instant;

use crate::random;
use crate::roster::token_hash;
use crate::session::{SESSION_LIFE_S, Session};
use crate::state::{Failure, Parts, Source};
use crate::store::{Applicant, Denied, Enrolled, TokenTerms};

const MAX_NAME: usize = 255;
/// Tags of one token.
const MAX_TAGS: usize = 16;
/// How far a device's clock may be off when it opens a session.
const MAX_CLOCK_SKEW_S: u64 = 3600;
/// What a failed enrolment or session costs of the source's credit, beside the 1 that any costs.
const FAILURE_COST: f64 = 200.0;

impl Parts {
    /// Lets a device in that shows a good token and holds the key that it names.
    pub(crate) async fn enrol(
        &self,
        seen: IpAddr,
        request: &EnrollRequest,
    ) -> Result<EnrollResponse, Failure> {
        let answer = self.try_enrol(request).await;
        self.charge(seen, "enrolment", &answer);
        answer
    }

    async fn try_enrol(&self, request: &EnrollRequest) -> Result<EnrollResponse, Failure> {
        let EnrollRequest { peer, secret, name, proof } = request;
        if name.len() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(Failure::bad(format!("name is not one line of at most {MAX_NAME} bytes")));
        }
        prove(peer, &enroll_proof(peer, secret), proof)?;
        let denied =
            || Failure::new(Code::Unauthorized, "the enrolment token is unknown, used up or expired");
        let secret: [u8; 16] =
            URL_SAFE_NO_PAD.decode(secret).ok().and_then(|raw| raw.try_into().ok()).ok_or_else(denied)?;
        let applicant = Applicant { peer: *peer, name, token: token_hash(&secret) };
        match self.roster.enrol(applicant, self.clock.unix()).await? {
            Ok(_) => {
                tracing::info!(%peer, name, "device enrolled");
                Ok(EnrollResponse { catalog_keys: self.records.keys(), site_key: Some(self.site.key()) })
            }
            Err(Denied::Token) => Err(denied()),
            Err(Denied::Revoked) => Err(Failure::new(
                Code::Forbidden,
                "the device has been revoked; only a token made after that lets it in again",
            )),
        }
    }

    /// Opens a session of an enrolled device.
    pub(crate) fn open_session(
        &self,
        seen: IpAddr,
        request: &SessionRequest,
    ) -> Result<SessionResponse, Failure> {
        let answer = self.try_open_session(seen, request);
        self.charge(seen, "session", &answer);
        answer
    }

    fn try_open_session(&self, seen: IpAddr, request: &SessionRequest) -> Result<SessionResponse, Failure> {
        let SessionRequest { peer, time, proof } = request;
        let now = self.clock.unix();
        if time.abs_diff(now) > MAX_CLOCK_SKEW_S {
            let why =
                format!("the device's clock says {time}, the coordinator's {now}; allowed is an hour apart");
            return Err(Failure::new(Code::Unauthorized, why));
        }
        prove(peer, &session_proof(peer, *time, &self.pin), proof)?;
        // Asked after the proof, so that only the device itself learns whether it is enrolled.
        let epoch = self
            .roster
            .epoch(peer)
            .ok_or_else(|| Failure::new(Code::Unauthorized, "the device is not enrolled here"))?;
        Ok(SessionResponse {
            token: self.sessions.issue(Session { peer: *peer, epoch }, now),
            expires_in: SESSION_LIFE_S,
            time: now,
            catalog_keys: self.records.keys(),
            site_key: Some(self.site.key()),
            seen_as: seen,
        })
    }

    /// Whether a source may knock at all.
    pub(crate) fn admit(&self, seen: IpAddr) -> Result<(), Failure> {
        self.doors.take(Source::from(seen), 1.0, Instant::now()).map_err(|wait| {
            let seconds = wait.as_secs() + 1;
            Failure::new(Code::TooMany, format!("too many requests from {seen}; ask again in {seconds} s"))
        })
    }

    fn charge<T>(&self, seen: IpAddr, what: &str, answer: &Result<T, Failure>) {
        if let Err(Failure(error)) = answer
            && error.code != Code::Internal
        {
            tracing::warn!(%seen, what, error = %error.message, "refused at the door");
            self.doors.charge(Source::from(seen), FAILURE_COST, Instant::now());
        }
    }

    /// Makes an enrolment token.
    pub(crate) async fn new_token(&self, request: &NewTokenRequest) -> Result<NewTokenResponse, Failure> {
        if request.uses == Some(0) || request.valid_s == Some(0) {
            return Err(Failure::bad("uses and valid_s must be at least 1 where given"));
        }
        if request.tags.len() > MAX_TAGS {
            return Err(Failure::bad(format!("{} tags, allowed are {MAX_TAGS}", request.tags.len())));
        }
        let mut tags = Vec::new();
        for tag in &request.tags {
            tags.push(tag.parse::<Tag>().map_err(|error| Failure::bad(format!("tag: {error}")))?);
        }
        tags.sort();
        tags.dedup();
        let secret = random::bytes::<16>().map_err(|_| {
            Failure::new(Code::Internal, "the coordinator could not read the system's randomness")
        })?;
        let created = self.clock.unix();
        let expires = request.valid_s.map(|seconds| created.saturating_add(seconds));
        let terms = TokenTerms { hash: token_hash(&secret), created, expires, uses: request.uses, tags };
        self.roster.add_token(terms).await?;
        let token = EnrolToken { secret, ..self.admin };
        Ok(NewTokenResponse { token: token.to_string() })
    }

    /// The enrolled devices.
    pub(crate) async fn devices(&self) -> Result<Vec<Device>, Failure> {
        let devices = self.roster.devices().await?;
        let told = |device: Enrolled| {
            let tags = device.tags.iter().map(ToString::to_string).collect();
            let contact = self.contacts.of(&device.peer);
            Device {
                peer: device.peer,
                name: device.name,
                enrolled: device.enrolled,
                tags,
                last_contact: contact.as_ref().map(|contact| contact.at),
                seen_at: contact.as_ref().map(|contact| contact.seen),
                group: contact.as_ref().and_then(|contact| Some(contact.device.group?.to_string())),
                policy: contact.map(|contact| self.standing(&contact)),
            }
        };
        Ok(devices.into_iter().map(told).collect())
    }

    /// Revokes a device: its sessions end, it leaves all swarms, and the site key that it holds is replaced. Its tickets
    /// last for up to an hour, and so may the old site key at devices that have not been in touch since.
    pub(crate) async fn revoke(&self, peer: PeerId) -> Result<(), Failure> {
        if !self.roster.revoke(peer, self.clock.unix()).await? {
            return Err(Failure::new(Code::NotFound, "no such device is enrolled"));
        }
        self.registry.banish(peer).await;
        self.contacts.forget(&peer);
        if let Some(relay) = &self.relay {
            relay.forget(&peer);
        }
        let site = Arc::clone(&self.site);
        let renewed = tokio::task::spawn_blocking(move || site.renew()).await;
        if let Err(error) = renewed.map_err(std::io::Error::other).flatten() {
            tracing::error!(%error, "the site key could not be replaced: the revoked device still knows it");
        }
        tracing::info!(%peer, "device revoked");
        Ok(())
    }
}

fn prove(peer: &PeerId, message: &[u8], proof: &str) -> Result<(), Failure> {
    let denied = || Failure::new(Code::Unauthorized, "the proof is not a signature of the device's key");
    let raw: [u8; 64] =
        URL_SAFE_NO_PAD.decode(proof).ok().and_then(|raw| raw.try_into().ok()).ok_or_else(denied)?;
    peer.verify(message, &Signature(raw)).map_err(|_| denied())
}
