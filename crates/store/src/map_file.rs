//! The file `map`: the piece map in its file form, which proves itself against the content id.

use std::io::{self, Read as _, Write as _};

use peerage_content::{ContentId, Layout, MAX_CONTENT_SIZE, PieceMap};

use crate::dir::{Access, Dir};

/// Name of the file.
pub(crate) const MAP: &str = "map";

/// Reads the map of `id`; `None` when it is missing or damaged.
pub(crate) fn load(dir: &Dir, id: ContentId) -> io::Result<Option<PieceMap>> {
    let file = match dir.open(MAP, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let longest = Layout::new(MAX_CONTENT_SIZE).map_or(0, PieceMap::byte_len) as u64;
    let mut bytes = Vec::new();
    file.take(longest + 1).read_to_end(&mut bytes)?;
    Ok(PieceMap::from_bytes(&bytes, id).ok())
}

/// Writes or replaces the map.
pub(crate) fn store(dir: &Dir, map: &PieceMap) -> io::Result<()> {
    let temp = "map.new";
    dir.create(temp)?.write_all(&map.to_bytes())?;
    dir.rename(temp, dir, MAP)
}
