//! Name resolution behind a seam, so that a test can answer 127.0.0.1 for any name, and a guarded fetch can be held
//! to the addresses that were judged.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use tower::Service;

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

/// Where the HTTP client's connector gets addresses from.
#[derive(Clone)]
pub(crate) enum Names {
    /// A [`Resolver`].
    Asked(Arc<dyn Resolver>),
    /// The same addresses for every name: the HTTP client that holds them connects nowhere else.
    Pinned(Vec<IpAddr>),
}

/// A name has no address. Tells this from other ways in which a connection can fail.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct NoAddress(io::Error);

impl Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = NoAddress;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, NoAddress>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NoAddress>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        // Port 0 stands for the one that the URL or its scheme says.
        let addresses = |ips: Vec<IpAddr>| {
            ips.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect::<Vec<_>>().into_iter()
        };
        match self {
            Self::Asked(resolver) => {
                let lookup = resolver.lookup(name.as_str());
                Box::pin(async move { lookup.await.map(addresses).map_err(NoAddress) })
            }
            Self::Pinned(ips) => {
                let found = addresses(ips.clone());
                Box::pin(async move { Ok(found) })
            }
        }
    }
}
