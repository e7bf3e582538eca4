//! What a connection's writer is told beside bulk data: a queue that its peer cannot fill.
//!
//! A peer that reads nothing keeps its writer waiting, and all that is said to it meanwhile is memory. So the answers that
//! it can provoke are counted: an honest peer waits for a part of the map before it asks for the next (wire §6), and has at
//! most [`MAX_REQUESTS`] requests that could be refused. What is said without being asked is bounded by the queue itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use peerage_wire::{ByeReason, MAX_REQUESTS, Message};
use tokio::sync::{Notify, mpsc};

/// Words that may wait for the writer: more than there is to say while one slow megabyte leaves.
const MAX_QUEUED: usize = 4096;
/// Refusals that may wait. Those of requests that were taken back meanwhile do not count for the peer, so twice the requests.
const MAX_REJECTS: usize = 2 * MAX_REQUESTS;

/// What the writer is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// Say it.
    Send(Message),
    /// Answer with a part of the piece map, made when its turn comes.
    Map {
        /// First byte of the map's file form.
        offset: u32,
        /// Bytes wanted.
        len: u32,
    },
    /// Say goodbye and close.
    Close(ByeReason),
}

/// Too much waits for the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// It asks for more than it may before it takes the answers: an offence.
    Breach(&'static str),
    /// It does not read.
    Unread,
}

#[derive(Debug, Default)]
struct Owed {
    rejects: AtomicUsize,
    map: AtomicBool,
    overflow: parking_lot::Mutex<Option<Overflow>>,
    full: Notify,
}

/// The queue's entrance. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    queue: mpsc::Sender<Control>,
    owed: Arc<Owed>,
}

/// The queue's exit, for the writer.
#[derive(Debug)]
pub(crate) struct Words {
    queue: mpsc::Receiver<Control>,
    owed: Arc<Owed>,
}

/// A queue for one connection.
pub(crate) fn outbox() -> (Outbox, Words) {
    let (sender, receiver) = mpsc::channel(MAX_QUEUED);
    let owed = Arc::new(Owed::default());
    (Outbox { queue: sender, owed: Arc::clone(&owed) }, Words { queue: receiver, owed })
}

impl Outbox {
    /// Queues a word. An overflow also ends [`Self::overflow`], on any clone.
    pub(crate) fn send(&self, control: Control) -> Result<(), Overflow> {
        let allowed = match &control {
            Control::Send(Message::Reject { .. })
                if self.owed.rejects.fetch_add(1, Ordering::Relaxed) >= MAX_REJECTS =>
            {
                Err(Overflow::Breach("more requests than allowed, and the refusals not taken"))
            }
            Control::Map { .. } if self.owed.map.swap(true, Ordering::Relaxed) => {
                Err(Overflow::Breach("the piece map asked for again before the answer"))
            }
            _ => Ok(()),
        };
        let sent = allowed.and_then(|()| match self.queue.try_send(control) {
            // The writer is gone, and says so itself.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Overflow::Unread),
        });
        if let Err(overflow) = sent {
            self.owed.overflow.lock().get_or_insert(overflow);
            self.owed.full.notify_one();
        }
        sent
    }

    /// Waits until too much waits for the peer.
    pub(crate) async fn overflow(&self) -> Overflow {
        loop {
            if let Some(overflow) = *self.owed.overflow.lock() {
                return overflow;
            }
            self.owed.full.notified().await;
        }
    }

    /// Waits until the writer is gone.
    pub(crate) async fn closed(&self) {
        self.queue.closed().await;
    }
}

impl Words {
    /// The next word; `None`: nobody is left who could say one. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Control> {
        let next = self.queue.recv().await;
        self.taken(next)
    }

    /// The next word, if it is there already.
    pub(crate) fn try_next(&mut self) -> Option<Control> {
        let next = self.queue.try_recv().ok();
        self.taken(next)
    }

    /// An answer no longer counts when the writer turns to it: its peer may ask again as soon as it has read it.
    fn taken(&self, next: Option<Control>) -> Option<Control> {
        match &next {
            Some(Control::Send(Message::Reject { .. })) => {
                self.owed.rejects.fetch_sub(1, Ordering::Relaxed);
            }
            Some(Control::Map { .. }) => self.owed.map.store(false, Ordering::Relaxed),
            _ => {}
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use peerage_content::PieceIndex;
    use peerage_wire::RejectCode;

    use super::*;

    const MAP: Control = Control::Map { offset: 0, len: 9 };

    fn reject() -> Control {
        Control::Send(Message::Reject { code: RejectCode::NotHere, piece: PieceIndex(0), offset: 0, len: 1 })
    }

    #[tokio::test]
    async fn one_part_of_the_map_at_a_time() {
        let (outbox, mut words) = outbox();
        for _ in 0..3 {
            outbox.send(MAP).unwrap();
            assert_eq!(words.next().await, Some(MAP));
        }
        outbox.send(MAP).unwrap();
        assert!(matches!(outbox.send(MAP), Err(Overflow::Breach(_))));
        assert!(matches!(outbox.overflow().await, Overflow::Breach(_)));
    }

    #[tokio::test]
    async fn refusals_that_nobody_takes_are_a_breach() {
        let (outbox, mut words) = outbox();
        for _ in 0..10 * MAX_REJECTS {
            outbox.send(reject()).unwrap();
            assert_eq!(words.try_next(), Some(reject()));
        }
        for _ in 0..MAX_REJECTS {
            outbox.send(reject()).unwrap();
        }
        assert!(matches!(outbox.send(reject()), Err(Overflow::Breach(_))));
        assert!(matches!(outbox.overflow().await, Overflow::Breach(_)));
    }

    #[tokio::test]
    async fn who_reads_nothing_is_left_without_blame() {
        let (outbox, words) = outbox();
        for _ in 0..MAX_QUEUED {
            outbox.send(Control::Send(Message::Ping)).unwrap();
        }
        assert_eq!(outbox.send(Control::Send(Message::Ping)), Err(Overflow::Unread));
        assert_eq!(outbox.overflow().await, Overflow::Unread);
        drop(words);
        outbox.closed().await;
    }
}
