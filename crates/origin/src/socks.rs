//! SOCKS5 proxies (RFC 1928, RFC 1929): from a connection to the proxy to one to the host behind it.

use std::future::ready;
use std::io;
use std::str::FromStr as _;

use http::Uri;
use http::uri::Scheme;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::proxy::SocksV5;
use hyper_util::rt::TokioIo;
use tower::ServiceExt as _;

use crate::line::Line;
use crate::proxy::Proxy;
use crate::resolve::Names;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Where these proxies listen unless said otherwise (RFC 1928 §3).
pub(crate) const PORT: u16 = 1080;

/// The proxy did not let us through.
#[derive(Debug, thiserror::Error)]
#[error("the proxy {proxy} did not connect to {to}: {cause}")]
struct NotThrough {
    proxy: Uri,
    to: Uri,
    cause: String,
}

/// Asks the proxy at the other end of `line` for a connection to the host of `to`.
///
/// With `socks5://` the name is resolved here, with `socks5h://` by the proxy, as curl has made these schemes known.
pub(crate) async fn through(line: Line, proxy: &Proxy, to: &Uri, names: Names) -> Result<Line, BoxError> {
    let target = target(to, proxy.uri.scheme_str() == Some("socks5"), names).await?;
    // The connection is there already: the handshake alone is wanted.
    let mut line = Some(TokioIo::new(line));
    let once = tower::service_fn(move |_: Uri| {
        ready(line.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
    });
    let mut socks = SocksV5::new(proxy.uri.clone(), once);
    if let Some((user, password)) = proxy.password() {
        socks = socks.with_auth(user.to_owned(), password.to_owned());
    }
    let not_through = |cause| NotThrough { proxy: proxy.uri.clone(), to: target.clone(), cause };
    let line = socks.oneshot(target.clone()).await.map_err(|error| not_through(error.to_string()))?;
    Ok(line.into_inner())
}

/// Host and port as the proxy is to be told them.
async fn target(to: &Uri, resolve_here: bool, names: Names) -> Result<Uri, BoxError> {
    let default = if to.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    let (host, port) = (to.host().unwrap_or_default(), to.port_u16().unwrap_or(default));
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_address = bare.parse::<std::net::IpAddr>().is_ok();
    let authority = if resolve_here && !is_address {
        let found = names.oneshot(Name::from_str(host)?).await?.next();
        let mut found = found.ok_or_else(|| io::Error::other(format!("{host:?} has no address")))?;
        found.set_port(port);
        found.to_string()
    } else {
        format!("{host}:{port}")
    };
    Ok(Uri::builder().scheme("socks5").authority(authority).path_and_query("/").build()?)
}
