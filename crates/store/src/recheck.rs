//! Hashing what is in the data file: after a power cut, after somebody touched it, when the map comes late, on demand.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use peerage_content::{Bitmap, Digest, Digester, PIECE_SIZE, PieceHasher, PieceIndex, PieceMap, Sha256};

use crate::content::Content;
use crate::dir::Access;
use crate::error::StoreError;
use crate::files::OpenFiles;
use crate::item::{DATA, PIECES};
use crate::ledger::Durable;
use crate::map_file::{self, MAP};
use crate::meta::Stamp;
use crate::progress::Entry;
use crate::recover::demote;

/// What hashing everything again has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// Verified pieces looked at.
    pub checked: u32,
    /// Those that were wrong and are dropped, ascending.
    pub bad: Vec<PieceIndex>,
}

/// What a piece map that came late has proven.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MapReport {
    /// Pieces received before, and right.
    pub verified: Vec<PieceIndex>,
    /// Pieces received before, and wrong; dropped.
    pub dropped: Vec<PieceIndex>,
}

impl Content {
    /// Gives the content its piece map and verifies the pieces that waited for it.
    ///
    /// # Errors
    /// It is the map of another content or size, or the disk fails; then the same call goes on where it stopped.
    pub fn set_map(&self, map: &PieceMap) -> Result<MapReport, StoreError> {
        if map.id() != self.id() || map.layout() != self.layout() {
            let (found, found_size) = (map.id(), map.layout().size());
            return Err(StoreError::WrongMap {
                id: self.id(),
                size: self.layout().size(),
                found,
                found_size,
            });
        }
        self.settle()?;
        if self.map()?.is_none() {
            self.keep_map(map)?;
        }
        let mut report = MapReport::default();
        let _gate = self.item.gate.pass();
        // A writer that has not seen the map yet holds its slot; one that comes later sees it.
        for (piece, _) in self.partials() {
            let slot = self.item.state.lock().partial.get(&piece).map(Arc::clone);
            let Some(slot) = slot else { continue };
            let mut work = slot.work.lock();
            if work.closed || slot.have() != self.item.progress.full(piece) {
                continue;
            }
            let files = self.session.writing(&self.item)?;
            work.hasher = Some(PieceHasher::new(map.clone(), piece));
            match self.prove(piece, &slot, &mut work, &files) {
                Ok(Some(_)) => report.verified.push(piece),
                Ok(None) => {}
                Err(StoreError::Mismatch { .. }) => report.dropped.push(piece),
                Err(error) => return Err(error),
            }
        }
        Ok(report)
    }

    fn keep_map(&self, map: &PieceMap) -> Result<(), StoreError> {
        let _gate = self.item.gate.pass();
        let mut held = self.session.map.lock();
        map_file::store(&self.item.dir()?, map).map_err(|error| self.item.failed("write", MAP, error))?;
        *held = Some(map.clone());
        self.item.state.lock().has_map = true;
        Ok(())
    }

    /// Hashes all verified pieces again and drops those that are wrong. Reading and writing go on meanwhile.
    ///
    /// # Errors
    /// The disk fails.
    pub fn verify(&self) -> Result<VerifyReport, StoreError> {
        self.settle()?;
        let before = self.have();
        let good = match self.map()? {
            Some(map) => self.hash(&*self.session.reading(&self.item)?, &map, &before)?,
            // The map was lost; it is made again from the data if that is right.
            None => self.distrust()?,
        };
        let bad: Vec<PieceIndex> = before.iter().filter(|piece| !good.contains(*piece)).collect();
        if !bad.is_empty() && self.item.state.lock().stamp.is_some() {
            self.distrust()?;
        }
        for piece in bad.iter().filter(|piece| self.item.state.lock().verified.contains(**piece)) {
            let _gate = self.item.gate.pass();
            let files = self.session.writing(&self.item)?;
            // Nobody writes to a verified piece, so nothing can come between these two.
            self.record(&files, *piece, Entry::Empty)?;
            self.item.state.lock().verified.remove(*piece);
        }
        Ok(VerifyReport { checked: before.count(), bad })
    }

    /// Takes back all trust and hashes everything again. Returns what was right.
    fn distrust(&self) -> Result<Bitmap, StoreError> {
        self.item.doubt(&self.session);
        self.settle()?;
        Ok(self.have())
    }

    /// The SHA-256 of the complete file, read anew. The BLAKE3 of the same pass is held against the content id.
    ///
    /// # Errors
    /// Pieces are missing, the file is no longer this content (then what is wrong is dropped), or the disk fails.
    pub fn sha256(&self) -> Result<Sha256, StoreError> {
        let file = self.open_file()?;
        let digest = digest(&file).map_err(|error| self.item.failed("read", DATA, error))?;
        match digest.filter(|digest| digest.id == self.id()) {
            Some(digest) => Ok(digest.sha256),
            None => {
                self.distrust()?;
                Err(self.incomplete())
            }
        }
    }

    /// Hashes doubtful pieces, if there are any, and writes down what came out. Others wait for it.
    pub(crate) fn settle(&self) -> Result<(), StoreError> {
        if self.item.state.lock().is_settled() {
            return Ok(());
        }
        let _gate = self.item.gate.pass();
        let _once = self.item.rechecking.lock();
        loop {
            let (doubtful, doubts, orphans) = {
                let mut state = self.item.state.lock();
                if state.removed {
                    return Err(StoreError::Removed { id: self.id() });
                }
                if state.is_settled() {
                    return Ok(());
                }
                (state.doubtful.clone(), state.doubts, std::mem::take(&mut state.orphans))
            };
            for orphan in orphans {
                orphan.work.lock().closed = true;
            }
            let data = self.item.dir()?.open(DATA, Access::Read);
            let data = data.map_err(|error| self.item.failed("open", DATA, error))?;
            // Taken before the bytes are, so that a change meanwhile shows later.
            let stat = data.metadata().map_err(|error| self.item.failed("read", DATA, error))?;
            let good = self.prove_doubtful(&data, &doubtful)?;
            let stamp = self.write_down(&data, Stamp::of(&stat), &good)?;
            let mut state = self.item.state.lock();
            if state.doubts == doubts {
                good.iter().for_each(|piece| _ = state.verified.insert(piece));
                state.doubtful = Bitmap::for_layout(self.layout());
                state.stamp = stamp;
                state.stale = false;
            }
        }
    }

    /// Which of the doubtful pieces are right.
    fn prove_doubtful(&self, data: &File, doubtful: &Bitmap) -> Result<Bitmap, StoreError> {
        if let Some(map) = self.map()? {
            return self.hash(data, &map, doubtful);
        }
        if doubtful.is_full() && !doubtful.is_empty() {
            let digest = digest(data).map_err(|error| self.item.failed("read", DATA, error))?;
            if let Some(digest) = digest.filter(|digest| digest.id == self.id()) {
                self.keep_map(&digest.map)?;
                return Ok(doubtful.clone());
            }
        }
        demote(&mut self.item.state.lock(), self.item.progress);
        Ok(Bitmap::for_layout(self.layout()))
    }

    /// Puts what is known now into a new progress file and seals or unseals accordingly. Returns the stamp in force.
    fn write_down(&self, data: &File, stamp: Stamp, good: &Bitmap) -> Result<Option<Stamp>, StoreError> {
        let failed = |op, error| self.item.failed(op, PIECES, error);
        let mut entries: Vec<(PieceIndex, Entry)> =
            good.iter().map(|piece| (piece, Entry::Verified)).collect();
        {
            let state = self.item.state.lock();
            entries.extend(state.verified.iter().map(|piece| (piece, Entry::Verified)));
            entries.extend(state.partial.iter().map(|(piece, slot)| (*piece, Entry::Blocks(slot.have()))));
        }
        let complete = entries.iter().filter(|(_, entry)| *entry == Entry::Verified).count()
            == self.layout().pieces() as usize;
        let sealed = self.item.meta.lock().sealed;
        let stamp = sealed.filter(|_| complete).map(|_| stamp);
        if stamp != sealed {
            if stamp.is_some() {
                data.sync_all().map_err(|error| self.item.failed("sync", DATA, error))?;
            }
            // Before the new progress: a piece must not be missing from a content that counts as sealed.
            self.item.change_meta(Durable::Yes, |meta| meta.sealed = stamp)?;
        }
        let dir = self.item.dir()?;
        let temp = "pieces.new";
        let file = dir.create(temp).map_err(|error| failed("create", error))?;
        let filled = self.item.progress.fill(&file, self.item.root().boot(), entries.into_iter());
        filled.map_err(|error| failed("write", error))?;
        if stamp.is_some() {
            file.sync_all().map_err(|error| failed("sync", error))?;
        }
        let mut files = self.session.files.lock();
        dir.rename(temp, &dir, PIECES).map_err(|error| failed("rename", error))?;
        *files = OpenFiles::default();
        Ok(stamp)
    }

    /// Which of `pieces` are right in `data`.
    fn hash(&self, data: &File, map: &PieceMap, pieces: &Bitmap) -> Result<Bitmap, StoreError> {
        let mut good = Bitmap::for_layout(self.layout());
        let mut buffer = vec![0; PIECE_SIZE as usize];
        for piece in pieces.iter() {
            let bytes = &mut buffer[..self.layout().piece_len(piece) as usize];
            match data.read_exact_at(bytes, self.layout().offset(piece)) {
                Ok(()) => {}
                Err(error) if is_lost(&error) => continue,
                Err(error) => return Err(self.item.failed("read", DATA, error)),
            }
            let mut hasher = PieceHasher::new(map.clone(), piece);
            if hasher.update(0, bytes).is_ok() && hasher.finish().is_ok() {
                good.insert(piece);
            }
        }
        Ok(good)
    }
}

/// The bytes are not there or cannot be read from the medium: they have to be fetched again.
fn is_lost(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
        || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// One pass over a whole file; `None` when it is too large to be a content.
fn digest(file: &File) -> io::Result<Option<Digest>> {
    let mut digester = Digester::new();
    let mut buffer = vec![0; PIECE_SIZE as usize];
    loop {
        match file.read_at(&mut buffer, digester.size()) {
            Ok(0) => return Ok(digester.finish().ok()),
            Ok(got) => digester.update(&buffer[..got]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
