//! What liars without an engine do. See [`Manner`].

use std::time::Duration;

use peerage_content::PieceIndex;
use peerage_wire::{MAX_DATA, Message, RejectCode};

use crate::Manner;
use crate::run::{Run, What};

const AGAIN: Duration = Duration::from_millis(500);

impl Run {
    /// A connection with a liar has been opened.
    pub(crate) fn lie_joined(&mut self, conn: usize) {
        for end in 0..2 {
            let manner = self.devices[self.conns[conn].ends[end].device].setup.manner;
            if !manner.runs_engine() {
                self.send(conn, end, Message::Unchoke);
                self.lie_on(conn, end, manner);
            }
        }
    }

    /// A liar has heard something.
    pub(crate) fn lie_heard(&mut self, conn: usize, end: usize, message: &Message) {
        let manner = self.devices[self.conns[conn].ends[end].device].setup.manner;
        match (manner, message) {
            (Manner::Lacks, &Message::Request { piece, offset, len }) => {
                self.send(conn, end, Message::Reject { code: RejectCode::NotHere, piece, offset, len });
            }
            (Manner::Greedy, Message::Unchoke) => self.lie_on(conn, end, manner),
            _ => {}
        }
    }

    /// It is time for a liar to repeat itself.
    pub(crate) fn lie(&mut self, at: usize, life: u32) {
        let device = &self.devices[at];
        if device.life != life || !device.on {
            return;
        }
        let (manner, ends) = (device.setup.manner, device.sources.values().copied().collect::<Vec<_>>());
        ends.into_iter().for_each(|(conn, end)| self.lie_on(conn, end, manner));
        self.queue.push(self.after(AGAIN), What::Lie(at, life));
    }

    fn lie_on(&mut self, conn: usize, end: usize, manner: Manner) {
        let all: Vec<PieceIndex> = self.layout.indexes().collect();
        match manner {
            Manner::Hoards => self.send(conn, end, Message::Fetching { active: true, pieces: all }),
            Manner::Greedy => {
                for piece in all {
                    let len = self.layout.piece_len(piece).min(MAX_DATA);
                    self.send(conn, end, Message::Request { piece, offset: 0, len });
                }
            }
            Manner::Flaps => {
                self.send(conn, end, Message::Choke);
                self.send(conn, end, Message::Unchoke);
            }
            _ => {}
        }
    }
}
