//! Refusals: why a URL is not ingested, and how long that stands.

use std::collections::HashMap;
use std::time::Duration;

use peerage_api::Code;
use peerage_origin::{ErrorKind, OriginError, SourceUrl};
use tokio::time::Instant;

/// First and longest time that a failing URL is left alone.
const FIRST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(3600);
/// URLs whose refusals are remembered.
const MAX_URLS: usize = 10_000;

/// Why a URL is not ingested. Holds no secret of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: Code,
    pub(crate) reason: String,
    /// Seconds after which asking again may help; `None`: never.
    pub(crate) retry_after_s: Option<u64>,
    /// Whether it is the URL's fault and worth remembering.
    lasting: bool,
}

impl Refused {
    /// Not now, for reasons of the coordinator's own.
    pub(crate) fn busy(reason: String) -> Self {
        Self { code: Code::TooMany, reason, retry_after_s: Some(30), lasting: false }
    }

    /// Something is broken here; the log says what.
    pub(crate) fn internal() -> Self {
        let reason = "the coordinator could not store the record; its log says why".to_owned();
        Self { code: Code::Internal, reason, retry_after_s: Some(60), lasting: false }
    }

    /// The URL is not one that is ever ingested.
    pub(crate) fn never(reason: String) -> Self {
        Self { code: Code::Guarded, reason, retry_after_s: None, lasting: false }
    }

    /// Nobody may have it ingested by asking.
    pub(crate) fn unknown(reason: String) -> Self {
        Self { code: Code::NotFound, reason, retry_after_s: Some(300), lasting: false }
    }

    /// The origin sent something that cannot be a content.
    pub(crate) fn origin(reason: String) -> Self {
        Self { code: Code::Origin, reason, retry_after_s: Some(0), lasting: true }
    }
}

impl From<OriginError> for Refused {
    fn from(error: OriginError) -> Self {
        let asked = match error.kind() {
            ErrorKind::Later { delay } => delay.unwrap_or_default().as_secs(),
            _ => 0,
        };
        let code = if error.kind() == ErrorKind::Refused { Code::Guarded } else { Code::Origin };
        Self { code, reason: error.to_string(), retry_after_s: Some(asked), lasting: true }
    }
}

#[derive(Debug)]
struct Strike {
    refused: Refused,
    until: Instant,
    pause: Duration,
}

/// The URLs that failed lately.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    strikes: HashMap<SourceUrl, Strike>,
}

impl Refusals {
    /// The refusal that stands at `now`.
    pub(super) fn current(&self, url: &SourceUrl, now: Instant) -> Option<Refused> {
        let strike = self.strikes.get(url).filter(|strike| strike.until > now)?;
        let left = strike.until.saturating_duration_since(now).as_secs() + 1;
        Some(Refused { retry_after_s: Some(left), ..strike.refused.clone() })
    }

    /// Remembers a refusal and says when the URL may be tried again.
    pub(super) fn remember(&mut self, url: &SourceUrl, refused: Refused, now: Instant) -> Refused {
        if !refused.lasting {
            return refused;
        }
        let before = self.strikes.get(url).map(|strike| strike.pause);
        let pause = before.map_or(FIRST, |pause| (pause * 2).min(LONGEST));
        let pause = pause.max(Duration::from_secs(refused.retry_after_s.unwrap_or(0))).min(LONGEST);
        let refused = Refused { retry_after_s: Some(pause.as_secs()), ..refused };
        if self.strikes.len() >= MAX_URLS {
            self.strikes.retain(|_, strike| strike.until > now);
        }
        if self.strikes.len() < MAX_URLS {
            let strike = Strike { refused: refused.clone(), until: now + pause, pause };
            self.strikes.insert(url.clone(), strike);
        }
        refused
    }

    pub(super) fn clear(&mut self, url: &SourceUrl) {
        self.strikes.remove(url);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_and_success_clears() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        let url = SourceUrl::parse("http://h/f").unwrap();
        let fail = || Refused::origin("broken".into());
        for pause in [30, 60, 120, 240, 480, 960, 1920, 3600, 3600] {
            let told = refusals.remember(&url, fail(), now);
            assert_eq!(told.retry_after_s, Some(pause));
            assert!(refusals.current(&url, now + Duration::from_secs(pause - 1)).is_some());
            assert!(refusals.current(&url, now + Duration::from_secs(pause)).is_none());
        }
        refusals.clear(&url);
        assert!(refusals.current(&url, now).is_none());
        let asked = Refused { retry_after_s: Some(500), ..fail() };
        assert_eq!(refusals.remember(&url, asked, now).retry_after_s, Some(500), "the origin's own wish");
        refusals.clear(&url);
        assert_eq!(refusals.remember(&url, Refused::busy(String::new()), now).retry_after_s, Some(30));
        assert!(refusals.current(&url, now).is_none(), "not the url's fault");
    }
}
