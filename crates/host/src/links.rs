//! Network interfaces, their addresses and default routes, asked of the kernel by rtnetlink (rtnetlink(7)).
//!
//! Answers are taken message by message: one that this version does not understand costs itself alone.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use peerage_policy::{Interface, InterfaceAddress, LinkKind};

use crate::error::HostError;

/// A list that changed while it was read is read again, so often.
const TRIES: usize = 5;
/// Interfaces, addresses and routes beyond this many are not looked at: a device with more is a router of the Internet's core.
const MAX_MESSAGES: usize = 100_000;

/// The interfaces that are up, in the kernel's order, with their IP addresses (none for one without).
///
/// # Errors
/// The kernel does not list them.
pub fn interfaces() -> Result<Vec<Interface>, HostError> {
    read().map_err(|source| HostError::Interfaces { reason: source.to_string() })
}

fn read() -> io::Result<Vec<Interface>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut found: Vec<(u32, Interface)> = Vec::new();
    for message in list(&socket, RouteNetlinkMessage::GetLink(LinkMessage::default()))? {
        if let RouteNetlinkMessage::NewLink(link) = message
            && link.header.flags.contains(LinkFlags::Up)
        {
            found.push((link.header.index, interface(link)));
        }
    }
    for message in list(&socket, RouteNetlinkMessage::GetAddress(AddressMessage::default()))? {
        if let RouteNetlinkMessage::NewAddress(message) = message
            && let Some(address) = address(&message)
            && let Some((_, interface)) = found.iter_mut().find(|(index, _)| *index == message.header.index)
        {
            interface.addresses.push(address);
        }
    }
    for message in list(&socket, RouteNetlinkMessage::GetRoute(RouteMessage::default()))? {
        if let RouteNetlinkMessage::NewRoute(route) = message {
            let through = default_route(&route);
            for (_, interface) in found.iter_mut().filter(|(index, _)| through.contains(index)) {
                interface.default_route = true;
            }
        }
    }
    Ok(found.into_iter().map(|(_, interface)| interface).collect())
}

/// Asks for a whole list.
fn list(socket: &Socket, question: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
    for number in 1..=TRIES {
        if let Some(answers) = dump(socket, question.clone(), number as u32)? {
            return Ok(answers);
        }
    }
    Err(io::Error::other("the list of the kernel kept changing while it was read"))
}

/// Asks for a list once; `None`: it changed meanwhile.
fn dump(
    socket: &Socket,
    question: RouteNetlinkMessage,
    number: u32,
) -> io::Result<Option<Vec<RouteNetlinkMessage>>> {
    let mut request = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(question));
    request.header.flags = NLM_F_DUMP | NLM_F_REQUEST;
    request.header.sequence_number = number;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let (mut answers, mut whole) = (Vec::new(), true);
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while let Some(length) = length(rest) {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest);
            // Messages are padded to four bytes.
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            let Ok(message) = message else { continue };
            if message.header.sequence_number != number {
                continue;
            }
            whole &= message.header.flags & NLM_F_DUMP_INTR == 0;
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(whole.then_some(answers)),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(message) if answers.len() < MAX_MESSAGES => {
                    answers.push(message)
                }
                _ => {}
            }
        }
    }
}

/// The length of the first message of `bytes`, as its header tells; `None`: there is none.
fn length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.first_chunk().map(|length| u32::from_ne_bytes(*length))?;
    usize::try_from(length).ok().filter(|length| (16..=bytes.len()).contains(length))
}

fn interface(link: LinkMessage) -> Interface {
    let mut interface =
        Interface { loopback: link.header.flags.contains(LinkFlags::Loopback), ..Interface::default() };
    let layer = link.header.link_layer_type;
    if layer == LinkLayerType::Ppp {
        interface.kind = LinkKind::Ppp;
    }
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name = name,
            LinkAttribute::IfAlias(alias) => interface.alias = Some(alias).filter(|alias| !alias.is_empty()),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(InfoKind::Wireguard) => interface.kind = LinkKind::Wireguard,
                        // A tap device is of the same kind and carries Ethernet.
                        LinkInfo::Kind(InfoKind::Tun) if layer != LinkLayerType::Ether => {
                            interface.kind = LinkKind::Tun;
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    interface
}

fn address(message: &AddressMessage) -> Option<InterfaceAddress> {
    // One that is being checked for duplicates cannot be used yet (RFC 4862 §5.4); its end is an event of its own.
    let unusable = AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed;
    if message.header.flags.intersects(unusable) {
        return None;
    }
    let of = |pick: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(pick);
    // On a point-to-point link the other address is the far end's.
    let local = of(|attribute| match attribute {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    let ip = local.or_else(|| {
        of(|attribute| match attribute {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        })
    })?;
    Some(InterfaceAddress { ip, prefix: message.header.prefix_len })
}

/// The interfaces that a default route of the main table leads through.
fn default_route(route: &RouteMessage) -> Vec<u32> {
    let header = &route.header;
    let is_default = header.destination_prefix_length == 0
        && header.table == RouteHeader::RT_TABLE_MAIN
        && header.kind == RouteType::Unicast;
    if !is_default {
        return Vec::new();
    }
    let through = route.attributes.iter().flat_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => vec![*index],
        RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
        _ => Vec::new(),
    });
    through.collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_loopback_of_this_device_is_listed_once_with_its_subnet() {
        let found = interfaces().unwrap();
        let loopbacks: Vec<_> = found.iter().filter(|interface| interface.loopback).collect();
        assert_eq!(loopbacks.len(), 1, "{found:?}");
        let local = InterfaceAddress { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), prefix: 8 };
        assert!(loopbacks[0].addresses.contains(&local), "{found:?}");
        assert_eq!((loopbacks[0].kind, loopbacks[0].default_route), (LinkKind::Plain, false));
        let mut names: Vec<_> = found.iter().map(|interface| &interface.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), found.len(), "each interface once");
    }

    #[test]
    fn lengths_beyond_the_bytes_are_none() {
        let told = |length: u32, bytes: usize| {
            let mut datagram = length.to_ne_bytes().to_vec();
            datagram.resize(bytes, 0);
            super::length(&datagram)
        };
        assert_eq!((told(16, 16), told(20, 24)), (Some(16), Some(20)));
        for (length, bytes) in [(0, 16), (15, 16), (17, 16), (u32::MAX, 64)] {
            assert_eq!(told(length, bytes), None);
        }
        assert_eq!(super::length(&[1, 2, 3]), None);
    }
}
