//! Reading a file over several connections at once, in order.
//!
//! While the coordinator reads a file for the first time, every device that wants it has to fetch it for itself. On a link
//! that they share, the sooner the coordinator has it the fewer copies cross it; so it takes a larger share, as a
//! browser would. Origins that do not serve ranges, or cannot tell one version of a file from another, are read over
//! one connection.
//!
//! Memory: [`LANES`] stripes of [`STRIPE`] bytes.

use futures_util::stream::{self, Stream, StreamExt as _};
use peerage_content::Validators;
use peerage_origin::{Known, OriginClient, OriginError, RangeBody, RangeRequest, SourceUrl};

use super::Refused;
use super::job::resume_pause;
use super::pace::Pace;

/// Connections to one origin at once.
const LANES: usize = 6;
/// Bytes that one request asks for: enough to make a round trip's pause small.
pub(super) const STRIPE: u64 = 2 << 20;
/// Bytes that an answer has at least, unless nothing more is missing: an origin must not be asked for byte after byte.
const LEAST_ANSWER: u64 = 64 << 10;

/// Whether the file that this answer begins can be read in stripes; how many bytes it has.
pub(super) fn size_in_stripes(first: &RangeBody) -> Option<u64> {
    let info = first.info();
    let tells_versions = info.validators != Validators::default();
    let size = info.size.filter(|size| *size > STRIPE)?;
    (info.supports_ranges && tells_versions && first.end() == Some(STRIPE)).then_some(size)
}

/// The stripes of a file of `size` bytes in order, the first one from the answer that is open already.
pub(super) fn read<'a>(
    origin: &'a OriginClient,
    url: &'a SourceUrl,
    first: RangeBody,
    size: u64,
    pace: &'a Pace,
) -> impl Stream<Item = Result<Vec<u8>, Refused>> + 'a {
    let info = first.info().clone();
    let mut first = Some(first);
    let starts = (0..size).step_by(STRIPE as usize);
    let stripes = starts.map(move |from| {
        let end = size.min(from + STRIPE);
        let known = info.known();
        stripe(origin, url, first.take(), from..end, known, pace)
    });
    stream::iter(stripes).buffered(LANES)
}

/// One stripe, whole. A broken answer is taken up where it broke.
async fn stripe(
    origin: &OriginClient,
    url: &SourceUrl,
    open: Option<RangeBody>,
    range: std::ops::Range<u64>,
    known: Known,
    pace: &Pace,
) -> Result<Vec<u8>, Refused> {
    let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
    let (mut body, mut opened_at, mut failures) = (open, range.start, 0);
    loop {
        let at = range.start + bytes.len() as u64;
        if at >= range.end {
            return Ok(bytes);
        }
        let step = match &mut body {
            Some(body) => body.chunk().await.map(Some),
            None => {
                let wanted = RangeRequest { from: at, to: Some(range.end) };
                match origin.open(url, wanted, &known).await {
                    Ok(opened) if opened.start() != at => return Err(changed_its_mind(url)),
                    Ok(opened) => {
                        (body, opened_at) = (Some(opened), at);
                        Ok(None)
                    }
                    Err(error) => Err(error),
                }
            }
        };
        match step {
            // The answer to a new request.
            Ok(None) => {}
            Ok(Some(Some(chunk))) => {
                let left = (range.end - at) as usize;
                pace.add(chunk.len());
                bytes.extend_from_slice(&chunk[..chunk.len().min(left)]);
                failures = 0;
            }
            // An origin may send less than it was asked for.
            Ok(Some(None)) => {
                enough(url, at - opened_at)?;
                body = None;
            }
            Err(error) => {
                failures += 1;
                body = None;
                wait(error, failures).await?;
            }
        }
    }
}

/// Refuses an origin whose answer was too small to go on like that.
pub(super) fn enough(url: &SourceUrl, answered: u64) -> Result<(), Refused> {
    if answered >= LEAST_ANSWER {
        return Ok(());
    }
    Err(Refused::origin(format!(
        "{url}: the origin answered with {answered} bytes of what it was asked for; at least {LEAST_ANSWER} are asked for"
    )))
}

async fn wait(error: OriginError, failures: u32) -> Result<(), Refused> {
    let Some(pause) = resume_pause(&error, failures) else { return Err(error.into()) };
    tokio::time::sleep(pause).await;
    Ok(())
}

fn changed_its_mind(url: &SourceUrl) -> Refused {
    Refused::origin(format!("{url}: the origin served a range and then would not"))
}
