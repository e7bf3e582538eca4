//! The addresses of one member, packed: 7 bytes for IPv4 and 19 for IPv6 instead of 32 for either.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A packed list of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Packed(Box<[u8]>);

impl Packed {
    pub(super) fn new(addresses: &[SocketAddr]) -> Self {
        let mut bytes = Vec::with_capacity(addresses.len() * 7);
        for address in addresses {
            match address.ip() {
                IpAddr::V4(ip) => {
                    bytes.push(4);
                    bytes.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    bytes.push(6);
                    bytes.extend_from_slice(&ip.octets());
                }
            }
            bytes.extend_from_slice(&address.port().to_be_bytes());
        }
        Self(bytes.into())
    }

    pub(super) fn iter(&self) -> Unpack<'_> {
        Unpack(&self.0)
    }
}

/// The addresses of a packed list.
#[derive(Debug, Clone)]
pub(super) struct Unpack<'a>(&'a [u8]);

impl Unpack<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }
}

impl Iterator for Unpack<'_> {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        let ip: IpAddr = match self.take::<1>()? {
            [4] => Ipv4Addr::from(self.take::<4>()?).into(),
            _ => Ipv6Addr::from(self.take::<16>()?).into(),
        };
        Some(SocketAddr::new(ip, u16::from_be_bytes(self.take()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let list: Vec<SocketAddr> = ["10.0.0.1:7680", "[2001:db8::1]:1", "127.0.0.1:65535"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let packed = Packed::new(&list);
        assert_eq!(packed.iter().collect::<Vec<_>>(), list);
        assert_eq!(packed.0.len(), 7 + 19 + 7);
        assert_eq!(Packed::new(&[]).iter().count(), 0);
    }
}
