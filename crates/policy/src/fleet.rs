//! The fleet layer: what the coordinator says, signed by the catalog's key, so that nobody between it and the device, and
//! nobody who finds the file that the device keeps, can say anything in its name.
//!
//! - [`Selector`]: which devices a policy is for.
//! - [`Revision`], [`choose`]: what was published, and which of it holds for one device.
//! - [`FleetPolicy`]: what a device is given.

mod choose;
mod selector;

use peerage_content::{Reader, ShortInput, Statement, Writer};
use sha2::{Digest as _, Sha256};

use crate::error::PolicyErrors;
use crate::layer::{Layer, parse_layer};
pub use choose::{Device, Revision, admits, choose};
pub use selector::{Selector, SelectorError, Tag};

/// The most text that one fleet policy may have: 32 KiB. The table has some forty settings.
pub const MAX_FLEET_TEXT: usize = 32 * 1024;
/// The most policies that hold for one device together.
pub const MAX_FLEET_PARTS: usize = 64;
/// The longest text form of a selector.
const MAX_SELECTOR: usize = 64;

/// One published policy in a device's document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetPart {
    /// The devices that it is for.
    pub selector: Selector,
    /// The revision that published it.
    pub revision: u64,
    /// Its settings, as in a policy file.
    pub text: String,
}

impl FleetPart {
    /// How messages and `peerage config` name it.
    pub fn name(&self) -> String {
        format!("fleet policy {} for {}", self.revision, self.selector)
    }
}

/// "These settings hold on the devices that get this." Of two documents the one with the higher serial counts; a device
/// never goes back to a lower one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FleetPolicy {
    /// The newest revision that the coordinator knew when it signed this.
    pub serial: u64,
    /// The policies, later ones over earlier ones; at most [`MAX_FLEET_PARTS`].
    pub parts: Vec<FleetPart>,
}

impl FleetPolicy {
    /// Names what it says, apart from the serial: two documents with one digest set the same.
    pub fn digest(&self) -> peerage_content::Sha256 {
        let content = Self { serial: 0, parts: self.parts.clone() };
        peerage_content::Sha256::from_bytes(Sha256::digest(content.encode()).into())
    }

    /// Its policies as messages name them, the weakest first.
    pub fn names(&self) -> Vec<String> {
        self.parts.iter().map(FleetPart::name).collect()
    }

    /// What it would be if `text` were published for `selector`, in place of what it has for that.
    #[must_use]
    pub fn with(&self, selector: Selector, text: String) -> Self {
        let mut parts = self.parts.clone();
        parts.retain(|part| part.selector != selector);
        let at = parts.partition_point(|part| part.selector.strength() <= selector.strength());
        parts.insert(at, FleetPart { selector, revision: self.serial.saturating_add(1), text });
        Self { serial: self.serial, parts }
    }

    /// Its settings.
    ///
    /// # Errors
    /// Everything that this version does not understand; then nothing of it holds.
    pub fn layer(&self) -> Result<Layer, PolicyErrors> {
        let (mut layer, mut errors) = (Layer::default(), Vec::new());
        for part in &self.parts {
            match parse_layer(&part.name(), &part.text) {
                Ok(later) => layer.overlay(later),
                Err(wrong) => errors.extend(wrong.0),
            }
        }
        if errors.is_empty() { Ok(layer) } else { Err(PolicyErrors(errors)) }
    }
}

impl Statement for FleetPolicy {
    const CONTEXT: &'static str = "peerage fleet policy v1";
    const MAX_LEN: usize = 9 + MAX_FLEET_PARTS * (MAX_FLEET_TEXT + MAX_SELECTOR + 12);

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u64(self.serial).u8(self.parts.len().min(MAX_FLEET_PARTS) as u8);
        for part in self.parts.iter().take(MAX_FLEET_PARTS) {
            writer.field(part.selector.to_string().as_bytes()).u64(part.revision).field(part.text.as_bytes());
        }
        writer.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, ShortInput> {
        let mut reader = Reader::new(bytes);
        let (serial, count) = (reader.u64("serial")?, usize::from(reader.u8("parts")?));
        if count > MAX_FLEET_PARTS {
            return Err(ShortInput { field: "parts", why: "more than 64" });
        }
        let mut parts = Vec::with_capacity(count);
        for _ in 0..count {
            let text = reader.text(MAX_SELECTOR, "selector")?;
            let selector: Selector =
                text.parse().map_err(|_| ShortInput { field: "selector", why: "no selector" })?;
            if selector.to_string() != text {
                return Err(ShortInput { field: "selector", why: "not in its canonical form" });
            }
            let revision = reader.u64("revision")?;
            let text = reader.text(MAX_FLEET_TEXT, "settings")?.to_owned();
            parts.push(FleetPart { selector, revision, text });
        }
        reader.end("fleet policy")?;
        Ok(Self { serial, parts })
    }
}

#[cfg(test)]
mod tests {
    use peerage_content::{ContentRecord, SecretKey, Signed, SignedError};
    use proptest::prelude::*;

    use super::*;
    use crate::{Key, Layers, Provider};

    fn document() -> FleetPolicy {
        let part = |selector: &str, revision, text: &str| FleetPart {
            selector: selector.parse().unwrap(),
            revision,
            text: text.to_owned(),
        };
        FleetPolicy {
            serial: 9,
            parts: vec![
                part("all", 7, "max_cache_age = '1d'\nDODownloadMode = 2\n"),
                part("subnet:10.1.0.0/16", 3, ""),
                part("tag:lab", 8, "download_mode = 'lan'\n"),
            ],
        }
    }

    #[test]
    fn only_its_signer_speaks_and_later_parts_win() {
        let key = SecretKey::from_seed(&[4; 32]);
        let signed = Signed::new(document(), &key);
        let read = Signed::<FleetPolicy>::from_text(&signed.to_text(), &[key.public()]).unwrap();
        assert_eq!(read.get(), &document());
        let other = SecretKey::from_seed(&[5; 32]).public();
        assert!(matches!(
            Signed::<FleetPolicy>::from_bytes(signed.as_bytes(), &[other]),
            Err(SignedError::Untrusted { .. })
        ));
        assert!(
            Signed::<ContentRecord>::from_bytes(signed.as_bytes(), &[key.public()]).is_err(),
            "not another kind"
        );
        for at in 33..signed.as_bytes().len() {
            let mut bad = signed.as_bytes().to_vec();
            bad[at] ^= 1;
            assert!(Signed::<FleetPolicy>::from_bytes(&bad, &[key.public()]).is_err(), "byte {at}");
        }
        let mut layers = Layers::default();
        layers.replace(Provider::Fleet, document().layer().unwrap());
        let row = layers.row_of(Key::DownloadMode);
        assert_eq!((row.effective.text.as_str(), row.effective.provider), ("lan", Provider::Fleet));
        assert_eq!(row.effective.source.as_deref(), Some("fleet policy 8 for tag:lab"));
        assert_eq!(layers.settings().max_cache_age, 86_400);
    }

    #[test]
    fn the_digest_is_of_what_it_says() {
        let (one, mut other) = (document(), document());
        other.serial = 10;
        assert_eq!(one.digest(), other.digest());
        other.parts.pop();
        assert_ne!(one.digest(), other.digest());
    }

    #[test]
    fn one_wrong_part_refuses_all() {
        let mut bad = document();
        bad.parts[0].text = "max_cache_age = 'soon'".into();
        let error = bad.layer().unwrap_err().to_string();
        assert!(error.contains("fleet policy 7 for all: max_cache_age"), "{error}");
    }

    #[test]
    fn the_longest_document_fits() {
        let part = FleetPart {
            selector: format!("tag:{}", "a".repeat(32)).parse().unwrap(),
            revision: u64::MAX,
            text: "#".repeat(MAX_FLEET_TEXT),
        };
        let full = FleetPolicy { serial: u64::MAX, parts: vec![part; MAX_FLEET_PARTS] };
        let bytes = full.encode();
        assert!(bytes.len() <= FleetPolicy::MAX_LEN);
        assert_eq!(FleetPolicy::decode(&bytes).unwrap(), full);
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(noise in prop::collection::vec((any::<u16>(), any::<u8>()), 0..8), cut in any::<u16>()) {
            let mut bytes = document().encode();
            for (at, value) in noise {
                let at = usize::from(at) % bytes.len();
                bytes[at] = value;
            }
            bytes.truncate(usize::from(cut) % (bytes.len() + 1));
            if let Ok(read) = FleetPolicy::decode(&bytes) {
                prop_assert_eq!(read.encode(), bytes);
                let _ = read.layer();
            }
        }
    }
}
