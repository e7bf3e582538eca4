//! Where the cache is: where policy wants it (`modify_cache_drive`), else where the configuration does.
//!
//! A store is open in one directory for as long as the agent runs, so a change takes hold at the next start, which moves
//! everything before it opens the cache. What was moved when a move broke off stays moved; the next start goes on with it.

use std::path::{Path, PathBuf};

use peerage_policy::{Key, Provider, Settings};
use peerage_store::{Store, StoreConfig, StoreError};

use crate::config::Config;
use crate::file_status::chain;
use crate::state_dir::StateDir;

/// Remembers where the cache was opened last.
const FILE: &str = "cache-directory";

/// Where the cache is to be.
pub(crate) fn wanted(config: &Config, settings: &Settings) -> PathBuf {
    match settings.provider(Key::ModifyCacheDrive) {
        Provider::Default => config.cache_dir.clone(),
        _ => settings.modify_cache_drive.clone(),
    }
}

/// Moves the cache to `place` from where it was, if that is elsewhere, and opens it. Blocking.
///
/// # Errors
/// It cannot be opened there. What could not be moved is no error: it is tried again at the next start.
pub(crate) fn open(config: &Config, state: &StateDir, place: &Path) -> Result<Store, StoreError> {
    let last = state.read(FILE).and_then(|bytes| String::from_utf8(bytes).ok());
    let last = last.map_or_else(|| config.cache_dir.clone(), PathBuf::from);
    let moved = if last == place { Ok(0) } else { peerage_store::relocate(&last, place) };
    match &moved {
        Ok(0) => {}
        Ok(moved) => {
            tracing::info!(moved, from = %last.display(), to = %place.display(), "the cache has moved");
        }
        Err(error) => {
            let error = chain(error);
            tracing::error!(error, from = %last.display(), to = %place.display(), "not all of the cache could be moved");
        }
    }
    let store = Store::open(StoreConfig::new(place))?;
    if moved.is_ok()
        && let Some(text) = place.to_str()
        && state.read(FILE).as_deref() != Some(text.as_bytes())
        && let Err(error) = state.write(FILE, text.as_bytes())
    {
        tracing::warn!(error = %chain(&error), "the place of the cache was not noted");
    }
    Ok(store)
}
