//! Admission: the first two messages of a peer connection, on either side (wire §"Course of a connection").
//!
//! Invariant: nothing about any content is told to a device before its ticket has been checked against the key of the
//! connection, the content and the time, or its proof of the site key against both keys, the content and the connection
//! itself; every refusal looks the same.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use peerage_content::{
    Bitmap, ContentId, Layout, PeerId, PieceMap, Place, Scope, Side, Signed, SiteClaim, SiteProof,
    SwarmTicket,
};
use peerage_swarm::{Offence, SourceKind};
use peerage_transport::{Connection, FrameReader, FrameWriter, Incoming, Path};
use peerage_wire::{Features, HELLO_TIMEOUT, Hello, Message, RejectCode, VERSION};
use tokio::time::timeout;

use crate::shared::{Shared, Way};

/// A connection whose both sides have been admitted.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) peer: PeerId,
    pub(crate) address: SocketAddr,
    /// Our end of it.
    pub(crate) local: SocketAddr,
    /// Its socket.
    pub(crate) path: Path,
    pub(crate) kind: SourceKind,
    /// Where the coordinator sees it, by its ticket; `None`: a neighbour that proved the site key.
    pub(crate) place: Option<Place>,
    /// Whether this device opened the connection.
    pub(crate) dialled: bool,
    /// It goes through the relay: the address is the relay's.
    pub(crate) relayed: bool,
    /// Whether its frames are encrypted.
    pub(crate) encrypted: bool,
    /// What the peer has.
    pub(crate) have: Bitmap,
    /// What the peer was told that we have.
    pub(crate) told: Bitmap,
    pub(crate) reader: FrameReader,
    pub(crate) writer: FrameWriter,
}

/// Why a connection came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// The other side did not admit us, or closed.
    #[error("the peer did not admit us")]
    ByPeer,
    /// It did not say the right thing in time.
    #[error("no hello within 5 s, or not a hello")]
    NoHello,
    /// It is about another content or size than we asked for.
    #[error("the peer answered for another content")]
    OtherContent,
    /// Its ticket does not admit it.
    #[error("the peer's ticket does not admit it: {0}")]
    Ticket(&'static str),
    /// It proves no site key, or not ours, or not our group.
    #[error("the neighbour does not prove the site key: {0}")]
    Site(&'static str),
    /// It talks, and does not give the piece map.
    #[error("no piece map within {0:?}")]
    SlowMap(Duration),
    /// It may not be served here.
    #[error("not shared here")]
    NotShared,
    /// It may not connect.
    #[error("banned")]
    Banned,
    /// We hold no ticket for the content (yet).
    #[error("we hold no ticket for this content")]
    NoTicket,
}

/// What one side says.
struct Self_<'a> {
    content: ContentId,
    layout: Layout,
    have: &'a Bitmap,
}

/// What lets a device in.
enum Credential {
    Ticket(Vec<u8>),
    Site(SiteProof),
}

fn hello(own: &Self_<'_>, credential: Credential) -> Message {
    let (ticket, site) = match credential {
        Credential::Ticket(ticket) => (ticket, None),
        Credential::Site(proof) => (Vec::new(), Some(proof)),
    };
    Message::Hello(Box::new(Hello {
        version: VERSION,
        features: Features::default(),
        content: own.content,
        layout: own.layout,
        ticket,
        have: own.have.clone(),
        site,
    }))
}

async fn read_hello(reader: &mut FrameReader) -> Result<Hello, Refused> {
    match timeout(HELLO_TIMEOUT, reader.next()).await {
        Ok(Ok(Incoming::Message(Message::Hello(hello)))) => Ok(*hello),
        Ok(Ok(Incoming::Message(
            Message::Reject { code: RejectCode::NotAdmitted, .. } | Message::Bye(_),
        ))) => Err(Refused::ByPeer),
        Ok(Err(_)) => Err(Refused::ByPeer),
        Ok(Ok(_)) | Err(_) => Err(Refused::NoHello),
    }
}

async fn say(writer: &mut FrameWriter, message: &Message) -> Result<(), Refused> {
    let said = async {
        writer.send(message).await?;
        writer.flush().await
    };
    timeout(HELLO_TIMEOUT, said).await.ok().and_then(Result::ok).ok_or(Refused::ByPeer)
}

/// Checks a foreign ticket. Lies are held against the peer; mere age is not, because clocks differ.
fn check_ticket(
    shared: &Shared,
    peer: PeerId,
    content: ContentId,
    bytes: &[u8],
) -> Result<SwarmTicket, Refused> {
    if bytes.is_empty() {
        return Err(Refused::Ticket("there is none"));
    }
    let keys = shared.coordinator.catalog_keys();
    let refuse = |what: &'static str| {
        shared.charge(peer, Offence::Protocol(what));
        Refused::Ticket(what)
    };
    let ticket =
        Signed::<SwarmTicket>::from_bytes(bytes, &keys).map_err(|_| refuse("a ticket by no trusted key"))?;
    let ticket = *ticket.get();
    if ticket.peer != peer {
        return Err(refuse("another device's ticket"));
    }
    if ticket.content != content {
        return Err(refuse("a ticket for another content"));
    }
    if !ticket.admits(peer, content, shared.clock.unix()) {
        return Err(Refused::Ticket("it is out of time"));
    }
    Ok(ticket)
}

/// One end of a connection between neighbours, before its direction is known to either.
struct Meeting {
    binding: [u8; 32],
    own_side: Side,
    content: ContentId,
    own: PeerId,
    peer: PeerId,
    address: SocketAddr,
}

impl Meeting {
    fn claim(&self, of_peer: bool) -> SiteClaim<'_> {
        let (side, prover, verifier) = match (self.own_side, of_peer) {
            (Side::Dialled, true) => (Side::Listened, self.peer, self.own),
            (Side::Listened, true) => (Side::Dialled, self.peer, self.own),
            (side, false) => (side, self.own, self.peer),
        };
        SiteClaim { binding: &self.binding, side, content: self.content, prover, verifier }
    }

    /// Our proof of the site key.
    fn prove(&self, shared: &Shared) -> Result<Credential, Refused> {
        let key = shared.coordinator.site_key().ok_or(Refused::Site("we hold no site key"))?;
        let group = shared.decide_device().allowed.group.map(|group| *group.as_bytes());
        Ok(Credential::Site(key.prove(&self.claim(false), group.as_ref())))
    }

    /// Checks the other side's proof. Nothing is held against whoever fails: its key may be an older one.
    fn check(&self, shared: &Shared, proof: &SiteProof) -> Result<(), Refused> {
        let key = shared.coordinator.site_key().ok_or(Refused::Site("we hold no site key"))?;
        let claim = self.claim(true);
        if !key.admits(&claim, proof) {
            return Err(Refused::Site("a proof with another key"));
        }
        let allowed = shared.decide_device().allowed;
        if !allowed.link_local.any() {
            return Err(Refused::NotShared);
        }
        let of_group = || allowed.group.is_some_and(|g| key.is_of_group(&claim, proof, g.as_bytes()));
        if allowed.link_local.of_group && !of_group() {
            return Err(Refused::Site("not of our group"));
        }
        if !peerage_host::is_on_link(self.address.ip(), &shared.policy().facts.interfaces) {
            return Err(Refused::Site("not on a link of ours"));
        }
        Ok(())
    }
}

/// The side that connected. A peer that DNS-SD has found is shown a proof of the site key, every other a ticket.
pub(crate) async fn greet(
    shared: &Shared,
    connection: Connection,
    kind: SourceKind,
    content: ContentId,
    layout: Layout,
    have: Bitmap,
) -> Result<Admitted, Refused> {
    let (peer, address, local) = (connection.peer(), connection.remote(), connection.local());
    let (path, encrypted) = (connection.path(), connection.is_encrypted());
    let (binding, own) = (*connection.binding(), shared.identity.peer());
    let meeting = Meeting { binding, own_side: Side::Dialled, content, own, peer, address };
    let (credential, own_place) = match kind {
        SourceKind::LinkLocal => (meeting.prove(shared)?, None),
        _ => {
            let own = shared.tickets.get(content).ok_or(Refused::NoTicket)?;
            (Credential::Ticket(own.bytes), Some(own.place))
        }
    };
    shared.governor.upload(path.clone(), address);
    let (mut reader, mut writer) = connection.split();
    let own = Self_ { content, layout, have: &have };
    say(&mut writer, &hello(&own, credential)).await?;
    let theirs = read_hello(&mut reader).await?;
    if theirs.content != content || theirs.layout != layout {
        return Err(Refused::OtherContent);
    }
    let place = match (kind, &theirs.site) {
        (SourceKind::LinkLocal, Some(proof)) => {
            meeting.check(shared, proof)?;
            None
        }
        (SourceKind::LinkLocal, None) => return Err(Refused::Site("there is none")),
        _ => Some(check_ticket(shared, peer, content, &theirs.ticket)?.place),
    };
    // Both ends go by the two tickets: what discovery said may be older than either.
    let kind = own_place.zip(place).map_or(kind, |(own, theirs)| kind_in(own.meets(&theirs)));
    Ok(Admitted {
        peer,
        address,
        local,
        path,
        kind,
        place,
        dialled: true,
        relayed: false,
        encrypted,
        have: theirs.have,
        told: have,
        reader,
        writer,
    })
}

/// Least rate at which a peer must give the piece map, in bytes a second: another source may do better.
const MAP_RATE: u32 = 32 << 10;

/// Fetches the piece map from a peer, for when the coordinator cannot give it. The connection is used for nothing else.
pub(crate) async fn fetch_map(
    shared: &Shared,
    connection: Connection,
    kind: SourceKind,
    content: ContentId,
    layout: Layout,
) -> Result<PieceMap, Refused> {
    let size = u32::try_from(PieceMap::byte_len(layout)).unwrap_or(u32::MAX);
    let patience = 2 * HELLO_TIMEOUT + Duration::from_secs(u64::from(size / MAP_RATE));
    timeout(patience, fetch_whole_map(shared, connection, kind, content, layout))
        .await
        .unwrap_or(Err(Refused::SlowMap(patience)))
}

async fn fetch_whole_map(
    shared: &Shared,
    connection: Connection,
    kind: SourceKind,
    content: ContentId,
    layout: Layout,
) -> Result<PieceMap, Refused> {
    let nothing = Bitmap::for_layout(layout);
    let admitted = greet(shared, connection, kind, content, layout, nothing).await?;
    let (mut reader, mut writer) = (admitted.reader, admitted.writer);
    let whole = PieceMap::byte_len(layout);
    let mut bytes = Vec::with_capacity(whole);
    while bytes.len() < whole {
        let offset = bytes.len() as u32;
        let len = peerage_wire::MAX_MAP_PART.min((whole - bytes.len()) as u32);
        say(&mut writer, &Message::GetMap { offset, len }).await?;
        loop {
            match timeout(HELLO_TIMEOUT, reader.next()).await {
                Ok(Ok(Incoming::Message(Message::Map { offset: at, bytes: part })))
                    if at == offset && !part.is_empty() && part.len() <= len as usize =>
                {
                    bytes.extend_from_slice(&part);
                    break;
                }
                Ok(Ok(Incoming::Message(
                    Message::Have(_)
                    | Message::Unchoke
                    | Message::Choke
                    | Message::Fetching { .. }
                    | Message::Withheld(_)
                    | Message::Ping,
                ))) => {}
                _ => return Err(Refused::ByPeer),
            }
        }
    }
    let _ = say(&mut writer, &Message::Bye(peerage_wire::ByeReason::Stopped)).await;
    PieceMap::from_bytes(&bytes, content).map_err(|_| Refused::OtherContent)
}

/// The side that was connected to. On success the caller hands the connection to the content's actor.
pub(crate) async fn receive(
    shared: &Arc<Shared>,
    connection: Connection,
) -> Result<(crate::content::ContentHandle, Admitted), Refused> {
    let (peer, address, local) = (connection.peer(), connection.remote(), connection.local());
    let (path, encrypted) = (connection.path(), connection.is_encrypted());
    shared.governor.upload(path.clone(), address);
    let binding = *connection.binding();
    let (mut reader, mut writer) = connection.split();
    let checked = check_incoming(shared, peer, address, binding, &mut reader).await;
    match checked {
        Ok((handle, have, kind, place, credential)) => {
            let told = handle.content.have();
            let own = Self_ { content: handle.id, layout: handle.content.layout(), have: &told };
            say(&mut writer, &hello(&own, credential)).await?;
            let admitted = Admitted {
                peer,
                address,
                local,
                path,
                kind,
                place,
                dialled: false,
                relayed: false,
                encrypted,
                have,
                told,
                reader,
                writer,
            };
            Ok((handle, admitted))
        }
        Err(refused) => {
            // One answer for every reason: a stranger must not learn what is here.
            let _ = say(&mut writer, &Message::NOT_ADMITTED).await;
            let _ = writer.close().await;
            Err(refused)
        }
    }
}

/// What a peer is as a source that is met in this scope. For whoever connects to this device the tickets of both say which
/// one it is: its address does not, for private networks end at other offices too.
pub(crate) const fn kind_in(scope: Scope) -> SourceKind {
    match scope {
        Scope::Lan => SourceKind::Lan,
        Scope::Group => SourceKind::Group,
        Scope::Internet => SourceKind::Internet,
    }
}

type Checked = (crate::content::ContentHandle, Bitmap, SourceKind, Option<Place>, Credential);

async fn check_incoming(
    shared: &Arc<Shared>,
    peer: PeerId,
    address: SocketAddr,
    binding: [u8; 32],
    reader: &mut FrameReader,
) -> Result<Checked, Refused> {
    if shared.is_banned(&peer) {
        return Err(Refused::Banned);
    }
    let theirs = read_hello(reader).await?;
    let content = theirs.content;
    let meeting =
        Meeting { binding, own_side: Side::Listened, content, own: shared.identity.peer(), peer, address };
    let their_place = match &theirs.site {
        Some(proof) if theirs.ticket.is_empty() => {
            meeting.check(shared, proof)?;
            None
        }
        _ => Some(check_ticket(shared, peer, content, &theirs.ticket)?.place),
    };
    let way = if their_place.is_some() { Way::Named } else { Way::LinkLocal };
    let handle = shared.serve(content, way).await.ok_or(Refused::NotShared)?;
    if handle.content.layout() != theirs.layout {
        return Err(Refused::OtherContent);
    }
    if !shared.places.is_free(shared.max_connections()) {
        return Err(Refused::NotShared);
    }
    let (kind, credential) = match their_place {
        None => (SourceKind::LinkLocal, meeting.prove(shared)?),
        Some(place) => {
            let own = shared.own_ticket(content).await.ok_or(Refused::NoTicket)?;
            (kind_in(own.place.meets(&place)), Credential::Ticket(own.bytes))
        }
    };
    Ok((handle, theirs.have, kind, their_place, credential))
}
