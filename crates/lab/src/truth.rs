//! The truth about every copy: each delivered file is read back and hashed, after the last download has ended, so that
//! hashing costs no download its processor.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use anyhow::Result;
use futures_util::stream::{self, StreamExt as _};
use peerage_content::ContentId;

use crate::downloads::Outcome;

/// Bytes hashed at a time.
const BLOCK: usize = 1 << 20;
/// Files hashed at a time; more only makes a disk seek.
const AT_ONCE: usize = 4;

/// For each outcome: does the device hold the right file?
///
/// `genuine` is what the file truly is. If nobody knows (a URL of which the coordinator made no record), all copies must be
/// what the first whole one is.
///
/// # Errors
/// A bug only: a task that ended badly.
pub(crate) async fn judge(outcomes: &[Outcome], size: u64, genuine: Option<ContentId>) -> Result<Vec<bool>> {
    let hashes = stream::iter(outcomes).map(|outcome| hash(outcome.file.as_ref().ok(), size));
    let found: Vec<Option<ContentId>> =
        hashes.buffered(AT_ONCE).collect::<Vec<_>>().await.into_iter().collect::<Result<_>>()?;
    let first = || {
        let whole = outcomes.iter().zip(&found).filter(|(_, found)| found.is_some());
        whole.min_by_key(|(outcome, _)| outcome.ended).and_then(|(_, found)| *found)
    };
    let genuine = genuine.or_else(first);
    Ok(found.into_iter().map(|found| found.is_some() && found == genuine).collect())
}

/// The id of a file of `size` bytes; `None` if there is none, or it has another size or cannot be read.
async fn hash(file: Option<&File>, size: u64) -> Result<Option<ContentId>> {
    let Some(file) = file.and_then(|file| file.try_clone().ok()) else { return Ok(None) };
    let read = move || -> std::io::Result<Option<ContentId>> {
        let (mut hasher, mut block, mut at) = (blake3::Hasher::new(), vec![0; BLOCK], 0);
        loop {
            // By offset: the descriptor came from the agent, and its position is shared with it.
            let len = file.read_at(&mut block, at)?;
            if len == 0 {
                let id = ContentId::from_bytes(*hasher.finalize().as_bytes());
                return Ok((at == size).then_some(id));
            }
            hasher.update(block.get(..len).unwrap_or_default());
            at += len as u64;
        }
    };
    let hashed = tokio::task::spawn_blocking(read).await?;
    Ok(hashed.unwrap_or_else(|error| {
        tracing::error!(%error, "a delivered file cannot be read");
        None
    }))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Duration;

    use peerage_api::agent::FileStatus;

    use super::*;

    fn outcome(number: u32, bytes: Option<&[u8]>) -> Outcome {
        let file = bytes.ok_or_else(|| "it failed".to_owned()).map(|bytes| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            file
        });
        let took = Duration::from_secs(100 - u64::from(number));
        Outcome { number, took, ended: took, status: FileStatus::default(), file }
    }

    fn id(bytes: &[u8]) -> ContentId {
        ContentId::from_bytes(*blake3::hash(bytes).as_bytes())
    }

    #[tokio::test]
    async fn only_the_genuine_bytes_are_right() {
        let copies = [Some(&b"right"[..]), Some(b"wrong"), Some(b"short!"), None, Some(b"right")];
        let outcomes: Vec<_> = (1..).zip(copies).map(|(number, bytes)| outcome(number, bytes)).collect();
        let right = judge(&outcomes, 5, Some(id(b"right"))).await.unwrap();
        assert_eq!(right, [true, false, false, false, true]);
        // Nobody knows: the first whole copy (the highest number ended first) is what the others must be.
        assert_eq!(judge(&outcomes, 5, None).await.unwrap(), right);
        assert_eq!(judge(&outcomes[3..4], 5, None).await.unwrap(), [false]);
        assert_eq!(judge(&outcomes[..1], 5, Some(id(b"other"))).await.unwrap(), [false]);
    }
}
