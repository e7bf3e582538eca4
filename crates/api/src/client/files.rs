//! Delivery: fetches an open file from the agent's files socket (see [`crate::agent`], Delivery).

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use super::http_json::unreachable;
use crate::{ApiError, Code};

const WHO: &str = "agent";
const PATIENCE: Duration = Duration::from_secs(10);

/// Fetches the file that `word` (from [`DownloadEvent::Done`](crate::agent::DownloadEvent::Done)) stands for, open for
/// reading. `socket` is the agent's API socket; the files socket lies beside it.
///
/// # Errors
/// [`Code::Unreachable`]; [`Code::NotFound`] when the agent closes without a file: the word is wrong, used or too old.
pub async fn fetch_file(socket: &Path, word: &str) -> Result<File, ApiError> {
    if word.is_empty() || word.len() > 256 || word.contains(['\n', '\r']) {
        return Err(ApiError::new(Code::BadRequest, "delivery word is not one line of at most 256 bytes"));
    }
    tokio::time::timeout(PATIENCE, exchange(&files_socket(socket), word))
        .await
        .map_err(|_| unreachable(WHO, "no file within 10 s"))?
        .map_err(|error| unreachable(WHO, error))?
        .map(File::from)
        .ok_or_else(|| ApiError::new(Code::NotFound, "the delivery word is wrong, used or too old"))
}

fn files_socket(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".files");
    path.into()
}

async fn exchange(path: &Path, word: &str) -> io::Result<Option<OwnedFd>> {
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(format!("{word}\n").as_bytes()).await?;
    stream.async_io(Interest::READABLE, || receive(&stream)).await
}

fn receive(socket: impl AsFd) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0u8; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut byte)];
    // Close-on-exec at once: another thread may be starting a program right now.
    let got = recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if got.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "more than one file was sent"));
    }
    let files = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    Ok(files)
}
