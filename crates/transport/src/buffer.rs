//! Buffers of 256 KiB that connections share: one is held only while there are bytes in it, so that fifty idle
//! connections cost no buffers at all (product §9: memory when seeding).

use std::sync::{Arc, Mutex, PoisonError};

use crate::record::MAX_SEALED;

/// Sixteen full records, and room for the short ones before them: a data frame of 256 KiB with its head is one call of
/// the socket. Measured over loopback: a quarter of it costs some 7 % more processor time; twice as much saves less than
/// the measurement's spread and doubles the memory.
pub(crate) const BUFFER_LEN: usize = 16 * MAX_SEALED + 512;

/// Spare buffers kept for the next taker; more than that are freed.
const MAX_SPARE: usize = 8;

/// Always [`BUFFER_LEN`] bytes.
pub(crate) type Buffer = Box<[u8]>;

/// Where buffers come from and go to.
#[derive(Debug, Clone, Default)]
pub(crate) struct BufferPool(Arc<Mutex<Vec<Buffer>>>);

impl BufferPool {
    /// A buffer with any content.
    pub(crate) fn take(&self) -> Buffer {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| vec![0; BUFFER_LEN].into_boxed_slice())
    }

    /// Takes a buffer back.
    pub(crate) fn put(&self, buffer: Buffer) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MAX_SPARE {
            spare.push(buffer);
        }
    }

    #[cfg(test)]
    pub(crate) fn spare(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
