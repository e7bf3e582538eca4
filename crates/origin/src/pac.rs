//! Proxy auto-configuration: a script says which proxies lead to a host.
//!
//! The script is foreign, and may come from the network. It runs in an engine of its own for each question, which has no
//! file, socket or module, and limited memory, stack and time; of the device it can learn names' addresses and the own
//! address, a few times. It is never told more of a URL than scheme, host and port: paths and queries may be secrets.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rquickjs::context::EvalOptions;
use rquickjs::{CatchResultExt as _, Context, Ctx, Function, Runtime};

use crate::socks;

/// Longest script, in bytes.
pub const MAX_SCRIPT: usize = 1 << 20;
/// Bytes that the engine may allocate; an empty one needs a few hundred KiB.
const MEMORY: usize = 16 << 20;
const STACK: usize = 256 << 10;
/// Time for one question. Look-ups of names are bounded by themselves and counted in.
const TIME: Duration = Duration::from_secs(2);
/// Names that one question may look up.
const LOOKUPS: u32 = 8;
/// Routes read of an answer.
const MAX_HOPS: usize = 8;
/// Characters of an answer that are read.
const MAX_ANSWER: usize = 4096;

const PRELUDE: &str = include_str!("pac/prelude.js");

/// One way that a script names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hop {
    /// No proxy.
    Direct,
    /// The proxy with this URL: `http://HOST:PORT`, `https://HOST:PORT`, or `socks5h://HOST:PORT`, which resolves names
    /// itself.
    Proxy(String),
}

/// A script has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PacError {
    /// It is too long.
    #[error("the script has {found} bytes, allowed are {MAX_SCRIPT}")]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// It does not run: a mistake in it, or a limit of memory or time.
    #[error("the script failed: {0}")]
    Script(String),
    /// It names no way that can be gone.
    #[error(
        "the script answers {0:?}, allowed are PROXY, HTTP, HTTPS, SOCKS and SOCKS5 with HOST:PORT, and DIRECT"
    )]
    Answer(String),
}

/// Asks `script` for the ways to a host. Blocking, for up to two seconds and the time of its look-ups.
///
/// `url` is what the script is told: scheme, host and port. `resolve` answers names for the script's `dnsResolve`.
///
/// # Errors
/// [`PacError`].
pub fn find(
    script: &str,
    url: &str,
    host: &str,
    resolve: impl Fn(&str) -> Option<IpAddr> + 'static,
) -> Result<Vec<Hop>, PacError> {
    if script.len() > MAX_SCRIPT {
        return Err(PacError::TooLong { found: script.len() });
    }
    let failed = |error: rquickjs::Error| PacError::Script(error.to_string());
    let runtime = Runtime::new().map_err(failed)?;
    runtime.set_memory_limit(MEMORY);
    runtime.set_max_stack_size(STACK);
    let end = Instant::now() + TIME;
    runtime.set_interrupt_handler(Some(Box::new(move || Instant::now() >= end)));
    let context = Context::full(&runtime).map_err(failed)?;
    let answer = context.with(|js| answer(&js, script, url, host, resolve))?;
    hops(&answer)
}

fn answer(
    js: &Ctx<'_>,
    script: &str,
    url: &str,
    host: &str,
    resolve: impl Fn(&str) -> Option<IpAddr> + 'static,
) -> Result<String, PacError> {
    let run = || -> rquickjs::Result<String> {
        let left = Rc::new(Cell::new(LOOKUPS));
        let lookup = move |name: String| {
            let left_now = left.get().checked_sub(1)?;
            left.set(left_now);
            let literal = name.parse().ok();
            literal.or_else(|| resolve(&name)).map(|ip: IpAddr| ip.to_string())
        };
        js.globals().set("lookUp", Function::new(js.clone(), lookup)?)?;
        js.globals().set("myIpAddress", Function::new(js.clone(), || own_address().to_string())?)?;
        js.eval::<(), _>(PRELUDE)?;
        let mut options = EvalOptions::default();
        // Written for browsers of all ages.
        options.strict = false;
        js.eval_with_options::<(), _>(script, options)?;
        let find: Function<'_> = js.globals().get("FindProxyForURL")?;
        find.call((url, host))
    };
    run().catch(js).map_err(|error| PacError::Script(error.to_string().chars().take(300).collect()))
}

/// The address that this device speaks from to the Internet; nothing is sent to find out.
fn own_address() -> IpAddr {
    let asked = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // An address for documentation (RFC 5737): any that the default route leads to.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    };
    asked().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address: std::net::SocketAddr| address.ip())
}

/// Reads a script's answer: `PROXY a:8080; SOCKS5 b:1080; DIRECT`. `SOCKS` is version 5. Ways of a kind that is unknown
/// here (SOCKS4) are left out.
///
/// # Errors
/// [`PacError::Answer`]: none is left.
pub fn hops(answer: &str) -> Result<Vec<Hop>, PacError> {
    let refused = || PacError::Answer(answer.chars().take(120).collect());
    if answer.len() > MAX_ANSWER {
        return Err(refused());
    }
    let hops: Vec<Hop> = answer.split(';').filter_map(hop).take(MAX_HOPS).collect();
    if hops.is_empty() { Err(refused()) } else { Ok(hops) }
}

fn hop(text: &str) -> Option<Hop> {
    let mut words = text.split_ascii_whitespace();
    let (kind, place) = (words.next()?.to_ascii_uppercase(), words.next());
    let (scheme, default_port) = match kind.as_str() {
        "DIRECT" if place.is_none() => return Some(Hop::Direct),
        "PROXY" | "HTTP" => ("http", 80),
        "HTTPS" => ("https", 443),
        "SOCKS" | "SOCKS5" => ("socks5h", socks::PORT),
        _ => return None,
    };
    let (host, port) = place_of(place?)?;
    if words.next().is_some() {
        return None;
    }
    Some(Hop::Proxy(format!("{scheme}://{host}:{}", port.unwrap_or(default_port))))
}

/// Host and port of `HOST[:PORT]`, judged as those of an HTTP URL are.
fn place_of(text: &str) -> Option<(String, Option<u16>)> {
    let url = url::Url::parse(&format!("http://{text}")).ok()?;
    let plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let bare = url.username().is_empty() && url.password().is_none();
    // A port that is the scheme's own is not told: the other scheme does.
    let port = url.port().or_else(|| url::Url::parse(&format!("https://{text}")).ok()?.port());
    (plain && bare).then_some((url.host()?.to_string(), port))
}

#[cfg(test)]
mod tests;
