//! Reads one content's directory after a restart and decides what to believe.
//!
//! | found | then |
//! |---|---|
//! | sealed, and data as it was sealed | all entries believed, in whatever boot |
//! | not sealed, same boot, data of full size | all entries believed: a killed process loses nothing that it wrote |
//! | another boot, data of another size or changed after the seal, or no state file | verified pieces are doubtful, lone blocks dropped |
//! | an entry damaged, or a whole piece received and not verified | that piece doubtful |
//! | progress file damaged | every piece with data doubtful |
//! | no map, all pieces claimed | doubtful; the map is made again from the data, if the data is right |
//! | no map, some pieces claimed | claims become received blocks, to be verified when the map comes |
//! | no data, or neither state file nor map | dropped |
//!
//! Doubtful pieces are hashed again when the first handle is asked for, not while the store opens.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use peerage_content::{Bitmap, ContentId, Layout, PIECE_SIZE, PieceIndex};
use rustix::fs::SeekFrom;

use crate::dir::{Access, Dir};
use crate::item::{DATA, Item, PIECES, Slot, State};
use crate::meta::{META, Meta, Stamp};
use crate::progress::{Loaded, Progress};
use crate::root::Root;
use crate::{ledger, map_file};

/// Reads the content `id`; `None` when nothing of it can be used.
pub(crate) fn load(root: &Arc<Root>, id: ContentId) -> io::Result<Option<Item>> {
    let dir = root.content(id)?;
    let Some(data) = open_if_there(&dir, DATA)? else { return Ok(None) };
    let stat = data.metadata()?;
    let meta: Option<Meta> = ledger::load(&dir, META)?;
    let map = map_file::load(&dir, id)?;
    let size = meta.as_ref().map(|meta| meta.size).or(map.as_ref().map(|map| map.layout().size()));
    let Some(Ok(layout)) = size.map(Layout::new) else { return Ok(None) };
    let progress = Progress { id, layout };
    let loaded = match open_if_there(&dir, PIECES)? {
        Some(file) => progress.load(&file)?,
        None => None,
    };

    let mut state = State::new(layout);
    state.has_map = map.is_some_and(|map| map.layout() == layout);
    let sealed = meta.as_ref().and_then(|meta| meta.sealed);
    match loaded {
        Some(loaded) => {
            let claims = loaded.verified.count() + loaded.damaged.count();
            state.stamp = sealed.filter(|stamp| *stamp == Stamp::of(&stat) && claims == layout.pieces());
            let survived = meta.is_some() && loaded.boot.same(root.boot()) && stat.len() == layout.size();
            let believed = state.stamp.is_some() || (sealed.is_none() && survived);
            believe(&mut state, progress, loaded, believed);
        }
        None => {
            state.stale = true;
            state.doubtful =
                if sealed.is_some() { Bitmap::full(layout.pieces()) } else { with_data(&data, layout) };
        }
    }
    let claims = state.verified.count() + state.doubtful.count();
    if !state.has_map && claims == layout.pieces() {
        // All of it is claimed: the whole file can be proven by its id.
        state.verified.iter().for_each(|piece| _ = state.doubtful.insert(piece));
        state.verified = Bitmap::for_layout(layout);
    } else if !state.has_map {
        demote(&mut state, progress);
    }
    let meta = meta.unwrap_or_else(|| Meta::new(layout.size(), modified(&stat)));
    Ok(Some(Item::new(Arc::clone(root), progress, meta, state)))
}

/// Takes over what the progress file says: as facts if `believed`, else as claims.
fn believe(state: &mut State, progress: Progress, loaded: Loaded, believed: bool) {
    state.stale = !believed;
    state.doubtful = loaded.damaged;
    if believed {
        state.verified = loaded.verified;
    } else {
        loaded.verified.iter().for_each(|piece| _ = state.doubtful.insert(piece));
    }
    for (piece, blocks) in loaded.blocks {
        // A piece whose blocks are all there was staged, or waited for its map: it can be proven.
        if blocks == progress.full(piece) {
            state.doubtful.insert(piece);
        } else if believed {
            state.partial.insert(piece, Arc::new(Slot::new(blocks)));
        }
    }
}

/// Without a map no single piece can be proven: claims become blocks that were received.
pub(crate) fn demote(state: &mut State, progress: Progress) {
    let empty = || Bitmap::for_layout(progress.layout);
    for claims in
        [std::mem::replace(&mut state.verified, empty()), std::mem::replace(&mut state.doubtful, empty())]
    {
        for piece in claims.iter() {
            state.stale = true;
            state.partial.insert(piece, Arc::new(Slot::new(progress.full(piece))));
        }
    }
}

/// The pieces that do not wholly lie in a hole of the file.
fn with_data(data: &File, layout: Layout) -> Bitmap {
    let piece_size = u64::from(PIECE_SIZE);
    let mut pieces = Bitmap::for_layout(layout);
    let mut at = 0;
    while at < layout.size() {
        // ENXIO: only a hole follows.
        let Ok(from) = rustix::fs::seek(data, SeekFrom::Data(at)) else { break };
        let to = rustix::fs::seek(data, SeekFrom::Hole(from)).unwrap_or(layout.size()).max(from + 1);
        for piece in from / piece_size..to.min(layout.size()).div_ceil(piece_size) {
            pieces.insert(PieceIndex(piece as u32));
        }
        at = to;
    }
    pieces
}

fn open_if_there(dir: &Dir, name: &str) -> io::Result<Option<File>> {
    match dir.open(name, Access::Read) {
        Ok(file) => Ok(Some(file)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn modified(stat: &Metadata) -> u64 {
    u64::try_from(stat.mtime()).unwrap_or(0)
}
