//! The policy files that were right last, kept in the state directory: a policy that is wrong leaves the previous one in
//! force (product §5), and a restart must not turn that into the defaults.

use peerage_policy::{Layer, parse_layer};

use crate::file_status::chain;
use crate::state_dir::StateDir;

const FILE: &str = "policy.kept.toml";

/// What is kept.
#[derive(Debug)]
pub(crate) struct KeptPolicy {
    state: StateDir,
}

impl KeptPolicy {
    pub(crate) const fn new(state: StateDir) -> Self {
        Self { state }
    }

    /// Keeps a layer that has been read. Blocking.
    pub(crate) fn keep(&self, layer: &Layer) {
        let text = layer.to_toml();
        if self.state.read(FILE).as_deref() == Some(text.as_bytes()) {
            return;
        }
        if let Err(error) = self.state.write(FILE, text.as_bytes()) {
            tracing::warn!(error = %chain(&error), "the policy is not kept over a restart");
        }
    }

    /// What was kept last; `None`: nothing, or nothing of use. Blocking.
    pub(crate) fn last(&self) -> Option<Layer> {
        let text = String::from_utf8(self.state.read(FILE)?).ok()?;
        parse_layer(&self.state.path(FILE).display().to_string(), &text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_read_again_and_damage_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let kept = KeptPolicy::new(state.clone());
        assert_eq!(kept.last(), None);
        let layer = parse_layer("policy.toml", "max_cache_size = 10\ndownload_mode = 0\n").unwrap();
        kept.keep(&layer);
        let last = KeptPolicy::new(state.clone()).last().unwrap();
        assert_eq!(last.to_toml(), layer.to_toml());
        state.write(FILE, b"max_cache_size = 500\n").unwrap();
        assert_eq!(kept.last(), None);
        state.write(FILE, &[0xff]).unwrap();
        assert_eq!(kept.last(), None);
    }
}
