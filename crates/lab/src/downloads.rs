//! The downloads of a run: who starts when, what each device says, what each ends with.

use std::fs::File;
use std::time::Duration;

use futures_util::future::join_all;
use peerage_api::agent::{DownloadEvent, DownloadRequest, FileStatus};
use peerage_api::client::AgentClient;
use tokio::time::{Instant, sleep};

use crate::args::Start;
use crate::board::{Board, State};
use crate::fleet::Device;

const CALLER: &str = "peerage lab";
/// How long the devices' counters may lag behind.
const COUNTERS_LAG: Duration = Duration::from_secs(1);
const COUNTERS_EVERY: Duration = Duration::from_millis(50);

/// What all devices are asked for.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) url: String,
    pub(crate) start: Start,
    pub(crate) foreground: bool,
    pub(crate) timeout: Duration,
}

/// What became of one device's download.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The device.
    pub(crate) number: u32,
    /// From its start to its end.
    pub(crate) took: Duration,
    /// When it ended, since the first start.
    pub(crate) ended: Duration,
    /// The last state that it told.
    pub(crate) status: FileStatus,
    /// The file, or why there is none.
    pub(crate) file: Result<File, String>,
}

/// Has every device download, and waits for all.
pub(crate) async fn download_all(devices: &[Device], plan: &Plan, board: &Board) -> Vec<Outcome> {
    let began = Instant::now();
    let one = |device| download(device, plan, board, began);
    match (plan.start, devices) {
        (Start::Together, _) => join_all(devices.iter().map(one)).await,
        (Start::FirstAlone, [first, others @ ..]) => {
            let first = one(first).await;
            let others = join_all(others.iter().map(one)).await;
            [first].into_iter().chain(others).collect()
        }
        (Start::FirstAlone, []) => Vec::new(),
        (Start::Every(interval), _) => {
            let later = |(turn, device)| async move {
                sleep(interval.saturating_mul(turn)).await;
                one(device).await
            };
            join_all((0..).zip(devices).map(later)).await
        }
    }
}

async fn download(device: &Device, plan: &Plan, board: &Board, began: Instant) -> Outcome {
    let (number, start) = (device.number, Instant::now());
    board.set(number, State::Running);
    let mut status = FileStatus::default();
    let word = follow(device, plan, board, &mut status).await;
    let (took, ended) = (start.elapsed(), began.elapsed());
    // At once: the word is good for a minute only.
    let file = match word {
        Ok(word) => device.client.fetch_file(&word).await.map_err(|error| error.to_string()),
        Err(why) => Err(why),
    };
    board.set(number, if file.is_ok() { State::Done(took) } else { State::Failed });
    Outcome { number, took, ended, status, file }
}

/// Follows a download to its end; the word that stands for the file.
async fn follow(
    device: &Device,
    plan: &Plan,
    board: &Board,
    last: &mut FileStatus,
) -> Result<String, String> {
    let request = DownloadRequest {
        url: Some(plan.url.clone()),
        foreground: plan.foreground,
        caller: CALLER.to_owned(),
        no_progress_timeout_s: Some(plan.timeout.as_secs()),
        ..DownloadRequest::default()
    };
    let mut download = device.client.download(&request).await.map_err(|error| error.to_string())?;
    loop {
        let (status, end) = match download.next().await {
            Ok(Some(DownloadEvent::Progress { status })) => (status, None),
            Ok(Some(DownloadEvent::Done { status, delivery })) => (status, Some(Ok(delivery))),
            Ok(Some(DownloadEvent::Failed { status, error })) => (status, Some(Err(error.to_string()))),
            Ok(None) => return Err("the agent did not say how the download ended".to_owned()),
            Err(error) => return Err(error.to_string()),
        };
        board.progress(device.number, &status);
        *last = *status;
        if let Some(end) = end {
            return end;
        }
    }
}

/// Bytes that each device has sent to its peers. What is sent is counted a little later than what is received, so this
/// waits, not for long, until the devices together have sent `received` bytes.
pub(crate) async fn uploads(devices: &[Device], received: u64) -> Vec<u64> {
    let deadline = Instant::now() + COUNTERS_LAG;
    loop {
        let sent = join_all(devices.iter().map(|device| sent(&device.client))).await;
        if sent.iter().sum::<u64>() >= received || Instant::now() >= deadline {
            return sent;
        }
        sleep(COUNTERS_EVERY).await;
    }
}

async fn sent(client: &AgentClient) -> u64 {
    // An agent that does not answer has been reported as dead, or its download as failed.
    let rows = client.status(None, false).await.unwrap_or_default();
    let sent = |row: &FileStatus| {
        row.bytes_to_lan_peers
            + row.bytes_to_link_local_peers
            + row.bytes_to_group_peers
            + row.bytes_to_internet_peers
    };
    rows.iter().map(sent).sum()
}
