//! One HTTP range on its way: from the origin (or a cache) through the sink into the store.

use peerage_content::{PIECE_SIZE, PieceIndex};
use peerage_origin::{ErrorKind, Failure, Known, OriginClient, OriginError, RangeRequest, SourceUrl};
use peerage_swarm::{Event, FetchError, FetchId};

use tokio::sync::mpsc;

use super::Command;
use super::sink::Sink;
use crate::budgets::Gate;

/// What to fetch and where to report it.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub(crate) id: FetchId,
    pub(crate) url: SourceUrl,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Whether the source is known to ignore ranges: what it sends before `start` is let pass.
    pub(crate) whole: bool,
    /// What the record says of the file; an answer that contradicts it is refused.
    pub(crate) known: Known,
}

/// Runs a fetch to its end and reports that. Dropping the future closes the connection at once.
pub(crate) async fn run(
    fetch: Fetch,
    origin: OriginClient,
    mut sink: Sink,
    gate: Gate,
    commands: mpsc::Sender<Command>,
) {
    let source = sink.source();
    let result = transfer(&fetch, &origin, &mut sink, &gate, &commands).await;
    if sink.finish().await.is_err() {
        return;
    }
    let event = match result {
        Ok(()) => Event::FetchDone { fetch: fetch.id },
        Err(error) => {
            tracing::debug!(%error, "range failed");
            let verdict = verdict(&error);
            if commands.send(Command::HttpFailed { source, error }).await.is_err() {
                return;
            }
            Event::FetchFailed { fetch: fetch.id, error: verdict }
        }
    };
    // The actor may have ended; then nobody wants to know.
    let _ = commands.send(Command::Event(event)).await;
}

/// What an error means for the plan.
fn verdict(error: &OriginError) -> FetchError {
    match error.kind() {
        _ if error.failure == Failure::NoRanges => FetchError::Whole,
        ErrorKind::Later { delay } => FetchError::Retry(delay),
        ErrorKind::Connect | ErrorKind::Dns | ErrorKind::Proxy => FetchError::Retry(None),
        ErrorKind::Gone
        | ErrorKind::Denied
        | ErrorKind::Stale
        | ErrorKind::Refused
        | ErrorKind::Tls
        | ErrorKind::Protocol => FetchError::Unusable,
    }
}

async fn transfer(
    fetch: &Fetch,
    origin: &OriginClient,
    sink: &mut Sink,
    gate: &Gate,
    commands: &mpsc::Sender<Command>,
) -> Result<(), OriginError> {
    let range = RangeRequest { from: fetch.start, to: Some(fetch.end) };
    let mut body = origin.open(&fetch.url, range, &fetch.known).await?;
    let mut at = body.start();
    if at != fetch.start && !fetch.whole {
        return Err(OriginError { url: fetch.url.to_string(), failure: Failure::NoRanges });
    }
    while at < fetch.end {
        let Some(chunk) = body.chunk().await? else { break };
        let mut chunk = &chunk[..chunk.len().min((fetch.end - at) as usize)];
        while !chunk.is_empty() {
            let (mut rest, later) = chunk.split_at(gate.pass_some(chunk.len(), 1).await);
            chunk = later;
            let early = rest.len().min(fetch.start.saturating_sub(at) as usize);
            if early > 0 {
                let passed = Event::Passed { source: sink.source(), len: early as u64 };
                if commands.send(Command::Event(passed)).await.is_err() {
                    return Ok(());
                }
                at += early as u64;
                rest = &rest[early..];
            }
            while !rest.is_empty() {
                let (piece, offset) = place(at);
                // The actor has ended or the disk fails: it knows, so this is not the origin's failure.
                let Ok(room) = sink.room(piece, offset).await else { return Ok(()) };
                let take = rest.len().min(room.len());
                room[..take].copy_from_slice(&rest[..take]);
                if sink.filled(take).await.is_err() {
                    return Ok(());
                }
                at += take as u64;
                rest = &rest[take..];
            }
        }
    }
    Ok(())
}

fn place(at: u64) -> (PieceIndex, u32) {
    let size = u64::from(PIECE_SIZE);
    (PieceIndex((at / size) as u32), (at % size) as u32)
}
