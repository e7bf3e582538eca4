//! Finished files that wait to be fetched: one-time words for open descriptors (api::agent, "Delivery").

use std::collections::HashMap;
use std::fs::File;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A word is good for this long.
const LIFE: Duration = Duration::from_secs(60);
const MAX_WAITING: usize = 1000;

/// The files that wait.
#[derive(Debug, Default)]
pub(crate) struct Deliveries(Mutex<HashMap<String, (Instant, File)>>);

impl Deliveries {
    /// Makes a word for `file`. `None`: too many files wait, or there is no randomness to make a word of.
    pub(crate) fn offer(&self, file: File) -> Option<String> {
        let mut raw = [0u8; 16];
        getrandom::fill(&mut raw).ok()?;
        let word: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut waiting = self.0.lock();
        waiting.retain(|_, (since, _)| since.elapsed() < LIFE);
        if waiting.len() >= MAX_WAITING {
            return None;
        }
        waiting.insert(word.clone(), (Instant::now(), file));
        Some(word)
    }

    /// The file of a word; works once.
    pub(crate) fn take(&self, word: &str) -> Option<File> {
        let (since, file) = self.0.lock().remove(word)?;
        (since.elapsed() < LIFE).then_some(file)
    }
}
