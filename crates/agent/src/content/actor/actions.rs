//! What the engine wants done: each action becomes a message, a task or a note.

use std::sync::Arc;
use std::time::Duration;

use peerage_swarm::{Action, Event, FetchId, SourceId, SourceKind};
use peerage_wire::{ByeReason, DataHead, Message};

use super::{Actor, Running};
use crate::content::Command;
use crate::content::connection::Control;
use crate::content::fetch::{self, Fetch};
use crate::content::sink::Sink;
use crate::rangeless::host_key;

/// A connection that was told to close is dropped after this time.
pub(super) const CLOSE_TIME: Duration = Duration::from_secs(1);

impl Actor {
    pub(super) fn perform(&mut self) {
        loop {
            let now = self.now();
            let Some(action) = self.transfer.poll_action(now) else { break };
            match action {
                Action::Dial { peer } => self.dial(peer),
                Action::Send { source, message } => self.send(source, message),
                Action::Upload { source, piece, offset, len } => {
                    if let Some(link) = self.links.get(&source) {
                        let _ = link.uploads.send(DataHead { piece, offset, len });
                    }
                }
                Action::Fetch { source, fetch, start, end } => self.fetch(source, fetch, start, end),
                Action::CancelFetch { fetch } => {
                    if let Some(running) = self.fetches.remove(&fetch) {
                        running.task.abort();
                    }
                }
                Action::Disconnect { source, reason } => self.disconnect(source, reason),
                Action::Charge { peer, offence } => {
                    Arc::make_mut(&mut self.account).offence(peer, &offence);
                    self.shared.charge(peer, offence);
                }
                Action::HttpCorrupt { source, piece } => self.http_corrupt(source, piece),
                Action::NeedPeers => self.shared.announcer.poke(self.id()),
                Action::Complete => self.complete(),
            }
        }
    }

    fn send(&mut self, source: SourceId, message: Message) {
        let Some(link) = self.links.get(&source) else { return };
        match message {
            Message::Request { piece, offset, len } => link.expected.lock().ask(piece, offset, len),
            Message::Cancel { piece, offset, len } => link.expected.lock().cancel(piece, offset, len),
            _ => {}
        }
        let _ = link.control.send(Control::Send(message));
    }

    fn disconnect(&mut self, source: SourceId, reason: ByeReason) {
        let Some(link) = self.links.get(&source) else { return };
        let _ = link.control.send(Control::Close(reason));
        let commands = self.commands.clone();
        tokio::spawn(async move {
            tokio::time::sleep(CLOSE_TIME).await;
            let _ = commands.send(Command::Event(Event::PeerLeft { source })).await;
        });
    }

    fn fetch(&mut self, source: SourceId, id: FetchId, start: u64, end: u64) {
        let Some(http) = self.http.get(&source) else { return };
        let (url, known) = (http.url.clone(), http.known.clone());
        let fetch = Fetch { id, url, start, end, whole: http.whole, known };
        let sink = Sink::new(self.content.clone(), source, self.commands.clone());
        let kind = if http.cache.is_some() { SourceKind::CacheServer } else { SourceKind::Cdn };
        let gate = self.lane.from(kind);
        let client = match kind {
            SourceKind::CacheServer => self.shared.caches.client(gate.class()),
            _ => self.shared.origin_for(gate.class()),
        };
        let (client, commands) = (client.clone(), self.commands.clone());
        let task = tokio::spawn(fetch::run(fetch, client, sink, gate, commands));
        self.fetches.insert(id, Running { source, start, task: task.abort_handle() });
    }

    fn complete(&mut self) {
        for http in self.http.values().filter(|http| http.cache.is_none()) {
            if let Some(rate) = self.transfer.http_rate(SourceKind::Cdn) {
                self.shared.learn_origin_rate(&host_key(&http.url), rate);
            }
        }
        self.save_counters();
        self.shared.announcer.poke(self.id());
        self.show();
        self.seal();
    }

    /// Syncs the complete content to the disk, beside everything else: whoever waits for the file need not wait for
    /// that. After a power cut before its end the pieces are hashed again.
    fn seal(&self) {
        let (content, shared, commands) =
            (self.content.clone(), Arc::clone(&self.shared), self.commands.clone());
        tokio::task::spawn_blocking(move || {
            match content.seal(shared.clock.unix()) {
                Ok(_) => shared.cache_news.notify_one(),
                // The actor's queue is its own affair; a lost word means that sealing is tried at the next start.
                Err(error) => drop(commands.try_send(Command::Trouble(Arc::new(error)))),
            }
        });
    }
}
