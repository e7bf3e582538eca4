//! What liars without an engine do. See [`Manner`].

use std::time::Duration;

use peerage_content::PieceIndex;
use peerage_wire::{MAX_DATA, Message, RejectCode};

use crate::Manner;
use crate::conn::Socket;
use crate::run::{Run, What};

const AGAIN: Duration = Duration::from_millis(500);

impl Run {
    /// A connection with a liar has been opened.
    pub(crate) fn lie_joined(&mut self, conn: usize) {
        for socket in Socket::both(conn) {
            let manner = self.devices[self.end(socket).device()].setup.manner;
            if !manner.runs_engine() {
                self.send(socket, Message::Unchoke);
                self.lie_on(socket, manner);
            }
        }
    }

    /// A liar has heard something.
    pub(crate) fn lie_heard(&mut self, socket: Socket, message: &Message) {
        let manner = self.devices[self.end(socket).device()].setup.manner;
        match (manner, message) {
            (Manner::Lacks, &Message::Request { piece, offset, len }) => {
                self.send(socket, Message::Reject { code: RejectCode::NotHere, piece, offset, len });
            }
            (Manner::Greedy, Message::Unchoke) => self.lie_on(socket, manner),
            _ => {}
        }
    }

    /// It is time for a liar to repeat itself.
    pub(crate) fn lie(&mut self, at: usize, life: u32) {
        let device = &self.devices[at];
        if device.life != life || !device.on {
            return;
        }
        let (manner, ends) = (device.setup.manner, device.sources.iter().collect::<Vec<_>>());
        ends.into_iter().for_each(|socket| self.lie_on(socket, manner));
        self.queue.push(self.after(AGAIN), What::Lie(at, life));
    }

    fn lie_on(&mut self, socket: Socket, manner: Manner) {
        let all: Vec<PieceIndex> = self.layout.indexes().collect();
        match manner {
            Manner::Hoards => self.send(socket, Message::Fetching { active: true, pieces: all }),
            Manner::Greedy => {
                for piece in all {
                    let len = self.layout.piece_len(piece).min(MAX_DATA);
                    self.send(socket, Message::Request { piece, offset: 0, len });
                }
            }
            Manner::Flaps => {
                self.send(socket, Message::Choke);
                self.send(socket, Message::Unchoke);
            }
            _ => {}
        }
    }
}
