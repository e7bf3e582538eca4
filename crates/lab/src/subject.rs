//! The file of a run: what it is called, how long it is, and, for a file of this machine, what it truly is.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use peerage_content::{Digest, Digester, Validators};
use peerage_origin::{OriginClient, OriginConfig, ProxyMode, SourceUrl};

use crate::args::Source;

/// Bytes hashed at a time.
const BLOCK: usize = 1 << 20;

/// What every device downloads.
#[derive(Debug)]
pub(crate) struct Subject {
    /// What it is called in the report.
    pub(crate) name: String,
    /// Where the devices find it: at the lab's origin.
    pub(crate) url: String,
    /// Bytes.
    pub(crate) size: u64,
    /// What the lab's origin says of it.
    pub(crate) validators: Validators,
    /// Its hashes, once a file of this machine has been read.
    pub(crate) digest: Option<Digest>,
}

impl Subject {
    /// Asks the lab's origin, which serves `source` at `url`, what it serves.
    ///
    /// # Errors
    /// The origin does not answer, or does not say how long the file is.
    pub(crate) async fn new(source: &Source, url: String) -> Result<Self> {
        let client =
            OriginClient::new(OriginConfig { proxy: ProxyMode::Direct.into(), ..OriginConfig::default() })?;
        let info = client.probe(&SourceUrl::parse(&url)?).await?;
        let size = info.size.context("the origin does not say how long the file is")?;
        let name = match source {
            Source::File(path) => file_name(path),
            Source::Url(url) => url.to_string(),
        };
        Ok(Self { name, url, size, validators: info.validators, digest: None })
    }

    /// Reads a file of this machine to know what it is.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) async fn hash(&mut self, source: &Source) -> Result<()> {
        if let Source::File(path) = source {
            self.digest = Some(digest(path.clone()).await?);
        }
        Ok(())
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

async fn digest(path: PathBuf) -> Result<Digest> {
    let read = move || {
        let mut file = File::open(&path)?;
        let (mut digester, mut block) = (Digester::new(), vec![0; BLOCK]);
        loop {
            match file.read(&mut block)? {
                0 => return digester.finish().map_err(std::io::Error::other),
                len => digester.update(block.get(..len).unwrap_or_default()),
            }
        }
    };
    tokio::task::spawn_blocking(read).await?.context("could not read the file")
}
