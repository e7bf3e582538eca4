//! The body of an answer, as it streams in.
//!
//! Invariant: the bytes handed out are consecutive from [`RangeBody::start`], and `Ok(None)` comes only when all that
//! was announced has come. Dropping the body stops the traffic: an HTTP/1.1 connection is closed, not drained; an
//! HTTP/2 stream is reset.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use peerage_content::{MAX_CONTENT_SIZE, Validators};
use tokio::time::{Instant, timeout, timeout_at};

use crate::answer::Answer;
use crate::{Failure, Guard, Known, OriginError, OriginInfo, Refusal, SourceUrl};

/// One range of a file, arriving.
#[derive(Debug)]
pub struct RangeBody {
    info: OriginInfo,
    start: u64,
    end: Option<u64>,
    position: u64,
    read_timeout: Duration,
    limits: Limits,
    state: State,
}

#[derive(Debug)]
enum State {
    Open(Box<Incoming>),
    Done,
    Failed(OriginError),
}

/// What a fetch may cost in all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    max_size: Option<u64>,
    deadline: Option<(Instant, Duration)>,
}

impl Limits {
    /// The limits of a fetch that starts now.
    pub(crate) fn new(guard: Option<&Guard>) -> Self {
        Self {
            max_size: guard.map(|guard| guard.max_size),
            // A time beyond what the clock can count is no limit.
            deadline: guard
                .and_then(|guard| Some((Instant::now().checked_add(guard.max_time)?, guard.max_time))),
        }
    }

    /// Whether a file may have (at least) this many bytes.
    pub(crate) fn check_size(&self, found: u64) -> Result<(), Failure> {
        match self.max_size {
            Some(max) if found > max => Err(Refusal::Size { found, max }.into()),
            // Without a guard an endless body ends where content ends.
            None if found > MAX_CONTENT_SIZE => Err(Failure::TooLong { end: MAX_CONTENT_SIZE }),
            _ => Ok(()),
        }
    }

    /// Waits for `step`, at most `patience`, and never past the end of the fetch.
    pub(crate) async fn wait<T>(
        &self,
        patience: Duration,
        step: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        match self.deadline {
            Some((deadline, max)) if deadline.saturating_duration_since(Instant::now()) < patience => {
                timeout_at(deadline, step).await.map_err(|_| Refusal::Time { max }.into())
            }
            _ => timeout(patience, step).await.map_err(|_| Failure::NoProgress { after: patience }),
        }
    }
}

impl RangeBody {
    pub(crate) fn new(
        url: SourceUrl,
        answer: Answer,
        response: Incoming,
        read_timeout: Duration,
        limits: Limits,
    ) -> Self {
        let Answer { start, end, found, supports_ranges } = answer;
        let Known { size, validators } = found;
        Self {
            info: OriginInfo { final_url: url, size, validators, supports_ranges },
            start,
            end,
            position: start,
            read_timeout,
            limits,
            state: State::Open(Box::new(response)),
        }
    }

    /// What the answer says of the file.
    pub const fn info(&self) -> &OriginInfo {
        &self.info
    }

    /// Where the last redirect led.
    pub const fn final_url(&self) -> &SourceUrl {
        &self.info.final_url
    }

    /// Bytes of the whole file, if the answer says.
    pub const fn total_size(&self) -> Option<u64> {
        self.info.size
    }

    /// ETag and Last-Modified of the answer.
    pub const fn validators(&self) -> &Validators {
        &self.info.validators
    }

    /// Position of the first byte. **0 whatever was asked for** when the origin ignores ranges.
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// Position after the last byte, if that is known. May lie before the end asked for: an origin may send less.
    pub const fn end(&self) -> Option<u64> {
        self.end
    }

    /// Position of the next byte.
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// The next bytes, never empty; `None` once all have come. Cancel safe.
    ///
    /// # Errors
    /// No progress, a broken connection, more or fewer bytes than announced, a limit of the guard. A body that has
    /// failed gives the same error again.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, OriginError> {
        let body = match &mut self.state {
            State::Open(body) => body,
            State::Done => return Ok(None),
            State::Failed(error) => return Err(error.clone()),
        };
        let read = async {
            loop {
                match body.frame().await.transpose() {
                    // Trailers say nothing that counts here.
                    Ok(Some(frame)) => match frame.into_data() {
                        Ok(bytes) if !bytes.is_empty() => break Ok(Some(bytes)),
                        _ => {}
                    },
                    Ok(None) => break Ok(None),
                    Err(error) => break Err(error),
                }
            }
        };
        let step = self.limits.wait(self.read_timeout, read).await;
        let judged = step.and_then(|read| {
            let host = self.info.final_url.host().to_string();
            read.map_err(|error| Failure::of_transfer(&error, &host, self.position, self.end))
        });
        match judged.and_then(|bytes| self.advance(bytes)) {
            Ok(Some(bytes)) => Ok(Some(bytes)),
            Ok(None) => {
                self.state = State::Done;
                Ok(None)
            }
            Err(failure) => {
                let error = OriginError::new(&self.info.final_url, failure);
                // Lets go of the connection at once, not when the caller gets round to dropping the body.
                self.state = State::Failed(error.clone());
                Err(error)
            }
        }
    }

    fn advance(&mut self, bytes: Option<Bytes>) -> Result<Option<Bytes>, Failure> {
        let Some(bytes) = bytes else {
            return match self.end {
                Some(end) if self.position < end => Err(Failure::Short { at: self.position, end }),
                _ => Ok(None),
            };
        };
        let position = self.position.saturating_add(bytes.len() as u64);
        if let Some(end) = self.end.filter(|end| position > *end) {
            return Err(Failure::TooLong { end });
        }
        self.limits.check_size(position)?;
        self.position = position;
        Ok(Some(bytes))
    }
}
