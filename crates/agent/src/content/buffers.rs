//! Memory for file bytes on their way between connections and the store, shared by all of them.
//!
//! A buffer is held only while there are bytes in it: of fifty neighbours a few send at any moment, and each keeping its own
//! would be most of what an agent occupies. The one given back last is taken first, since it is still in the processor's
//! cache, and the kernel need not find and clear new pages for it.

use std::ops::{Deref, DerefMut};

use parking_lot::Mutex;
use peerage_content::BLOCK_SIZE;

/// Bytes of one buffer: whole blocks, as many as the store writes and hashes at once, and as many as a connection reads
/// and sends at once.
pub(crate) const BUFFER_LEN: usize = 16 * BLOCK_SIZE as usize;

/// Spare buffers kept for the next taker; more than that are freed.
const MAX_SPARE: usize = 16;

static SPARE: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// [`BUFFER_LEN`] bytes with any content. Goes back when it is dropped.
#[derive(Debug)]
pub(crate) struct Buffer(Box<[u8]>);

impl Buffer {
    pub(crate) fn take() -> Self {
        let spare = SPARE.lock().pop();
        Self(spare.unwrap_or_else(|| vec![0; BUFFER_LEN].into_boxed_slice()))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut spare = SPARE.lock();
        if spare.len() < MAX_SPARE {
            spare.push(std::mem::take(&mut self.0));
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_given_back_last_is_taken_first_and_few_are_kept() {
        let at = |buffer: &Buffer| buffer.as_ptr();
        let (first, second) = (Buffer::take(), Buffer::take());
        let last = at(&second);
        drop(first);
        drop(second);
        assert_eq!(at(&Buffer::take()), last);

        let many: Vec<Buffer> = (0..2 * MAX_SPARE).map(|_| Buffer::take()).collect();
        assert!(many.iter().all(|buffer| buffer.len() == BUFFER_LEN));
        drop(many);
        assert_eq!(SPARE.lock().len(), MAX_SPARE);
    }
}
