//! Name resolution behind a seam, so that a test can answer 127.0.0.1 for any name, and a guarded fetch can be held
//! to the addresses that were judged.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// A look-up under way.
pub type Lookup = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Answers names with addresses.
pub trait Resolver: Send + Sync + fmt::Debug {
    /// The addresses of `host`, a name without brackets or port.
    fn lookup(&self, host: &str) -> Lookup;
}

/// The system's resolver (`getaddrinfo`: hosts file, DNS, what nsswitch says).
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn lookup(&self, host: &str) -> Lookup {
        let host = host.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

// Port 0 stands for the one that the URL or its scheme says.
fn addresses(ips: Vec<IpAddr>) -> Addrs {
    Box::new(ips.into_iter().map(|ip| SocketAddr::new(ip, 0)))
}

/// A [`Resolver`] as the HTTP client wants it.
pub(crate) struct Shared(pub(crate) Arc<dyn Resolver>);

impl Resolve for Shared {
    fn resolve(&self, name: Name) -> Resolving {
        let lookup = self.0.lookup(name.as_str());
        Box::pin(async move { Ok(addresses(lookup.await?)) })
    }
}

/// Answers every look-up with the same addresses: the HTTP client that holds it connects nowhere else.
pub(crate) struct Pinned(pub(crate) Vec<IpAddr>);

impl Resolve for Pinned {
    fn resolve(&self, _: Name) -> Resolving {
        let ips = self.0.clone();
        Box::pin(async move { Ok::<_, BoxError>(addresses(ips)) })
    }
}
