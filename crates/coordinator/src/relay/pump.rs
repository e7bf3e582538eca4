//! What is said by one end goes to the other, and the other way round, until one of them has nothing more to say.
//!
//! Nobody can hold a place without cause: a connection on which nothing is said either way, an end that takes nothing, and
//! one that has closed its side while the other goes on talking are cut. What waits in the kernel is bounded.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::pace::Pace;

/// Silence of both ends. Peers say something every 30 s, and part from each other after 60 s.
const IDLE: Duration = Duration::from_secs(75);
/// An end that takes not even a gulp in this time is gone.
const STALL: Duration = Duration::from_secs(60);
/// What the other end may still say after one has closed.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Read and passed on at once.
const GULP: usize = 32 << 10;
/// What may wait in the kernel for one end, in either direction: enough for 2.5 MB/s at a round trip of 100 ms.
const KERNEL_BUFFER: usize = 256 << 10;

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// One of the ends closed.
    Closed,
    /// Nothing was said for long.
    Idle,
    /// One of the ends took nothing for long.
    Stalled,
}

/// Carries a connection to its end. `bytes` counts what was passed on.
pub(super) async fn pump(mut one: TcpStream, mut other: TcpStream, pace: &Pace, bytes: &[&AtomicU64]) -> End {
    for stream in [&one, &other] {
        if let Err(error) = prepare(stream) {
            tracing::debug!(%error, "a relayed connection keeps the system's buffers");
        }
    }
    let heard = AtomicU64::new(0);
    let ((one_in, one_out), (other_in, other_out)) = (one.split(), other.split());
    let mut there = pin!(forward(one_in, other_out, pace, &heard, bytes));
    let mut back = pin!(forward(other_in, one_out, pace, &heard, bytes));
    tokio::select! {
        end = &mut there => last_words(end, back).await,
        end = &mut back => last_words(end, there).await,
        end = silence(&heard) => end,
    }
}

async fn last_words(end: io::Result<()>, other: impl Future<Output = io::Result<()>>) -> End {
    match end {
        Ok(()) => {
            let _ = timeout(LAST_WORDS, other).await;
            End::Closed
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut => End::Stalled,
        Err(_) => End::Closed,
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_recv_buffer_size(KERNEL_BUFFER)?;
    socket.set_send_buffer_size(KERNEL_BUFFER)
}

async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    pace: &Pace,
    heard: &AtomicU64,
    bytes: &[&AtomicU64],
) -> io::Result<()> {
    let mut gulp = vec![0; GULP];
    loop {
        let len = from.read(&mut gulp).await?;
        let Some(said) = gulp.get(..len).filter(|said| !said.is_empty()) else { break };
        heard.fetch_add(1, Relaxed);
        pace.pass(len).await;
        timeout(STALL, to.write_all(said)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        for count in bytes {
            count.fetch_add(len as u64, Relaxed);
        }
    }
    to.shutdown().await
}

/// Returns once nothing has been heard for [`IDLE`], at the latest after twice that.
async fn silence(heard: &AtomicU64) -> End {
    let mut before = heard.load(Relaxed);
    loop {
        sleep(IDLE).await;
        let now = heard.load(Relaxed);
        if now == before {
            return End::Idle;
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A connection: the device's end and the relay's.
    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (device, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (device.unwrap(), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn passes_on_and_counts_what_both_say_up_to_the_last_word() {
        let ((mut a, one), (mut b, other)) = (connection().await, connection().await);
        let (pace, bytes) = (Pace::new(100_000_000), AtomicU64::new(0));
        let counts = [&bytes];
        let carried = pump(one, other, &pace, &counts);
        let said = vec![7; 200_000];
        let talk = async {
            let (mut heard, mut answer) = (vec![0; said.len()], Vec::new());
            let (sent, got) = tokio::join!(a.write_all(&said), b.read_exact(&mut heard));
            sent.unwrap();
            got.unwrap();
            assert_eq!(heard, said);
            a.shutdown().await.unwrap();
            assert_eq!(b.read(&mut heard).await.unwrap(), 0, "the end is passed on");
            b.write_all(b"goodbye").await.unwrap();
            drop(b);
            a.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"goodbye");
        };
        let (end, ()) = tokio::join!(carried, talk);
        assert_eq!((end, bytes.load(Relaxed)), (End::Closed, 200_007));
    }

    #[tokio::test(start_paused = true)]
    async fn silent_ends_are_cut() {
        let ((_a, one), (_b, other)) = (connection().await, connection().await);
        assert_eq!(pump(one, other, &Pace::new(1000), &[]).await, End::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_takes_nothing_is_cut() {
        let (to, _unread) = tokio::io::duplex(10);
        let said = vec![0; 1000];
        let stalled = forward(&said[..], to, &Pace::new(1_000_000), &AtomicU64::new(0), &[]).await;
        assert_eq!(stalled.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_has_closed_does_not_wait_for_ever_for_the_other() {
        let ((a, one), (_b, other)) = (connection().await, connection().await);
        drop(a);
        assert_eq!(pump(one, other, &Pace::new(1000), &[]).await, End::Closed);
    }
}
