//! One run, from the arguments to the exit code.

use std::future::Future;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use peerage_api::{ApiError, Code};
use tokio::time::{Instant, interval};

use crate::args::{LabArgs, Source};
use crate::board::{Board, Snapshot, State};
use crate::downloads::{Plan, download_all, uploads};
use crate::fleet::{Coordinator, Device, Origin};
use crate::human::plural;
use crate::nursery::Nursery;
use crate::policy::LabPolicy;
use crate::report::{Measured, MeasuredDevice, Report};
use crate::scratch::Scratch;
use crate::signals::Signals;
use crate::simulate;
use crate::subject::Subject;
use crate::table::{Context, render};
use crate::truth;
use crate::view::View;

/// Agents that start at the same time: enough to keep a machine busy, few enough to keep each start short.
const STARTS_AT_ONCE: usize = 8;
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// How much longer than the devices themselves the lab waits for bytes, so that the devices can say what is wrong.
const PATIENCE_BEYOND: Duration = Duration::from_secs(15);

/// Runs a lab; the exit code. Prints the result on stdout and progress on stderr. Ends on Ctrl-C, SIGTERM and SIGHUP
/// with 128 and the signal's number, leaving nothing behind; a second signal does not wait for the devices to end well.
///
/// # Errors
/// The lab could not be run; [`ApiError`] with [`Code::BadRequest`] where the arguments are wrong.
pub async fn run(args: LabArgs) -> Result<u8> {
    if let Some(file) = &args.simulate {
        return simulate::run(file, args.json).await;
    }
    let source = args.source.as_ref().context("nothing to download is given")?;
    let mut signals = Signals::new()?;
    let policy = LabPolicy::read(args.policy.as_deref())?;
    check_source(source)?;
    let scratch = Scratch::new(args.dir.as_deref(), args.keep)?;
    let nursery = Nursery::new()?;
    let ended = tokio::select! {
        ended = lab(&args, source, &policy, &scratch, &nursery) => ended,
        code = signals.next() => Ok(code),
    };
    tokio::select! {
        () = nursery.close() => {}
        _ = signals.next() => nursery.close_now().await,
    }
    if let Some(path) = tokio::task::spawn_blocking(move || scratch.close()).await?? {
        // Where to look is not worth failing for.
        let _ = writeln!(std::io::stderr(), "peerage lab: caches and logs are in {}", path.display());
    }
    ended
}

fn check_source(source: &Source) -> Result<()> {
    let Source::File(path) = source else { return Ok(()) };
    let refuse = |why: String| ApiError::new(Code::BadRequest, format!("{}: {why}", path.display()));
    match path.metadata() {
        Ok(meta) if meta.is_file() => Ok(()),
        Ok(_) => Err(refuse("not a regular file".to_owned()).into()),
        Err(error) => Err(refuse(error.to_string()).into()),
    }
}

/// Everything between the first process and the printed result. May be dropped at any point.
async fn lab(
    args: &LabArgs,
    source: &Source,
    policy: &LabPolicy,
    scratch: &Scratch,
    nursery: &Nursery,
) -> Result<u8> {
    let mut view = View::new();
    let (report, context) = nursery.guard(measure(args, source, policy, scratch, nursery, &mut view)).await?;
    drop(view);
    let text = if args.json {
        let mut text = serde_json::to_string(&report).context("could not write the result")?;
        text.push('\n');
        text
    } else {
        render(&report, &context)
    };
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("could not write to stdout")?;
    Ok(report.totals.exit_code())
}

async fn measure(
    args: &LabArgs,
    source: &Source,
    policy: &LabPolicy,
    scratch: &Scratch,
    nursery: &Nursery,
    view: &mut View,
) -> Result<(Report, Context)> {
    view.phase("starting the origin and the coordinator");
    let dir = scratch.path();
    let mut origin = Origin::start(nursery, dir, source, args.uplink).await?;
    let coordinator = Coordinator::start(nursery, dir).await?;
    let mut subject = Subject::new(source, origin.url.clone()).await?;
    scratch.check_space(args.devices, subject.size)?;
    if matches!(source, Source::File(_)) {
        view.phase("reading the file");
        subject.hash(source).await?;
    }
    if let Some(digest) = subject.digest.as_ref().filter(|_| !args.no_publish) {
        coordinator.publish(&subject, digest).await?;
    }
    let ingested = args.no_publish || subject.digest.is_none();

    view.phase(&format!("starting {}", plural(args.devices.into(), "device", "devices")));
    let starts = (1..=args.devices).map(|number| Device::start(nursery, dir, number, &coordinator, policy));
    let devices: Vec<Device> = stream::iter(starts).buffered(STARTS_AT_ONCE).try_collect().await?;

    let board = Board::new(args.devices, subject.size);
    let plan = Plan {
        url: subject.url.clone(),
        start: args.start(),
        foreground: args.foreground,
        timeout: args.timeout,
    };
    let downloads = download_all(&devices, &plan, &board);
    let outcomes = watch(downloads, view, &board, &origin, args.timeout).await?;
    let took = outcomes.iter().map(|outcome| outcome.ended).max().unwrap_or_default();

    view.phase("checking every copy");
    let own = subject.digest.as_ref().map(|digest| digest.id);
    let genuine = match own {
        Some(id) => Some(id),
        None => coordinator.record(&subject.url).await?,
    };
    let right = truth::judge(&outcomes, subject.size, genuine).await?;
    let received = outcomes.iter().map(|outcome| outcome.status.bytes_from_peers).sum();
    let sent = uploads(&devices, received).await;
    let parts = devices.iter().zip(outcomes).zip(right.into_iter().zip(sent));
    let measured: Vec<_> = parts
        .map(|((device, outcome), (correct, uploaded))| MeasuredDevice {
            outcome,
            correct,
            uploaded,
            usage: device.child.usage(),
        })
        .collect();
    let context = Context {
        name: subject.name,
        uplink: args.uplink,
        start: args.start(),
        ingested,
        coordinator: coordinator.child.usage(),
        origin: origin.child.usage(),
        processors: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
    };

    view.phase("stopping");
    // First everybody who asks the origin for something, then the origin: so its last count is final.
    let askers: Vec<_> = devices.into_iter().map(|device| device.child).chain([coordinator.child]).collect();
    nursery.stop(&askers).await;
    nursery.stop(std::slice::from_ref(&origin.child)).await;
    let origin_bytes = origin.last_count().await.body_bytes;
    let measured = Measured {
        file_bytes: subject.size,
        uplink: args.uplink,
        start: args.start(),
        origin_bytes,
        took,
        devices: measured,
    };
    Ok((Report::new(measured), context))
}

/// Shows how `work` goes on, and gives it up when no byte arrives anywhere for too long.
async fn watch<T>(
    work: impl Future<Output = T>,
    view: &mut View,
    board: &Board,
    origin: &Origin,
    timeout: Duration,
) -> Result<T> {
    tokio::pin!(work);
    let mut tick = interval(DRAW_EVERY);
    let mut still = Stillness::new(timeout + PATIENCE_BEYOND);
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            now = tick.tick() => {
                let snapshot = board.snapshot(origin.counts.borrow().body_bytes);
                view.draw(&snapshot);
                if still.lasts(&snapshot, now) {
                    bail!("no device has received a byte for {} s", timeout.as_secs());
                }
            }
        }
    }
}

/// How long nothing has moved.
#[derive(Debug)]
struct Stillness {
    limit: Duration,
    last: Option<(u64, Instant)>,
}

impl Stillness {
    const fn new(limit: Duration) -> Self {
        Self { limit, last: None }
    }

    /// Takes note of how far everybody is; whether that has been so for too long. An end is a move, too; while every
    /// device waits for its turn, nothing has to move.
    fn lasts(&mut self, snapshot: &Snapshot, now: Instant) -> bool {
        let idle = !snapshot.devices.iter().any(|seen| seen.state == State::Running);
        let (from_http, from_peers) = snapshot.received();
        let held: u64 = snapshot.devices.iter().map(|seen| seen.held).sum();
        let moved = from_http + from_peers + held + snapshot.origin_bytes + snapshot.ended() as u64;
        match self.last {
            Some((before, since)) if before == moved && !idle => now.duration_since(since) > self.limit,
            _ => {
                self.last = Some((moved, now));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Seen;

    #[test]
    fn standing_still_is_noticed() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut still = Stillness::new(Duration::from_secs(75));
        let running = Seen { state: State::Running, ..Seen::default() };
        let mut snapshot = Snapshot { devices: vec![running; 2], ..Snapshot::default() };
        assert!(!still.lasts(&snapshot, after(0)));
        assert!(!still.lasts(&snapshot, after(75)));
        snapshot.devices[1].from_peers = 1;
        assert!(!still.lasts(&snapshot, after(76)));
        assert!(!still.lasts(&snapshot, after(151)));
        assert!(still.lasts(&snapshot, after(152)));
        snapshot.devices.iter_mut().for_each(|seen| seen.state = State::Waiting);
        assert!(!still.lasts(&snapshot, after(153)));
    }
}
