//! Where the bytes come from: a file, or an upstream whose ranges are passed through.

use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _, try_unfold};
use peerage_origin::{Known, OriginClient, OriginError, OriginInfo, RangeRequest, SourceUrl};
use url::Url;

use super::LabOriginError;

/// Bytes read at a time.
const BLOCK: u64 = 64 << 10;

/// What an origin serves.
#[derive(Debug, Clone)]
pub enum OriginSource {
    /// A local file. It is opened once: a file put in its place later is not served.
    File(PathBuf),
    /// A file on another origin, which must tell its size and serve ranges.
    Upstream {
        /// Fetches it.
        client: OriginClient,
        /// Where it is.
        url: SourceUrl,
    },
}

/// What answers say of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct About {
    pub(super) size: u64,
    pub(super) etag: String,
    pub(super) last_modified: String,
}

/// An opened source.
#[derive(Debug)]
pub(super) struct Source {
    /// The only path that is served. Compared as text, never looked up in a directory.
    path: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    File(Arc<File>),
    Upstream { client: OriginClient, info: OriginInfo, size: u64 },
}

/// Bytes of a body.
pub(super) type Stream = BoxStream<'static, io::Result<Bytes>>;

impl Source {
    pub(super) async fn open(source: OriginSource) -> Result<Self, LabOriginError> {
        match source {
            OriginSource::File(path) => {
                // Looked at before it is opened: opening a FIFO would wait for a writer.
                let name = match (path.metadata(), path.file_name()) {
                    (Err(source), _) => return Err(LabOriginError::Open { path, source }),
                    (Ok(meta), Some(name)) if meta.is_file() => name.to_string_lossy().into_owned(),
                    _ => return Err(LabOriginError::NotAFile { path }),
                };
                let file = File::open(&path).map_err(|source| LabOriginError::Open { path, source })?;
                Ok(Self { path: served_path(&name), kind: Kind::File(Arc::new(file)) })
            }
            OriginSource::Upstream { client, url } => {
                let mut info = client.probe(&url).await?;
                if !info.supports_ranges {
                    // HEAD does not have to say so; the answer to a range does.
                    let first = RangeRequest { from: 0, to: Some(1) };
                    info = client.open(&url, first, &Known::default()).await?.info().clone();
                }
                let Some(size) = info.size.filter(|_| info.supports_ranges) else {
                    return Err(LabOriginError::NoRanges { url });
                };
                let name = url.as_url().path_segments().and_then(|mut parts| parts.next_back());
                let name = name.filter(|name| !name.is_empty()).unwrap_or("file");
                Ok(Self { path: format!("/{name}"), kind: Kind::Upstream { client, info, size } })
            }
        }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// What the file is at this moment.
    pub(super) fn about(&self) -> io::Result<About> {
        match &self.kind {
            Kind::File(file) => about_file(&file.metadata()?),
            Kind::Upstream { info, size, .. } => Ok(About {
                size: *size,
                etag: info.validators.etag.clone(),
                last_modified: info.validators.last_modified.clone(),
            }),
        }
    }

    /// The bytes of `range`, which lies within the file.
    pub(super) async fn read(&self, range: Range<u64>) -> io::Result<Stream> {
        match &self.kind {
            Kind::File(file) => Ok(read_file(Arc::clone(file), range)),
            Kind::Upstream { client, info, .. } => {
                let asked = RangeRequest { from: range.start, to: Some(range.end) };
                let body =
                    client.open(&info.final_url, asked, &info.known()).await.map_err(io::Error::other)?;
                if body.start() != range.start {
                    return Err(io::Error::other("the upstream no longer serves ranges"));
                }
                let chunks = try_unfold(body, |mut body| async {
                    Ok::<_, OriginError>(body.chunk().await?.map(|bytes| (bytes, body)))
                });
                Ok(chunks.map_err(io::Error::other).boxed())
            }
        }
    }
}

/// The path of a URL whose last part is `name`, percent-encoded as clients send it.
pub(super) fn served_path(name: &str) -> String {
    let mut url = SourceUrl::parse("http://origin/").map(|url| url.as_url().clone()).ok();
    if let Some(Ok(mut parts)) = url.as_mut().map(Url::path_segments_mut) {
        parts.pop_if_empty().push(name);
    }
    url.map(|url| url.path().to_owned()).unwrap_or_default()
}

fn about_file(meta: &Metadata) -> io::Result<About> {
    /// The first second of the year 10000, which HTTP dates cannot tell.
    const END_OF_DATES: i64 = 253_402_300_800;
    let (size, seconds) = (meta.size(), meta.mtime());
    let etag = format!("\"{size:x}-{seconds:x}.{:x}\"", meta.mtime_nsec());
    let last_modified = if (0..END_OF_DATES).contains(&seconds) {
        httpdate::fmt_http_date(meta.modified()?)
    } else {
        String::new()
    };
    Ok(About { size, etag, last_modified })
}

/// Reads in blocks on the blocking pool: a cold file must not hold up the other connections.
fn read_file(file: Arc<File>, range: Range<u64>) -> Stream {
    try_unfold((file, range), |(file, range)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let end = range.end.min(range.start.saturating_add(BLOCK));
        let (file, block) = tokio::task::spawn_blocking(move || {
            let mut block = BytesMut::zeroed((end - range.start) as usize);
            // A file cut short meanwhile is an error, and the connection with it: its length has been promised.
            file.read_exact_at(&mut block, range.start).map(|()| (file, block.freeze()))
        })
        .await
        .map_err(io::Error::other)??;
        Ok(Some((block, (file, end..range.end))))
    })
    .boxed()
}
