//! The swarm phase: the content's actor does the work; this waits for it and watches over the record.

use std::sync::Arc;
use std::time::Duration;

use peerage_api::agent::FileStatus;
use peerage_api::{ApiError, Code};
use peerage_content::{ContentRecord, PieceMap, Signed};
use peerage_origin::{ErrorKind, Known, OriginError, SourceUrl};
use peerage_store::{Content, StoreError};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Download, Ended, Finished, Phase, TELL_EVERY};
use crate::content::{Brought, Command, ContentHandle, ContentStatus, Trouble, Want};
use crate::file_status::{self, Counts, chain};
use crate::resolve::Resolution;
use crate::search::Search;
use crate::shared::Shared;
use crate::wish::Found;

/// An origin that takes longer to say whether the record is fresh is treated as away …
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// … and one that is all that a finished download still waits for, already after this: as long as it may take to connect to
/// anybody (product §8).
const LAST_WORD: Duration = Duration::from_secs(3);
/// A download whose origin is out of reach ends when nobody else has been known for this long who could have the file:
/// neighbours that are there are found in less.
const NOBODY_ELSE: Duration = Duration::from_secs(10);

impl Download {
    /// The content's actor does the work; this waits for it and watches over the record.
    pub(super) async fn swarm(&mut self, resolution: Resolution, search: &Search) -> Ended<Phase> {
        self.found = None;
        let Resolution { record, map, announce, staged } = resolution;
        self.require_room(record.get().size).await?;
        let content = match staged {
            Some(content) => content,
            None => self.open_content(record.get(), map.clone()).await?,
        };
        self.fetches |= !content.is_complete();
        self.note_source(&content, &record, search.url());
        let Some(map) = content_map(&content, map)? else { return Ok(Phase::Lost) };
        self.shared.contents.settled(content.id()).await;
        let (shared, own) = (Arc::clone(&self.shared), content.clone());
        let started = tokio::task::spawn_blocking(move || shared.contents.start(&shared, own, map)).await;
        let handle = started
            .map_err(|error| ApiError::new(Code::Internal, error.to_string()))?
            .map_err(|error| ApiError::new(Code::Disk, chain(&error)))?;
        if self.earlier.is_none_or(|(id, _)| id != handle.id) {
            let now = Arc::clone(&handle.status.borrow());
            self.earlier = Some((handle.id, Counts { received: now.received, wasted: now.wasted }));
        }
        let want = self.shared.next_number();
        match announce {
            // Whether neighbours hold the file is to be known before the origin is asked for any of it.
            Some(item) => crate::announcer::accept(&self.shared, item).await,
            None => self.shared.announcer.poke(handle.id),
        }
        if !self.join(&handle, want, &record, search).await {
            return Ok(ended(&handle, &record));
        }
        let end = self.watch(&handle, want, &record, search).await;
        handle.tell(Command::Leave { want }).await;
        end
    }

    async fn open_content(&mut self, record: &ContentRecord, map: Option<PieceMap>) -> Ended<Content> {
        let (shared, id, layout) = (Arc::clone(&self.shared), record.id, record.layout());
        let row = FileStatus { file_id: id.to_string(), file_size: record.size, ..FileStatus::default() };
        self.on_disk(row, move || shared.store.create(id, layout, map.as_ref(), shared.clock.unix())).await
    }

    fn note_source(&mut self, content: &Content, record: &Signed<ContentRecord>, url: Option<&SourceUrl>) {
        tokio::task::block_in_place(|| {
            let noted = content.change_notes(|notes| {
                crate::notes::set_source(notes, url.map(SourceUrl::as_str), Some(record));
                if !self.account.decisions.is_empty() {
                    let mut account = crate::notes::account(notes);
                    account.after(Arc::unwrap_or_clone(std::mem::take(&mut self.account)));
                    crate::notes::set_account(notes, &account);
                }
            });
            if let Err(error) = noted {
                tracing::debug!(%error, "the source was not noted");
            }
        });
    }

    /// `false`: the actor has ended.
    async fn join(
        &mut self,
        handle: &ContentHandle,
        want: u64,
        record: &Signed<ContentRecord>,
        search: &Search,
    ) -> bool {
        let known = Known { size: Some(record.get().size), validators: record.get().validators.clone() };
        let origin = search.url().cloned().or_else(|| {
            let url = record.get().urls.first()?;
            SourceUrl::parse(url).ok()
        });
        let want = Want {
            id: want,
            foreground: self.request().foreground,
            origin: origin.map(|url| (url, known)),
            record: Some(record.clone()),
            brought: self.brought,
        };
        let joined = handle.tell(Command::Join(Box::new(want))).await;
        if joined {
            self.brought = Brought::default();
        }
        joined
    }

    async fn watch(
        &mut self,
        handle: &ContentHandle,
        want: u64,
        record: &Signed<ContentRecord>,
        search: &Search,
    ) -> Ended<Phase> {
        let mut fresh =
            tokio::spawn(check_fresh(Arc::clone(&self.shared), search.url().cloned(), record.clone()));
        let (mut is_fresh, mut foreground) = (false, self.request().foreground);
        let asked = Instant::now();
        // Why the origin is out of reach, and since when nobody else is known who could have the file.
        let (mut refused, mut alone) = (None, asked);
        let mut status = handle.status.clone();
        let mut progress = (0, Instant::now());
        loop {
            let now = Arc::clone(&status.borrow_and_update());
            self.show_content(handle, &now);
            if now.complete && is_fresh && now.wants.contains(&want) {
                self.show_content(handle, &now);
                return Ok(Phase::Done(Finished::Content(handle.content.clone())));
            }
            if is_lost(&now) {
                handle.tell(Command::Stop).await;
                handle.ended().await;
                return Ok(Phase::Lost);
            }
            if let Some(why) = now.trouble.as_ref().and_then(Trouble::proves_stale) {
                return Ok(Phase::Stale { serial: record.get().serial, why });
            }
            // Whoever may not run does not fail for want of progress.
            if now.verified_bytes != progress.0 || now.complete || now.held {
                progress = (now.verified_bytes, Instant::now());
            }
            if now.others || now.held || refused.is_none() {
                alone = Instant::now();
            } else if alone.elapsed() >= NOBODY_ELSE
                && let Some(error) = &refused
            {
                return Err(ApiError::new(Code::Origin, OriginError::to_string(error)));
            }
            if progress.1.elapsed() >= self.no_progress() {
                let trouble = now.trouble.as_ref().map(file_status::sentence).unwrap_or_default();
                return Err(file_status::no_progress(self.no_progress(), &trouble));
            }
            tokio::select! {
                changed = status.changed() => if changed.is_err() {
                    fresh.abort();
                    return Ok(ended(handle, record));
                },
                told = self.next_tell() => {
                    if let Err(error) = told {
                        fresh.abort();
                        return Err(error);
                    }
                    if self.request().foreground != foreground {
                        foreground = !foreground;
                        // An actor that has ended is noticed in the next round.
                        self.join(handle, want, record, search).await;
                    }
                }
                checked = &mut fresh, if !is_fresh => match checked {
                    Ok(Ok(unasked)) => {
                        is_fresh = true;
                        if let Some(error) = unasked.filter(OriginError::is_of_proxy) {
                            let trouble = Trouble::Origin(error.clone());
                            self.note(file_status::sentence(&trouble));
                            // An actor that has ended is noticed in the next round.
                            handle.tell(Command::OriginFailed(error.clone())).await;
                            refused = (error.kind() == ErrorKind::Proxy).then_some(error);
                        }
                        // Callers that know better are told now, not when it is here.
                        self.found = Some(Found { id: record.get().id, sha256: record.get().sha256 });
                    }
                    Ok(Err(why)) => return Ok(Phase::Stale { serial: record.get().serial, why }),
                    Err(error) => return Err(ApiError::new(Code::Internal, error.to_string())),
                },
                () = sleep_until(asked + LAST_WORD), if now.complete && !is_fresh => {
                    tracing::info!(content = %handle.id, "the origin does not answer, and nothing else is waited for");
                    fresh.abort();
                    is_fresh = true;
                    self.found = Some(Found { id: record.get().id, sha256: record.get().sha256 });
                }
                () = sleep(TELL_EVERY) => {}
            }
        }
    }

    fn show_content(&mut self, handle: &ContentHandle, status: &ContentStatus) {
        let mut row = file_status::of_content(handle.id, &handle.content.info(), status, false);
        let news = self.notes.iter().filter(|note| !row.reasons.contains(note)).cloned().collect::<Vec<_>>();
        row.reasons.extend(news);
        self.show(row);
    }
}

/// Whether the content's files are gone for good: somebody deleted them.
fn is_lost(status: &ContentStatus) -> bool {
    matches!(&status.trouble, Some(Trouble::Disk(error))
        if matches!(**error, StoreError::Vanished { .. } | StoreError::Removed { .. }))
}

/// Asks the origin whether it still serves what the record says. An origin that cannot be asked does not object: peers
/// and cache may finish the download without it (product §8); why it cannot is returned.
async fn check_fresh(
    shared: Arc<Shared>,
    url: Option<SourceUrl>,
    record: Signed<ContentRecord>,
) -> Result<Option<OriginError>, String> {
    let Some(url) = url else { return Ok(None) };
    match timeout(PROBE_TIMEOUT, shared.origin.probe(&url)).await {
        Ok(Ok(info)) => {
            record.get().check_fresh(info.size, &info.validators).map_err(|error| error.to_string())?;
            Ok(None)
        }
        Ok(Err(error)) => judge_probe(error).map(Some),
        Err(_) => Ok(None),
    }
}

fn judge_probe(error: OriginError) -> Result<OriginError, String> {
    match error.kind() {
        // The origin says that the file is no longer there, or not for this device: the record must not stand in.
        ErrorKind::Gone | ErrorKind::Denied | ErrorKind::Stale => Err(error.to_string()),
        _ => {
            tracing::info!(%error, "the origin could not say whether the record is fresh");
            Ok(error)
        }
    }
}

/// The download goes on with another actor.
fn ended(handle: &ContentHandle, record: &Signed<ContentRecord>) -> Phase {
    let staged = Some(handle.content.clone());
    Phase::Ended(Box::new(Resolution { record: record.clone(), map: None, announce: None, staged }))
}

/// The piece map; `None` when it, or all of the content, was deleted by somebody else.
fn content_map(content: &Content, map: Option<PieceMap>) -> Ended<Option<PieceMap>> {
    if map.is_some() {
        return Ok(map);
    }
    match tokio::task::block_in_place(|| content.map()) {
        Ok(held) => Ok(held),
        Err(StoreError::Vanished { .. } | StoreError::Removed { .. }) => Ok(None),
        Err(error) => Err(ApiError::new(Code::Disk, chain(&error))),
    }
}
