//! The addresses of one device, packed: 7 bytes for IPv4 and 19 for IPv6 instead of 32 for either; a few of them need no
//! memory of their own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes that fit into the list itself: three IPv4 addresses, or one IPv6 address.
const SHORT: usize = 22;

/// A packed list of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packed {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Box<[u8]>),
}

const _: () = assert!(size_of::<Packed>() <= 24);

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
        let mut short = [0; SHORT];
        match (short.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(&bytes);
                Self::Short { len, bytes: short }
            }
            _ => Self::Long(bytes.into()),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }

    pub(super) fn iter(&self) -> Unpack<'_> {
        Unpack(self.bytes())
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
        for some in [&list[..0], &list[..1], &list[1..2], &list] {
            let packed = Packed::new(some);
            assert_eq!(packed.iter().collect::<Vec<_>>(), some);
            assert_eq!(packed, Packed::new(some));
            assert_eq!(matches!(packed, Packed::Short { .. }), some.len() < 2);
        }
        assert_eq!(Packed::new(&list).bytes().len(), 7 + 19 + 7);
    }
}
