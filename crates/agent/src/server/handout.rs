//! The files socket: a word in, an open file out (api::agent, "Delivery").

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::shared::Shared;

const WORD_TIME: Duration = Duration::from_secs(5);
const MAX_WORD: usize = 64;

/// Serves until dropped.
pub(crate) async fn serve(shared: Arc<Shared>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let _ = timeout(WORD_TIME, hand_out(&shared, stream)).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting on the files socket failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Reads the word and sends the file with one byte; anything wrong closes the connection without a word.
async fn hand_out(shared: &Shared, mut stream: UnixStream) {
    let mut word = Vec::new();
    loop {
        match stream.read_u8().await {
            Ok(b'\n') => break,
            Ok(byte) if word.len() < MAX_WORD => word.push(byte),
            _ => return,
        }
    }
    let Some(file) = std::str::from_utf8(&word).ok().and_then(|word| shared.deliveries.take(word)) else {
        return;
    };
    let fds = [file.as_fd()];
    let sent = stream
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            ancillary.push(SendAncillaryMessage::ScmRights(&fds));
            sendmsg(&stream, &[IoSlice::new(b"f")], &mut ancillary, SendFlags::empty())
                .map_err(std::io::Error::from)
        })
        .await;
    if let Err(error) = sent {
        tracing::debug!(%error, "a finished file was not taken");
    }
}
