//! The phase of a download by name alone (content id or SHA-256): only a record can say where the file is.

use peerage_api::agent::{FileState, FileStatus};
use peerage_api::{ApiError, Code};
use tokio::time::{Instant, sleep};

use super::{Download, Ended, Phase, TELL_EVERY};
use crate::downloads::Key;
use crate::file_status;
use crate::search::Search;

impl Download {
    /// Waits for the record, as long as somebody wants the file and at most for the no-progress time-out.
    pub(super) async fn named(&mut self, search: &mut Search) -> Ended<Phase> {
        let since = Instant::now();
        loop {
            self.show_named(search);
            tokio::select! {
                answer = search.answer() => return match answer {
                    Ok(resolution) => Ok(Phase::Resolved(Box::new(resolution))),
                    Err(why) => Err(ApiError::new(Code::NotFound, why)),
                },
                told = self.next_tell() => told?,
                () = sleep(TELL_EVERY) => {}
            }
            if since.elapsed() >= self.no_progress() {
                let why = search.why().unwrap_or_else(|| "The coordinator does not answer.".to_owned());
                return Err(file_status::no_progress(self.no_progress(), &why));
            }
        }
    }

    fn show_named(&mut self, search: &Search) {
        let Key::Name(name) = &self.key else { return };
        self.show(FileStatus {
            file_id: name.clone(),
            status: FileState::Downloading,
            reasons: search.why().into_iter().chain(self.notes.iter().cloned()).collect(),
            ..FileStatus::default()
        });
    }
}
