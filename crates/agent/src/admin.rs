//! The administrator's layer (`peerage set`): `admin.toml` in the state directory, replaced as a whole at each change.
//!
//! A file that cannot be read is left as it is and told of: whoever damaged it must not lose what else stands in it by
//! the next `set`.

use std::io::ErrorKind;

use peerage_api::{ApiError, Code};
use peerage_policy::{Key, Layer, PolicyError, Setting, parse_layer};

use crate::file_status::chain;
use crate::state_dir::StateDir;

const FILE: &str = "admin.toml";

/// The layer and its file.
#[derive(Debug)]
pub(crate) struct AdminFile {
    state: StateDir,
    layer: Layer,
    error: Option<String>,
}

impl AdminFile {
    /// Reads what was set before. Blocking.
    pub(crate) fn open(state: StateDir) -> Self {
        let path = state.path(FILE);
        let name = path.display().to_string();
        let read = match std::fs::read_to_string(&path) {
            Ok(text) => parse_layer(&name, &text).map_err(|errors| errors.to_string()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Layer::default()),
            Err(error) => Err(format!("{name}: {error}")),
        };
        let (layer, error) = match read {
            Ok(layer) => (layer, None),
            Err(error) => {
                tracing::error!(%error, "what was set with `peerage set` is not in force");
                (Layer::default(), Some(error))
            }
        };
        Self { state, layer, error }
    }

    /// What is set.
    pub(crate) const fn layer(&self) -> &Layer {
        &self.layer
    }

    /// Why what stands in the file is not in force.
    pub(crate) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Sets one value, from text. Blocking.
    ///
    /// # Errors
    /// The setting is unknown, the value not allowed, or the file cannot be read or written; nothing has changed.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<Key, ApiError> {
        let mut layer = self.usable()?;
        let file = self.state.path(FILE).display().to_string();
        let key = layer.set(&file, name, value).map_err(|error| bad(&error))?;
        self.keep(layer)?;
        Ok(key)
    }

    /// Takes one value back; whether there was one. Blocking.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub(crate) fn unset(&mut self, name: &str) -> Result<(Key, bool), ApiError> {
        let key = Setting::find(name).map(|setting| setting.key).ok_or_else(|| {
            let nearest = if name.len() <= 80 { Setting::nearest(name) } else { None };
            let key = name.chars().take(80).collect();
            bad(&PolicyError::UnknownKey { file: FILE.to_owned(), key, nearest })
        })?;
        let mut layer = self.usable()?;
        let was = layer.unset(key);
        if was {
            self.keep(layer)?;
        }
        Ok((key, was))
    }

    fn usable(&self) -> Result<Layer, ApiError> {
        match &self.error {
            None => Ok(self.layer.clone()),
            Some(error) => {
                let why = format!("{error}\nmend or remove that file and restart the agent first");
                Err(ApiError::new(Code::Conflict, why))
            }
        }
    }

    fn keep(&mut self, layer: Layer) -> Result<(), ApiError> {
        let written = self.state.write(FILE, layer.to_toml().as_bytes());
        written.map_err(|error| ApiError::new(Code::Disk, chain(&error)))?;
        self.layer = layer;
        Ok(())
    }
}

fn bad(error: &PolicyError) -> ApiError {
    ApiError::new(Code::BadRequest, error.without_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_stays_and_damage_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let mut admin = AdminFile::open(state.clone());
        admin.set("DOMaxCacheAge", "1d").unwrap();
        admin.set("vpn_keywords", "a, b").unwrap();
        let error = admin.set("max_cache_age", "soon").unwrap_err();
        assert!(error.message.starts_with("max_cache_age: found \"soon\", allowed is 0 to"), "{error}");
        assert!(admin.unset("max_cache_ag").unwrap_err().message.contains("perhaps max_cache_age"));
        assert!(!admin.unset("download_mode").unwrap().1);
        let again = AdminFile::open(state.clone());
        assert_eq!(again.layer().keys().count(), 2);
        assert!(again.layer().source(Key::MaxCacheAge).unwrap().ends_with("/admin.toml"));
        assert!(admin.unset("max_cache_age").unwrap().1);
        assert_eq!(AdminFile::open(state.clone()).layer().keys().collect::<Vec<_>>(), [Key::VpnKeywords]);
        state.write(FILE, b"vpn_keywords = ").unwrap();
        let mut damaged = AdminFile::open(state.clone());
        assert!(damaged.error().is_some() && damaged.layer().is_empty());
        assert_eq!(damaged.set("max_cache_age", "1").unwrap_err().code, Code::Conflict);
        assert_eq!(state.read(FILE).unwrap(), b"vpn_keywords = ");
    }
}
