//! Piece maps as files: `maps/<first two digits>/<content id>`.
//!
//! Written beside, synced and renamed, so a crash leaves a whole map or none. Every map is read back and proven against
//! its id before it is handed out; one that the disk has damaged is removed and counts as missing.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use peerage_content::{ContentId, PieceMap};

use crate::data_dir::{make_private_dir, replace};

/// Bytes of recently used maps kept in memory: a fleet asks for the same few.
const RECENT_BYTES: usize = 64 << 20;

/// A map cannot be stored or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MapError {
    /// The file cannot be written.
    #[error("could not store the piece map of {id}")]
    Store {
        /// The content.
        id: ContentId,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("could not read the piece map of {id}")]
    Read {
        /// The content.
        id: ContentId,
        /// Why.
        #[source]
        source: io::Error,
    },
}

#[derive(Debug, Default)]
struct Recent {
    maps: VecDeque<(ContentId, Bytes)>,
    bytes: usize,
}

/// The maps on disk. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Maps {
    root: Arc<PathBuf>,
    recent: Arc<Mutex<Recent>>,
}

impl Maps {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root: Arc::new(root), recent: Arc::default() }
    }

    fn path(&self, id: ContentId) -> PathBuf {
        let name = id.to_string();
        self.root.join(&name[..2]).join(&name)
    }

    /// Stores a map and reads it back.
    pub(crate) async fn put(&self, map: &PieceMap) -> Result<(), MapError> {
        let (id, path, bytes) = (map.id(), self.path(map.id()), map.to_bytes());
        let stored = blocking(move || {
            if let Some(dir) = path.parent() {
                make_private_dir(dir)?;
            }
            replace(&path, &bytes)?;
            let back = std::fs::read(&path)?;
            PieceMap::from_bytes(&back, id).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
        });
        stored.await.map(drop).map_err(|source| MapError::Store { id, source })
    }

    /// The file form of a map, proven; `None` when there is none.
    pub(crate) async fn get(&self, id: ContentId) -> Result<Option<Bytes>, MapError> {
        if let Some(bytes) = self.recent(id) {
            return Ok(Some(bytes));
        }
        let path = self.path(id);
        let read = blocking(move || {
            let bytes = match std::fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                other => other?,
            };
            if let Err(error) = PieceMap::from_bytes(&bytes, id) {
                tracing::error!(%id, %error, "stored piece map is damaged; removed");
                std::fs::remove_file(&path)?;
                return Ok(None);
            }
            Ok(Some(Bytes::from(bytes)))
        });
        let found = read.await.map_err(|source| MapError::Read { id, source })?;
        if let Some(bytes) = &found {
            self.remember(id, bytes.clone());
        }
        Ok(found)
    }

    /// Removes a map if there is one.
    pub(crate) async fn remove(&self, id: ContentId) -> Result<(), MapError> {
        let path = self.path(id);
        self.forget(id);
        let removed = blocking(move || match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        });
        removed.await.map_err(|source| MapError::Store { id, source })
    }

    fn recent(&self, id: ContentId) -> Option<Bytes> {
        let recent = self.recent.lock();
        recent.maps.iter().find(|(known, _)| *known == id).map(|(_, bytes)| bytes.clone())
    }

    fn forget(&self, id: ContentId) {
        let mut recent = self.recent.lock();
        if let Some(at) = recent.maps.iter().position(|(known, _)| *known == id) {
            recent.bytes -= recent.maps.remove(at).map_or(0, |(_, bytes)| bytes.len());
        }
    }

    fn remember(&self, id: ContentId, bytes: Bytes) {
        let mut recent = self.recent.lock();
        if bytes.len() > RECENT_BYTES / 2 || recent.maps.iter().any(|(known, _)| *known == id) {
            return;
        }
        recent.bytes += bytes.len();
        recent.maps.push_front((id, bytes));
        while recent.bytes > RECENT_BYTES {
            let Some((_, gone)) = recent.maps.pop_back() else { break };
            recent.bytes -= gone.len();
        }
    }
}

async fn blocking<T: Send + 'static>(act: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(act).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use peerage_content::Digester;

    use super::*;

    #[tokio::test]
    async fn stored_proven_and_dropped_when_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let maps = Maps::new(dir.path().join("maps"));
        let mut digester = Digester::new();
        digester.update(&vec![7; 3 << 20]);
        let map = digester.finish().unwrap().map;
        assert!(maps.get(map.id()).await.unwrap().is_none());
        maps.put(&map).await.unwrap();
        assert_eq!(maps.get(map.id()).await.unwrap().unwrap(), map.to_bytes());

        let path = maps.path(map.id());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[40] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(maps.get(map.id()).await.unwrap().is_some(), "still in memory, proven before");
        let restarted = Maps::new(dir.path().join("maps"));
        assert!(restarted.get(map.id()).await.unwrap().is_none());
        assert!(!path.exists());
        maps.remove(map.id()).await.unwrap();
        assert!(maps.get(map.id()).await.unwrap().is_none());
    }
}
