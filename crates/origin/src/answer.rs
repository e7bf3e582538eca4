//! Judges the head of an answer: which bytes of which file would the body hold? Pure, so that every nasty answer is
//! a line in a test.

use std::time::SystemTime;

use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, LAST_MODIFIED,
    RETRY_AFTER,
};
use http::{HeaderValue, StatusCode};
use peerage_content::Validators;

use crate::headers::{ContentRange, MAX_VALIDATOR, retry_after};
use crate::{Failure, Known, RangeRequest};

/// What a body will hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Position of its first byte in the file.
    pub(crate) start: u64,
    /// Position after its last byte, if that can be known.
    pub(crate) end: Option<u64>,
    /// Size and validators of the file.
    pub(crate) found: Known,
    pub(crate) supports_ranges: bool,
}

impl Answer {
    /// Judges the answer to a GET for `asked`; `length` is the body's announced length.
    pub(crate) fn to_get(
        status: StatusCode,
        headers: &HeaderMap,
        length: Option<u64>,
        asked: RangeRequest,
        known: &Known,
        now: SystemTime,
    ) -> Result<Self, Failure> {
        match status {
            StatusCode::OK => Self::whole(headers, length, known),
            // A 206 to a request without Range has nothing to be partial of.
            StatusCode::PARTIAL_CONTENT if asked != RangeRequest::ALL => {
                Self::partial(headers, length, asked, known)
            }
            StatusCode::RANGE_NOT_SATISFIABLE if asked != RangeRequest::ALL => {
                let size = match content_range(headers) {
                    Ok(ContentRange::Unsatisfied { total }) => Some(total),
                    _ => None,
                };
                known.check(&Known { size, validators: validators(headers) })?;
                Err(Failure::OutOfRange { from: asked.from, size })
            }
            _ => Err(Self::refusal(status, headers, now)),
        }
    }

    /// Judges the answer to a HEAD; `length` is the `Content-Length`.
    pub(crate) fn to_head(
        status: StatusCode,
        headers: &HeaderMap,
        length: Option<u64>,
        now: SystemTime,
    ) -> Result<Self, Failure> {
        match status {
            StatusCode::OK => Self::whole(headers, length, &Known::default()),
            _ => Err(Self::refusal(status, headers, now)),
        }
    }

    fn whole(headers: &HeaderMap, length: Option<u64>, known: &Known) -> Result<Self, Failure> {
        check_identity(headers)?;
        let found = Known { size: length, validators: validators(headers) };
        known.check(&found)?;
        let says = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"bytes");
        Ok(Self {
            start: 0,
            // Without a length the end of the connection ends the body; the size known before tells it from a cut.
            end: length.or(known.size),
            found,
            supports_ranges: headers.get(ACCEPT_RANGES).is_some_and(says),
        })
    }

    fn partial(
        headers: &HeaderMap,
        length: Option<u64>,
        asked: RangeRequest,
        known: &Known,
    ) -> Result<Self, Failure> {
        check_identity(headers)?;
        if let Some(value) = headers.get(CONTENT_TYPE)
            && value.as_bytes().to_ascii_lowercase().starts_with(b"multipart/byteranges")
        {
            // Never sent for a single range (RFC 9110 §15.3.7.2), and not worth a parser.
            return Err(bad(CONTENT_TYPE, value, "several ranges were not asked for"));
        }
        let header = headers.get(CONTENT_RANGE);
        let (range, total) = match content_range(headers)? {
            ContentRange::Satisfied { range, total } => (range, total),
            ContentRange::Unsatisfied { .. } => {
                return Err(bad_opt(CONTENT_RANGE, header, "no range in a 206"));
            }
        };
        let found = Known { size: total, validators: validators(headers) };
        known.check(&found)?;
        let inside = asked.to.is_none_or(|to| range.end <= to) && known.size.is_none_or(|n| range.end <= n);
        if range.start != asked.from || !inside {
            return Err(Failure::WrongRange {
                from: asked.from,
                to: asked.to,
                start: range.start,
                end: range.end,
            });
        }
        if length.is_some_and(|length| length != range.end - range.start) {
            return Err(bad_opt(CONTENT_RANGE, header, "does not agree with the length of the body"));
        }
        Ok(Self { start: range.start, end: Some(range.end), found, supports_ranges: true })
    }

    fn refusal(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Failure {
        let code = status.as_u16();
        match code {
            404 | 410 => Failure::Gone { status: code },
            401 | 402 | 403 | 451 => Failure::Denied { status: code },
            407 => Failure::ProxyLogin { proxy: None },
            // 501 and 505 say what the server cannot do at all; time does not mend that.
            408 | 425 | 429 | 500 | 502..=504 | 506..=599 => {
                let wait = headers.get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?, now));
                Failure::Busy { status: code, retry_after: wait }
            }
            _ => Failure::Status { status: code },
        }
    }
}

fn bad(name: HeaderName, value: &HeaderValue, why: &'static str) -> Failure {
    bad_opt(name, Some(value), why)
}

fn bad_opt(name: HeaderName, value: Option<&HeaderValue>, why: &'static str) -> Failure {
    let text = value.map(|value| String::from_utf8_lossy(value.as_bytes())).unwrap_or_default();
    Failure::Header { name: name.to_string(), found: text.chars().take(128).collect(), why }
}

/// The `Location` of a redirect.
pub(crate) fn location(headers: &HeaderMap) -> Result<&str, Failure> {
    let name = http::header::LOCATION;
    let value = headers.get(&name).ok_or_else(|| bad_opt(name.clone(), None, "missing in a redirect"))?;
    // Not `to_str`: that refuses UTF-8, which servers do send and browsers do follow.
    std::str::from_utf8(value.as_bytes()).map_err(|_| bad(name, value, "not utf-8"))
}

fn content_range(headers: &HeaderMap) -> Result<ContentRange, Failure> {
    let mut values = headers.get_all(CONTENT_RANGE).iter();
    let value = values.next().ok_or_else(|| bad_opt(CONTENT_RANGE, None, "missing in a 206"))?;
    if values.next().is_some() {
        return Err(bad(CONTENT_RANGE, value, "given more than once"));
    }
    let text = value.to_str().map_err(|_| bad(CONTENT_RANGE, value, "not ascii"))?;
    ContentRange::parse(text).map_err(|why| bad(CONTENT_RANGE, value, why))
}

/// We ask for `identity`; an encoded body would be other bytes at other positions.
fn check_identity(headers: &HeaderMap) -> Result<(), Failure> {
    let plain = |value: &&HeaderValue| value.is_empty() || value.as_bytes().eq_ignore_ascii_case(b"identity");
    match headers.get_all(CONTENT_ENCODING).iter().find(|value| !plain(value)) {
        None => Ok(()),
        Some(value) => Err(bad(CONTENT_ENCODING, value, "the body is encoded, identity was asked for")),
    }
}

fn validators(headers: &HeaderMap) -> Validators {
    let text = |name| {
        let value = headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        value.filter(|text| text.len() <= MAX_VALIDATOR).unwrap_or_default().trim().to_owned()
    };
    Validators { etag: text(ETAG), last_modified: text(LAST_MODIFIED) }
}

#[cfg(test)]
mod tests;
