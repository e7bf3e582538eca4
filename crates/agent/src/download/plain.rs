//! The simple phase: plain HTTP, until it is done or a record arrives.

use std::sync::Arc;
use std::time::Duration;

use peerage_api::agent::{FileState, FileStatus};
use peerage_api::why::Why;
use peerage_api::{ApiError, Code};
use peerage_origin::SourceUrl;
use peerage_policy::{ContentFacts, Decision, RecordState};
use peerage_store::{Staging, StoreError};
use peerage_swarm::{ByKind, SourceKind};
use tokio::time::{Instant, sleep};

use super::{Download, Ended, Finished, Phase, TELL_EVERY};
use crate::caches::origin_url;
use crate::content::Brought;
use crate::file_status::{self, chain};
use crate::resolve::Resolution;
use crate::search::Search;
use crate::simple::{Simple, SimpleEnd, SimpleState};
use crate::why;

/// What became of the bytes that simple mode had when a record came.
enum Promoted {
    /// Verified, as far as there were any.
    Kept,
    /// The cache was deleted under them.
    Lost,
}

impl Download {
    /// Plain HTTP, until it is done or a record arrives.
    pub(super) async fn simple(&mut self, search: &mut Search) -> Ended<Phase> {
        let Some(url) = search.url().cloned() else {
            return Err(ApiError::new(Code::NotFound, "only a record could say where the file is"));
        };
        let lane = self.shared.budgets.lane(self.class());
        let gate = lane.from(SourceKind::Cdn);
        let (shared, no_progress) = (Arc::clone(&self.shared), self.no_progress());
        let opened = gate.clone();
        let open = move || Simple::open(Arc::clone(&shared), url.clone(), opened.clone(), no_progress);
        let (simple, state) = self.on_disk(FileStatus::default(), open).await?;
        let staging = simple.staging.clone();
        let run = simple.run();
        tokio::pin!(run);
        let mut policy = self.shared.policy.clone();
        let (mut held, mut network, mut fitting) = (false, policy.borrow().network, None);
        // The origin is out of reach: since when, and why.
        let mut refused: Option<(Instant, ApiError)> = None;
        loop {
            let now_network = policy.borrow_and_update().network;
            let size = state.borrow().size;
            if size != fitting {
                if let Err(error) = self.require_room(size.unwrap_or(0)).await {
                    // Nobody can go on with it, and it is in the way of what does fit.
                    if let Err(error) = tokio::task::block_in_place(|| staging.discard()) {
                        tracing::warn!(%error, "a file that cannot fit was not thrown away");
                    }
                    return Err(error);
                }
                fitting = size;
            }
            let decision = self.decide_simple(search.url(), size);
            let now_held = !decision.allowed.download;
            let delay = Duration::from_secs(decision.limits.cache_delay);
            if now_network != network {
                simple.forgive();
            }
            if simple.allow(&decision.caches, delay) || (now_held && !held) || now_network != network {
                // Ends the present request; the next one begins where it has come to, over a connection of its own.
                run.set(simple.run());
                refused = None;
            }
            if let Some((since, error)) = &refused
                && (!search.may_hope() || since.elapsed() >= no_progress)
            {
                return Err(error.clone());
            }
            (held, network) = (now_held, now_network);
            search.reconsider();
            // A few times a second, not with every write: nothing here may hold up the download itself.
            let mut now = state.borrow().clone();
            now.paused |= held;
            self.show_simple(&simple, &now, search, &decision);
            tokio::select! {
                done = &mut run, if !held && refused.is_none() => {
                    match done {
                        Ok(()) => {}
                        Err(SimpleEnd::Lost) => return Ok(Phase::Lost),
                        // A record would say who else has the file.
                        Err(SimpleEnd::NoWayOut(error)) => {
                            refused = Some((Instant::now(), ApiError::new(Code::Origin, error.to_string())));
                            continue;
                        }
                        Err(SimpleEnd::Failed(error)) => return Err(error),
                    }
                    let now = state.borrow().clone();
                    self.show_simple(&simple, &now, search, &decision);
                    return self.finish_simple(staging, search).await;
                }
                resolved = search.answer(), if search.may_hope() => match resolved {
                    Ok(mut resolution) => {
                        // What was last told of it may be older than its last failure.
                        let last = state.borrow().clone();
                        self.note_troubles(&last);
                        let received = last.received;
                        return Ok(match self.promote(&staging, &mut resolution, &received).await? {
                            Promoted::Lost => Phase::Lost,
                            Promoted::Kept => Phase::Resolved(Box::new(resolution)),
                        });
                    }
                    Err(why) => self.note(why),
                },
                told = self.next_tell() => {
                    told?;
                    if self.class() != gate.class() {
                        lane.set_class(self.class());
                        // The present request yields to others, or does not, as long as it lasts: go on with a new one.
                        run.set(simple.run());
                        refused = None;
                    }
                }
                _ = policy.changed() => {}
                () = sleep(TELL_EVERY) => {}
            }
        }
    }

    /// What policy says as long as there is no record.
    fn decide_simple(&self, url: Option<&SourceUrl>, size: Option<u64>) -> Decision {
        let (class, record) = (self.class(), RecordState::Missing);
        self.shared.decide(&ContentFacts { class, record, size, origin: origin_url(url) })
    }

    /// Turns what simple mode has into verified pieces.
    async fn promote(
        &mut self,
        staging: &Staging,
        resolution: &mut Resolution,
        received: &ByKind,
    ) -> Ended<Promoted> {
        if staging.is_empty() {
            let _ = staging.discard();
            return Ok(Promoted::Kept);
        }
        let Some(map) = resolution.map.clone() else { return Ok(Promoted::Kept) };
        let (staging, shared) = (staging.clone(), Arc::clone(&self.shared));
        let held = staging.len();
        let size = map.layout().size();
        let row = FileStatus { file_id: map.id().to_string(), file_size: size, ..FileStatus::default() };
        let promote = move || match staging.promote(&map, shared.clock.unix()) {
            Ok((content, report)) => Ok(Some((content, report.kept))),
            Err(
                StoreError::Vanished { .. } | StoreError::Removed { .. } | StoreError::StagingClosed { .. },
            ) => Ok(None),
            Err(error) => Err(error),
        };
        let Some((content, kept)) = self.on_disk(row, promote).await? else { return Ok(Promoted::Lost) };
        resolution.staged = Some(content);
        let cached = kept.min(received.cache_server);
        self.brought = Brought { kept, cached, vain: held.saturating_sub(kept) };
        Ok(Promoted::Kept)
    }

    async fn finish_simple(&mut self, staging: Staging, search: &mut Search) -> Ended<Phase> {
        let file = staging.open_file().map_err(|error| ApiError::new(Code::Disk, chain(&error)))?;
        // The coordinator may still be reading the file itself. When its record comes, the copy here becomes a seed.
        let received = ByKind {
            cdn: self.status.bytes_from_cdn,
            cache_server: self.status.bytes_from_cache_server,
            ..ByKind::default()
        };
        let told = Why {
            file_id: self.status.file_id.clone(),
            file_size: staging.len(),
            source_url: self.status.source_url.clone(),
            complete: true,
            ..self.account.tell(&received)
        };
        tokio::task::block_in_place(|| self.shared.past.put(told));
        if search.may_hope() {
            let account = crate::why::Account::clone(&self.account);
            let cached = received.cache_server;
            crate::adopt::later(search.hand_on(), staging.clone(), account, cached, self.lasted());
        } else {
            crate::adopt::discard_later(staging.clone());
        }
        self.status.status = FileState::Complete;
        Ok(Phase::Done(Finished::Staged(staging, Arc::new(file))))
    }

    fn note_troubles(&mut self, state: &SimpleState) {
        let troubles = state.cache_troubles.iter().chain(&state.trouble);
        troubles.for_each(|trouble| Arc::make_mut(&mut self.account).trouble(trouble.clone()));
    }

    fn show_simple(&mut self, simple: &Simple, state: &SimpleState, search: &Search, decision: &Decision) {
        let size = state.size.unwrap_or(0);
        let mut row = FileStatus {
            file_id: simple.staging.name().to_owned(),
            file_size: size,
            file_size_in_cache: state.bytes,
            status: if state.paused { FileState::Paused } else { FileState::Downloading },
            http_connection_count: u32::from(state.trouble.is_none() && state.cache.is_none()),
            cache_server_connection_count: u32::from(state.trouble.is_none() && state.cache.is_some()),
            cache_host: state.cache.as_ref().map(ToString::to_string).unwrap_or_default(),
            ..FileStatus::default()
        };
        let received = state.received;
        file_status::add_received(&mut row, &received);
        let layers = &self.shared.policy().layers;
        row.reasons = decision.reasons.iter().map(|reason| why::because(reason, layers).line()).collect();
        let said = search.why().into_iter().chain(self.notes.iter().cloned());
        let decided = why::decided(decision, self.class(), layers, said, &received, self.shared.clock.unix());
        Arc::make_mut(&mut self.account).decided(decided);
        self.note_troubles(state);
        row.reasons.extend(search.why());
        row.reasons.extend(self.notes.iter().cloned());
        row.reasons.extend(state.cache_troubles.iter().cloned());
        row.reasons.extend(state.trouble.clone());
        let elapsed = self.began.elapsed().as_secs_f64().max(0.001);
        row.download_rate = (received.total() as f64 / elapsed) as u64;
        self.show(row);
    }
}
