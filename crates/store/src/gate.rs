//! The gate between those who work with a content's files and its move to another directory.

use parking_lot::{Mutex, RecursiveRwLock, RecursiveRwLockReadGuard, RecursiveRwLockWriteGuard};

/// Open, but while the files change their directory.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Held by a mover that waits for those inside, so that steady writers do not keep it waiting for ever.
    turnstile: Mutex<()>,
    inside: RecursiveRwLock<()>,
}

impl Gate {
    /// Goes in, past a mover that waits. Whoever is inside already must come in this way.
    pub(crate) fn pass(&self) -> RecursiveRwLockReadGuard<'_, ()> {
        self.inside.read()
    }

    /// Goes in behind a mover that waits. Not for those who are inside.
    pub(crate) fn queue(&self) -> RecursiveRwLockReadGuard<'_, ()> {
        drop(self.turnstile.lock());
        self.inside.read()
    }

    /// Waits until all have gone, and keeps everybody out.
    pub(crate) fn close(&self) -> RecursiveRwLockWriteGuard<'_, ()> {
        let _first = self.turnstile.lock();
        self.inside.write()
    }
}
