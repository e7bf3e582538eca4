//! DHCPINFORM (RFC 2131 §4.4.3): asks the servers of a link for the two options, without taking a lease.
//!
//! The answer comes to port 68, so it can only be had with CAP_NET_BIND_SERVICE, and not while a client holds that port
//! for itself. Where that is so, it is told why and nothing else changes.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable as _, Decoder, Encodable as _};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::{Instant, timeout_at};

use super::{CACHE_HOST_OPTION, GROUP_OPTION, Offered};

const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
/// How long each question waits; servers of a link answer in milliseconds.
const PATIENCE: Duration = Duration::from_millis(1500);
const TRIES: u32 = 2;
/// Largest answer taken in: a frame of Ethernet.
const MAX_ANSWER: usize = 1500;

/// Asks on one interface, in the name of the address that it has.
pub(super) async fn ask(interface: &str, own: Ipv4Addr) -> Result<Offered, String> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("asking on {interface} needs CAP_NET_BIND_SERVICE for port {CLIENT_PORT}")
        }
        io::ErrorKind::AddrInUse => {
            format!("asking on {interface} needs port {CLIENT_PORT}, which a DHCP client holds")
        }
        _ => format!("asking on {interface} failed: {error}"),
    };
    let socket = open(interface).map_err(failed)?;
    let mut noise = [0; 4];
    getrandom::fill(&mut noise).map_err(|error| format!("no randomness for a question: {error}"))?;
    let xid = u32::from_le_bytes(noise);
    let question = question(xid, own).map_err(|error| format!("asking on {interface} failed: {error}"))?;
    let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT);
    let mut answer = [0; MAX_ANSWER];
    for _ in 0..TRIES {
        socket.send_to(&question, everybody).await.map_err(failed)?;
        let until = Instant::now() + PATIENCE;
        while let Ok(received) = timeout_at(until, socket.recv_from(&mut answer)).await {
            let (len, from) = received.map_err(failed)?;
            let bytes = answer.get(..len).unwrap_or_default();
            if from.port() == SERVER_PORT
                && let Some(offered) = parse_reply(bytes, xid)
            {
                return Ok(offered);
            }
        }
    }
    Err(format!("no server answers on {interface}"))
}

fn open(interface: &str) -> io::Result<tokio::net::UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_broadcast(true)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, CLIENT_PORT)).into())?;
    tokio::net::UdpSocket::from_std(UdpSocket::from(socket))
}

fn question(xid: u32, own: Ipv4Addr) -> Result<Vec<u8>, dhcproto::error::EncodeError> {
    let none = Ipv4Addr::UNSPECIFIED;
    // No hardware address: a server answers an inform to `ciaddr` (RFC 2131 §4.3.5) and keeps nothing of it.
    let mut message = Message::new_with_id(xid, own, none, none, none, &[0; 6]);
    message.set_opcode(Opcode::BootRequest).set_flags(Flags::default());
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(MessageType::Inform));
    let wanted = [GROUP_OPTION, CACHE_HOST_OPTION].map(OptionCode::from);
    options.insert(DhcpOption::ParameterRequestList(wanted.to_vec()));
    message.to_vec()
}

/// What a server's answer to the question `xid` offers; `None`: it is no such answer.
pub fn parse_reply(bytes: &[u8], xid: u32) -> Option<Offered> {
    let message = Message::decode(&mut Decoder::new(bytes)).ok()?;
    let acknowledged = message.opts().has_msg_type(MessageType::Ack);
    if message.opcode() != Opcode::BootReply || message.xid() != xid || !acknowledged {
        return None;
    }
    let mut offered = Offered::default();
    for code in [GROUP_OPTION, CACHE_HOST_OPTION] {
        if let Some(DhcpOption::Unknown(option)) = message.opts().get(OptionCode::from(code)) {
            offered.take(code, option.data().to_vec());
        }
    }
    Some(offered)
}

#[cfg(test)]
mod tests {
    use dhcproto::v4::UnknownOption;
    use proptest::prelude::*;

    use super::*;

    fn reply(xid: u32, kind: MessageType, group: &[u8]) -> Vec<u8> {
        let none = Ipv4Addr::UNSPECIFIED;
        let mut message = Message::new_with_id(xid, none, none, none, none, &[0; 6]);
        message.set_opcode(Opcode::BootReply);
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        let option = UnknownOption::new(OptionCode::from(GROUP_OPTION), group.to_vec());
        message.opts_mut().insert(DhcpOption::Unknown(option));
        message.to_vec().unwrap()
    }

    #[test]
    fn only_the_answer_to_the_question() {
        let good = parse_reply(&reply(7, MessageType::Ack, b"Paris"), 7).unwrap();
        assert_eq!(good, Offered { group: Some(b"Paris".to_vec()), cache_hosts: None });
        assert_eq!(parse_reply(&reply(8, MessageType::Ack, b"Paris"), 7), None);
        assert_eq!(parse_reply(&reply(7, MessageType::Nak, b"Paris"), 7), None);
        assert_eq!(parse_reply(&question(7, Ipv4Addr::LOCALHOST).unwrap(), 7), None, "our own");
        assert_eq!(parse_reply(b"", 7), None);
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            at in any::<prop::sample::Index>(),
            xid in any::<u32>(),
        ) {
            let _ = parse_reply(&bytes, xid);
            let mut changed = reply(xid, MessageType::Ack, b"a group");
            let at = at.index(changed.len());
            changed[at] ^= bytes.first().copied().unwrap_or(0xff);
            changed.truncate(changed.len() - bytes.len().min(changed.len()) / 8);
            let _ = parse_reply(&changed, xid);
        }
    }
}
