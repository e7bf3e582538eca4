//! The question of one download, "what is this URL?", asked in a task of its own.
//!
//! The answer may take longer than anything that waits for it: a coordinator far away, a file that it must read first, a
//! piece map that comes from a neighbour. So the question goes on while the download does something else, over all of its
//! phases, and the answer is kept until it is taken. It ends with its owner.

use std::sync::Arc;

use peerage_api::ApiError;
use peerage_api::agent::DownloadRequest;
use peerage_origin::SourceUrl;
use tokio::task::JoinHandle;

use crate::downloads::Key;
use crate::resolve::{Resolution, Resolver};
use crate::shared::Shared;

type Asked = (Resolver, Result<Resolution, String>);

/// A question and, once it is there, its answer.
#[derive(Debug)]
pub(crate) struct Search {
    /// As it was before the question that is being asked.
    resolver: Resolver,
    asking: Option<JoinHandle<Asked>>,
}

impl Search {
    /// Asks nothing yet.
    ///
    /// # Errors
    /// The URL is none.
    pub(crate) fn new(shared: Arc<Shared>, key: Key, request: DownloadRequest) -> Result<Self, ApiError> {
        Ok(Self { resolver: Resolver::new(shared, key, request)?, asking: None })
    }

    pub(crate) const fn url(&self) -> Option<&SourceUrl> {
        self.resolver.url()
    }

    /// Whether there is an answer to come.
    pub(crate) fn may_hope(&self) -> bool {
        self.asking.is_some() || self.resolver.may_hope()
    }

    /// Why there is no record, if there is none.
    pub(crate) fn why(&self) -> Option<String> {
        self.resolver.why()
    }

    /// Policy may have changed: what was not to be asked may be.
    pub(crate) fn reconsider(&mut self) {
        self.resolver.reconsider();
    }

    /// No record is wanted any more.
    pub(crate) fn give_up(&mut self, why: &str) {
        self.halt();
        self.resolver.give_up(why);
    }

    /// The record of this serial does not fit what the origin serves: the next answer is a newer one.
    pub(crate) fn stale(&mut self, serial: u64) {
        self.halt();
        self.resolver.stale(serial);
    }

    /// The record, or the sentence that says why there will be none. Whoever stops waiting does not stop the question.
    pub(crate) async fn answer(&mut self) -> Result<Resolution, String> {
        let asking = self.asking.get_or_insert_with(|| {
            let mut resolver = self.resolver.clone();
            resolver.begin();
            tokio::spawn(async move {
                let answer = resolver.resolve().await;
                (resolver, answer)
            })
        });
        let asked = asking.await;
        self.asking = None;
        match asked {
            Ok((resolver, answer)) => {
                self.resolver = resolver;
                answer
            }
            Err(error) => {
                let why = format!("the question for the record ended: {error}");
                self.resolver.give_up(&why);
                Err(why)
            }
        }
    }

    /// The record, if this device remembers it or the coordinator has it at hand. `None` as soon as it is clear that it
    /// would have to be waited for; the question goes on.
    pub(crate) async fn at_hand(&mut self) -> Option<Resolution> {
        let mut said = self.resolver.said();
        tokio::select! {
            // First: it begins the question, and forgets what was said to an earlier one.
            biased;
            answer = self.answer() => answer.ok(),
            _ = said.wait_for(|said| said.why().is_some()) => None,
        }
    }

    /// Hands the question on, in the middle of it if need be. Nothing more comes from this one.
    pub(crate) fn hand_on(&mut self) -> Self {
        Self { resolver: self.resolver.clone(), asking: self.asking.take() }
    }

    /// What asks, for its view of the agent.
    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.resolver.shared
    }

    fn halt(&mut self) {
        if let Some(asking) = self.asking.take() {
            asking.abort();
        }
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        self.halt();
    }
}
