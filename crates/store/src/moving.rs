//! Bringing one content or staging area from another directory to the home, while it is in use.
//!
//! On one volume a rename. To another volume a copy: most of it while reading and writing go on, the rest while writers
//! wait for a moment. It gets its name there when all of it is on the disk, and the old one goes last: a kill in between
//! leaves it whole in one of both places, or the same in both, and then the next start removes the old one.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use peerage_content::{Bitmap, PieceIndex};
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::copy;
use crate::dir::{Access, Dir};
use crate::error::StoreError;
use crate::files::OpenFiles;
use crate::item::{DATA, Item};
use crate::ledger::{self, Durable};
use crate::places::Away;
use crate::root::{Root, shelf_name};
use crate::stage::{STATE, Stage, StageState};
use crate::store::{Store, bury};

const BUFFER: usize = 1 << 20;
/// Copying goes on behind the writers until so few pieces are left for the moment in which they wait …
const FEW: usize = 16;
/// … or they have outrun it so often.
const MAX_PASSES: usize = 8;

impl Store {
    /// Brings something home, to which readers and writers keep their handles. What is no longer away is none. Blocking, to
    /// another volume for as long as copying takes.
    ///
    /// # Errors
    /// The disk. Then it stays in use where it is, and the same call begins again.
    pub fn bring_home(&self, away: &Away) -> Result<(), StoreError> {
        let home = self.live_root()?;
        match away {
            Away::Content(id) => match self.item(*id) {
                Some(item) => self.bring_content(&item, &home),
                None => Ok(()),
            },
            Away::Staging(name) => {
                let stage = self.stages().lock().get(name).map(Arc::clone);
                stage.map_or(Ok(()), |stage| bring_stage(&stage, &home, self.stopping()))
            }
        }
    }

    /// Has a copy that is being made end soon, and lets none begin: the process ends.
    pub fn stop_moving(&self) {
        self.stopping().store(true, Ordering::Relaxed);
    }

    fn bring_content(&self, item: &Arc<Item>, home: &Arc<Root>) -> Result<(), StoreError> {
        let (id, old) = (item.id(), item.root());
        if Arc::ptr_eq(&old, home) {
            return Ok(());
        }
        let failed = |error| StoreError::io("move the cache to", home.content_path(id, ""), error);
        let shelf =
            home.contents().and_then(|contents| contents.make_dir(&shelf_name(id))).map_err(failed)?;
        if self.rename_content(item, &old, home, &shelf).map_err(failed)? {
            return shelf.sync().map_err(failed);
        }
        let half = format!("{id}.new");
        let copied = self.copy_content(item, &old, home, &shelf, &half);
        if copied.is_err()
            && let Err(error) = shelf.remove_tree(&half)
        {
            tracing::debug!(%id, %error, "half a copy stays until the next start");
        }
        copied.map_err(failed)?;
        // It counts as moved from here on; what cannot be freed now is removed when the store opens next.
        let freed =
            bury(&old, id).and_then(|grave| grave.map_or(Ok(()), |(shelf, name)| shelf.remove_tree(&name)));
        if let Err(error) = freed {
            tracing::warn!(%id, %error, "could not free the space of a content that has moved");
        }
        Ok(())
    }

    /// Moves it within one volume; `false` when these are two.
    fn rename_content(&self, item: &Item, old: &Root, home: &Arc<Root>, shelf: &Dir) -> io::Result<bool> {
        let name = item.id().to_string();
        let _gate = item.gate.close();
        let _making = self.making().lock();
        if item.state.lock().removed {
            return Ok(true);
        }
        // Nothing that is known.
        shelf.remove_tree(&name)?;
        match old.shelf(item.id())?.rename(&name, shelf, &name) {
            Ok(()) => item.moved_to(home, None),
            Err(error) if is_other_volume(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    fn copy_content(
        &self,
        item: &Item,
        old: &Root,
        home: &Arc<Root>,
        shelf: &Dir,
        half: &str,
    ) -> io::Result<()> {
        let (layout, name) = (item.layout(), item.id().to_string());
        shelf.remove_tree(half)?;
        let (source, target) = (old.content(item.id())?, shelf.make_dir(half)?);
        let from = source.open(DATA, Access::Read)?;
        let to = target.create(DATA)?;
        let verified = || {
            let state = item.state.lock();
            (state.verified.clone(), state.doubts)
        };
        let mut buffer = vec![0; BUFFER];
        let mut again = |piece: PieceIndex| -> io::Result<()> {
            let (at, len) = (layout.offset(piece), layout.piece_len(piece) as usize);
            go_on(self.stopping())?;
            let bytes = buffer.get_mut(..len).ok_or(io::ErrorKind::InvalidData)?;
            from.read_exact_at(bytes, at)?;
            to.write_all_at(bytes, at)
        };
        // Verified pieces are not written again; whatever else is copied here is copied anew below.
        let (mut sure, doubts) = verified();
        copy_sparse(&from, &to, self.stopping())?;
        for _ in 0..MAX_PASSES {
            let (now, _) = verified();
            let fresh = beyond(&now, &sure);
            if fresh.len() <= FEW {
                break;
            }
            fresh.into_iter().try_for_each(&mut again)?;
            sure = now;
        }
        to.sync_all()?;

        let session = item.session();
        let _gate = item.gate.close();
        // Nobody opens its files before they are the new ones.
        let mut files = session.files.lock();
        let (now, doubts_now) = verified();
        let stat = from.metadata()?;
        if doubts_now != doubts || source.stat(DATA)?.ino() != stat.ino() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "it was changed meanwhile"));
        }
        let partial: Vec<PieceIndex> = item.state.lock().partial.keys().copied().collect();
        beyond(&now, &sure).into_iter().chain(partial).try_for_each(&mut again)?;
        for file in source.names()?.iter().filter_map(|name| name.to_str()) {
            if file == DATA || file.ends_with(".new") {
                continue;
            }
            let (old, new) = (source.open(file, Access::Read)?, target.create(file)?);
            copy::copy(&old, &new, old.metadata()?.len())?;
            new.sync_all()?;
        }
        to.set_permissions(stat.permissions())?;
        // The seal goes by it.
        to.set_modified(stat.modified()?)?;
        to.sync_all()?;
        target.sync()?;
        let _making = self.making().lock();
        if item.state.lock().removed {
            return shelf.remove_tree(half);
        }
        shelf.remove_tree(&name)?;
        shelf.rename(half, shelf, name.as_str())?;
        shelf.sync()?;
        item.moved_to(home, Some(&stat));
        *files = OpenFiles::default();
        Ok(())
    }
}

fn bring_stage(stage: &Stage, home: &Arc<Root>, stop: &AtomicBool) -> Result<(), StoreError> {
    let failed = |error| StoreError::io("move the cache to", home.staging_path(&stage.name), error);
    let old = stage.root();
    if Arc::ptr_eq(&old, home) || move_stage(stage, &old, home, stop).map_err(failed)? {
        return Ok(());
    }
    if let Err(error) = old.staging().and_then(|staging| staging.remove_tree(&stage.name)) {
        tracing::warn!(name = stage.name, %error, "could not free the space of a download that has moved");
    }
    Ok(())
}

/// Moves a staging area. Returns whether nothing of it is left at the old place.
fn move_stage(stage: &Stage, old: &Root, home: &Arc<Root>, stop: &AtomicBool) -> io::Result<bool> {
    let (from, to, name) = (old.staging()?, home.staging()?, stage.name.as_str());
    let (begun, turns, data) = {
        let inner = stage.inner.lock();
        if inner.closed {
            return Ok(true);
        }
        match from.rename(name, &to, name) {
            Ok(()) => {
                stage.moved_to(home);
                return Ok(true);
            }
            Err(error) if is_other_volume(&error) => {}
            Err(error) => return Err(error),
        }
        (inner.len, inner.turns, inner.data.try_clone()?)
    };
    // A name that is swept after a crash.
    let half = format!(".{name}.new");
    to.remove_tree(&half)?;
    let copied = (|| {
        let dir = to.make_dir(&half)?;
        let new = dir.create(DATA)?;
        copy_range(&data, &new, 0, begun, stop)?;
        let mut inner = stage.inner.lock();
        if inner.closed {
            return Ok(false);
        }
        let done = if inner.turns == turns { begun } else { 0 };
        copy_range(&inner.data, &new, done, inner.len, stop)?;
        new.set_len(inner.len)?;
        new.sync_all()?;
        let state = StageState { synced: inner.len, ..inner.state.clone() };
        ledger::store(&dir, STATE, &state, Durable::Yes)?;
        to.remove_tree(name)?;
        to.rename(half.as_str(), &to, name)?;
        to.sync()?;
        inner.data = new;
        inner.state = state;
        stage.moved_to(home);
        Ok(true)
    })();
    if !matches!(copied, Ok(true)) {
        to.remove_tree(&half)?;
    }
    copied.map(|moved| !moved)
}

fn is_other_volume(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::XDEV.raw_os_error())
}

/// The pieces of `now` that are not in `before`.
fn beyond(now: &Bitmap, before: &Bitmap) -> Vec<PieceIndex> {
    now.iter().filter(|piece| !before.contains(*piece)).collect()
}

/// An error when moving is to end.
fn go_on(stop: &AtomicBool) -> io::Result<()> {
    match stop.load(Ordering::Relaxed) {
        true => Err(io::Error::new(io::ErrorKind::Interrupted, "the process ends")),
        false => Ok(()),
    }
}

fn copy_range(from: &File, to: &File, mut at: u64, end: u64, stop: &AtomicBool) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    while at < end {
        go_on(stop)?;
        let room = usize::try_from(end - at).map_or(BUFFER, |left| left.min(BUFFER));
        let bytes = buffer.get_mut(..room).ok_or(io::ErrorKind::InvalidData)?;
        let got = from.read_at(bytes, at)?;
        if got == 0 {
            return Ok(());
        }
        to.write_all_at(&bytes[..got], at)?;
        at += got as u64;
    }
    Ok(())
}

/// Copies what has been written of a file: one that is half there must not take all its space.
fn copy_sparse(from: &File, to: &File, stop: &AtomicBool) -> io::Result<()> {
    to.set_len(from.metadata()?.len())?;
    let mut at = 0;
    loop {
        at = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(at))?;
        copy_range(from, to, at, end, stop)?;
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_stay_holes_and_bytes_stay_bytes() {
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        from.set_len(64 << 20).unwrap();
        from.write_all_at(b"early", 4096).unwrap();
        from.write_all_at(b"late", (64 << 20) - 4).unwrap();
        copy_sparse(&from, &to, &AtomicBool::new(false)).unwrap();
        let mut found = [0; 5];
        to.read_exact_at(&mut found, 4096).unwrap();
        assert_eq!(&found, b"early");
        to.read_exact_at(&mut found[..4], (64 << 20) - 4).unwrap();
        assert_eq!(&found[..4], b"late");
        assert_eq!(to.metadata().unwrap().len(), 64 << 20);
        assert!(to.metadata().unwrap().blocks() * 512 < 8 << 20);
    }
}
