//! DHCPINFORM (RFC 2131 §4.4.3): asks the servers of a link for our options, without taking a lease.
//!
//! The answer comes to port 68, so it can only be had with CAP_NET_BIND_SERVICE, and not while a client holds that port
//! for itself. Where that is so, it is told why and nothing else changes.
//!
//! The codec is our own: two messages with three options between them. The general one for this format (dhcproto) takes
//! the lengths that options should have for granted and panics on others.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::{Instant, timeout_at};

use super::{CACHE_HOST_OPTION, GROUP_OPTION, Offered, SCRIPT_OPTION};

const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
/// How long each question waits; servers of a link answer in milliseconds.
const PATIENCE: Duration = Duration::from_millis(1500);
const TRIES: u32 = 2;
/// Largest answer taken in: a frame of Ethernet.
const MAX_ANSWER: usize = 1500;

// RFC 2131 §2: the fixed part of a message, up to the cookie that begins the options.
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const ETHERNET: u8 = 1;
const FIXED: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
// RFC 2132.
const PAD: u8 = 0;
const MESSAGE_TYPE: u8 = 53;
const ACK: u8 = 5;
const INFORM: u8 = 8;
const PARAMETERS: u8 = 55;
const END: u8 = 255;

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
    let question = question(xid, own);
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

/// No hardware address: a server answers an inform to `ciaddr` (RFC 2131 §4.3.5) and keeps nothing of it.
fn question(xid: u32, own: Ipv4Addr) -> Vec<u8> {
    let wanted = [PARAMETERS, 3, GROUP_OPTION, CACHE_HOST_OPTION, SCRIPT_OPTION];
    let options = [&[MESSAGE_TYPE, 1, INFORM][..], &wanted, &[END]].concat();
    message(REQUEST, xid, own, &options)
}

/// A message: opcode, hardware type, its length and hops · xid · seconds and flags · `ciaddr` · zeroes · options.
fn message(opcode: u8, xid: u32, own: Ipv4Addr, options: &[u8]) -> Vec<u8> {
    let mut message = vec![opcode, ETHERNET, 6, 0];
    message.extend_from_slice(&xid.to_be_bytes());
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&own.octets());
    message.resize(FIXED, 0);
    message.extend_from_slice(&COOKIE);
    message.extend_from_slice(options);
    // Some servers drop what is shorter than BOOTP's 300 bytes.
    message.resize(message.len().max(300), PAD);
    message
}

/// What a server's answer to the question `xid` offers; `None`: it is no such answer.
pub fn parse_reply(bytes: &[u8], xid: u32) -> Option<Offered> {
    let (fixed, rest) = bytes.split_at_checked(FIXED)?;
    let answers = fixed.first() == Some(&REPLY) && fixed.get(4..8) == Some(&xid.to_be_bytes()[..]);
    let mut rest = rest.strip_prefix(&COOKIE).filter(|_| answers)?;
    let (mut kind, mut offered) = (None, Offered::default());
    while let Some((code, after)) = rest.split_first() {
        rest = match *code {
            PAD => after,
            END => break,
            code => {
                let (len, after) = after.split_first()?;
                let (value, after) = after.split_at_checked(usize::from(*len))?;
                match code {
                    MESSAGE_TYPE => kind = value.first().copied(),
                    // A value in several parts is longer than any that we take (RFC 3396): the first part stands.
                    GROUP_OPTION if offered.group.is_none() => offered.group = Some(value.to_vec()),
                    CACHE_HOST_OPTION if offered.cache_hosts.is_none() => {
                        offered.cache_hosts = Some(value.to_vec());
                    }
                    SCRIPT_OPTION if offered.script.is_none() => offered.script = Some(value.to_vec()),
                    _ => {}
                }
                after
            }
        };
    }
    (kind == Some(ACK)).then_some(offered)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reply(xid: u32, kind: u8, group: &[u8]) -> Vec<u8> {
        let mut options =
            vec![PAD, MESSAGE_TYPE, 1, kind, 1, 4, 255, 255, 255, 0, GROUP_OPTION, group.len() as u8];
        options.extend_from_slice(group);
        options.push(END);
        message(REPLY, xid, Ipv4Addr::UNSPECIFIED, &options)
    }

    #[test]
    fn only_the_answer_to_the_question() {
        let good = parse_reply(&reply(7, ACK, b"Paris"), 7).unwrap();
        assert_eq!(good, Offered { group: Some(b"Paris".to_vec()), ..Offered::default() });
        assert_eq!(parse_reply(&reply(8, ACK, b"Paris"), 7), None);
        assert_eq!(parse_reply(&reply(7, 6, b"Paris"), 7), None);
        assert_eq!(parse_reply(&question(7, Ipv4Addr::LOCALHOST), 7), None, "our own");
        let cut = reply(7, ACK, b"Paris");
        assert_eq!(parse_reply(&cut[..FIXED + 4 + 15], 7), None, "an option that ends early");
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
            let mut changed = reply(xid, ACK, b"a group");
            let at = at.index(changed.len());
            changed[at] ^= bytes.first().copied().unwrap_or(0xff);
            changed.truncate(changed.len() - bytes.len().min(changed.len()) / 8);
            let _ = parse_reply(&changed, xid);
        }
    }
}
