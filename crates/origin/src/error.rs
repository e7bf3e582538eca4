//! What can go wrong with an origin. An error is plain data: it can be cloned, compared, kept as a reason for
//! `peerage why`; and it never holds a secret: the URL stands in it without userinfo and query.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use hyper_util::client::legacy;

use crate::resolve::NoAddress;
use crate::{Refusal, SourceUrl, UrlError};

/// What failed, and at which URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url}: {failure}")]
pub struct OriginError {
    /// The URL of the hop that failed, redacted.
    pub url: String,
    /// What failed.
    pub failure: Failure,
}

/// One variant for each thing that can fail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The name was not resolved.
    #[error("could not resolve {host:?}: {cause}")]
    Dns {
        /// The name.
        host: String,
        /// What the resolver said.
        cause: String,
    },
    /// No connection.
    #[error("could not connect: {cause}")]
    Connect {
        /// Why.
        cause: String,
    },
    /// No TLS session: certificate, version, or no TLS at all on the other side.
    #[error("tls failed: {cause}")]
    Tls {
        /// Why.
        cause: String,
    },
    /// Connected, then nothing for too long.
    #[error("no progress within {after:?}")]
    NoProgress {
        /// The time-out.
        after: Duration,
    },
    /// The connection broke.
    #[error("connection broke at byte {at}: {cause}")]
    Broken {
        /// Position in the file that the body had reached.
        at: u64,
        /// Why.
        cause: String,
    },
    /// The body ended too early.
    #[error("body ended at byte {at}, announced were bytes up to {end}")]
    Short {
        /// Position in the file that was reached.
        at: u64,
        /// Position announced.
        end: u64,
    },
    /// The origin cannot answer now (408, 425, 429, most of 5xx).
    #[error("origin answers {status}: not now")]
    Busy {
        /// The HTTP status.
        status: u16,
        /// What its `Retry-After` asks for.
        retry_after: Option<Duration>,
    },
    /// The file is not there (404, 410).
    #[error("origin answers {status}: not there")]
    Gone {
        /// The HTTP status.
        status: u16,
    },
    /// The origin does not give it to us (401, 402, 403, 451).
    #[error("origin answers {status}: not allowed")]
    Denied {
        /// The HTTP status.
        status: u16,
    },
    /// A proxy on the way wants to know who asks (407, RFC 9110 §15.5.8).
    #[error(
        "the proxy{} answers 407: it wants a user name and a password (proxy_credentials, or in the URL of proxy), or does \
         not take the ones that it was given",
        named(proxy)
    )]
    ProxyLogin {
        /// Which, without its password; `None`: one that nobody has named here.
        proxy: Option<String>,
    },
    /// No connection through a proxy: it, or what lies behind it, cannot be reached.
    #[error("could not connect through the proxy {proxy}: {cause}")]
    ProxyConnect {
        /// Which, without its password.
        proxy: String,
        /// Why.
        cause: String,
    },
    /// A status that makes no sense here.
    #[error("origin answers {status} to a request for bytes")]
    Status {
        /// The HTTP status.
        status: u16,
    },
    /// The whole file came where a part was asked for (200 in place of 206, RFC 9110 §14.2).
    #[error("origin, or a proxy on the way to it, ignores ranges and sends the whole file")]
    NoRanges,
    /// The range starts behind the end of the file (416).
    #[error("origin has no bytes from {from} on, it says the file has {size:?} bytes")]
    OutOfRange {
        /// First byte asked for.
        from: u64,
        /// Size by its `Content-Range`.
        size: Option<u64>,
    },
    /// The origin now serves another file than before.
    #[error("file changed at the origin: {what} is {found:?}, was {known:?}")]
    Changed {
        /// Which validator.
        what: &'static str,
        /// What it says now.
        found: String,
        /// What was known.
        known: String,
    },
    /// Redirected too often.
    #[error("more than {limit} redirects")]
    Redirects {
        /// How many are followed.
        limit: usize,
    },
    /// A redirect without a `Location` that can be followed.
    #[error("redirected to nowhere: {0}")]
    Location(UrlError),
    /// What came is not HTTP, or its head is larger than allowed.
    #[error("answer is not readable http: {cause}")]
    Malformed {
        /// Why.
        cause: String,
    },
    /// A header that matters is unusable.
    #[error("header {name} is {found:?}: {why}")]
    Header {
        /// Which.
        name: String,
        /// Its value, cut to 128 characters.
        found: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The range that came is not the one asked for.
    #[error("asked for bytes {from} to {to:?}, got bytes {start} to {end}")]
    WrongRange {
        /// First byte asked for.
        from: u64,
        /// The byte after the last asked for.
        to: Option<u64>,
        /// First byte announced.
        start: u64,
        /// The byte after the last announced.
        end: u64,
    },
    /// The body is longer than announced.
    #[error("body goes on behind byte {end}, where it was announced to end")]
    TooLong {
        /// Position announced.
        end: u64,
    },
    /// The caller asked for nothing.
    #[error("range from {from} to {to} is empty")]
    EmptyRange {
        /// First byte.
        from: u64,
        /// The byte after the last.
        to: u64,
    },
    /// The guard of on-demand fetches said no.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
}

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Try again: after `delay` if the origin named one, else after the caller's own back-off.
    Later {
        /// What the origin asks for.
        delay: Option<Duration>,
    },
    /// The file is not there; another source may have it.
    Gone,
    /// The origin does not give it to this client.
    Denied,
    /// A proxy on the way lets nothing through: that says nothing of the origin, nor of the file.
    Proxy,
    /// It is another file now: what was fetched before does not go with what would come.
    Stale,
    /// Against the rules of on-demand fetches; the message names the setting.
    Refused,
    /// No trusted TLS session: a matter of certificates, not of time.
    Tls,
    /// The name does not resolve here.
    Dns,
    /// The host is not reachable.
    Connect,
    /// The origin does not speak HTTP as agreed, or the request made no sense.
    Protocol,
}

impl OriginError {
    pub(crate) fn new(url: &SourceUrl, failure: impl Into<Failure>) -> Self {
        Self { url: url.to_string(), failure: failure.into() }
    }

    /// Whether it is a proxy on the way that failed.
    pub const fn is_of_proxy(&self) -> bool {
        matches!(self.failure, Failure::ProxyLogin { .. } | Failure::ProxyConnect { .. })
    }

    /// What to do about it.
    pub const fn kind(&self) -> ErrorKind {
        match &self.failure {
            Failure::Busy { retry_after, .. } => ErrorKind::Later { delay: *retry_after },
            Failure::NoProgress { .. } | Failure::Broken { .. } | Failure::Short { .. } => {
                ErrorKind::Later { delay: None }
            }
            Failure::Gone { .. } => ErrorKind::Gone,
            Failure::Denied { .. } => ErrorKind::Denied,
            Failure::ProxyLogin { .. } => ErrorKind::Proxy,
            Failure::OutOfRange { .. } | Failure::Changed { .. } => ErrorKind::Stale,
            Failure::Refused(_) => ErrorKind::Refused,
            Failure::Tls { .. } => ErrorKind::Tls,
            Failure::Dns { .. } => ErrorKind::Dns,
            Failure::Connect { .. } | Failure::ProxyConnect { .. } => ErrorKind::Connect,
            Failure::Status { .. }
            | Failure::NoRanges
            | Failure::Redirects { .. }
            | Failure::Location(_)
            | Failure::Malformed { .. }
            | Failure::Header { .. }
            | Failure::WrongRange { .. }
            | Failure::TooLong { .. }
            | Failure::EmptyRange { .. } => ErrorKind::Protocol,
        }
    }
}

impl Failure {
    /// What a failed request or body read means; `at` is the position reached, `end` the one announced.
    pub(crate) fn of_transfer(error: &(dyn Error + 'static), host: &str, at: u64, end: Option<u64>) -> Self {
        let cause = explain(error);
        if find::<NoAddress>(error).is_some() {
            return Self::Dns { host: host.to_owned(), cause };
        }
        if let Some(tls) = find::<rustls::Error>(error) {
            return Self::Tls { cause: tls.to_string() };
        }
        if find::<legacy::Error>(error).is_some_and(legacy::Error::is_connect) {
            return Self::Connect { cause };
        }
        if find::<hyper::Error>(error).is_some_and(hyper::Error::is_parse) {
            return Self::Malformed { cause };
        }
        let cut = find::<io::Error>(error).is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof);
        match end {
            Some(end) if cut => Self::Short { at, end },
            _ => Self::Broken { at, cause },
        }
    }
}

/// A name to stand behind a noun.
fn named(name: &Option<String>) -> String {
    name.as_ref().map_or_else(String::new, |name| format!(" {name}"))
}

/// The messages of an error and its causes, each once.
fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let message = cause.to_string();
        if !text.contains(&message) {
            let _ = write!(text, ": {message}");
        }
        source = cause.source();
    }
    text
}

/// The first cause of type `E`, looking into the errors that `io::Error` wraps and its `source` skips.
pub(crate) fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_io_errors_wrap() {
        let wrapped = io::Error::other(io::Error::other(rustls::Error::HandshakeNotComplete));
        assert_eq!(find::<rustls::Error>(&wrapped), Some(&rustls::Error::HandshakeNotComplete));
        assert!(find::<hyper::Error>(&wrapped).is_none());
    }

    #[test]
    fn messages_hold_no_secret() {
        let url = SourceUrl::parse("http://user:hunter2@h.example/f?sig=hunter3").unwrap();
        let error = OriginError::new(&url, Failure::Gone { status: 404 });
        assert_eq!(error.to_string(), "http://h.example/f?…: origin answers 404: not there");
        assert!(!format!("{error:?}").contains("hunter"));
    }
}
