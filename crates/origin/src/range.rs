//! What is asked of an origin, and what is known of a file there.

use peerage_content::Validators;

use crate::{Failure, SourceUrl};

/// Which bytes are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RangeRequest {
    /// First byte.
    pub from: u64,
    /// The byte after the last; `None`: to the end of the file.
    pub to: Option<u64>,
}

impl RangeRequest {
    /// The whole file: asked for without a `Range` header.
    pub const ALL: Self = Self { from: 0, to: None };

    /// The `Range` value (RFC 9110 §14.2); `None` for the whole file.
    pub(crate) fn header(self) -> Option<String> {
        match self {
            Self::ALL => None,
            Self { from, to: None } => Some(format!("bytes={from}-")),
            // An empty range never gets here; saturating keeps the arithmetic total.
            Self { from, to: Some(to) } => Some(format!("bytes={from}-{}", to.saturating_sub(1))),
        }
    }
}

/// What is known of a file at an origin: from its record, a probe, or an earlier answer. The default: nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// Bytes of the whole file.
    pub size: Option<u64>,
    /// ETag and Last-Modified.
    pub validators: Validators,
}

impl Known {
    /// Whether `found` can be the same file. What either side does not say is not compared; ETags are compared
    /// weakly (RFC 9110 §8.8.3.2), as the content record does.
    ///
    /// # Errors
    /// [`Failure::Changed`].
    pub fn check(&self, found: &Self) -> Result<(), Failure> {
        let size = |known: &Self| known.size.map(|size| size.to_string()).unwrap_or_default();
        let tag = |known: &Self| known.validators.etag.trim_start_matches("W/").to_owned();
        let date = |known: &Self| known.validators.last_modified.clone();
        for (what, known, found) in [
            ("size", size(self), size(found)),
            ("ETag", tag(self), tag(found)),
            ("Last-Modified", date(self), date(found)),
        ] {
            if !known.is_empty() && !found.is_empty() && known != found {
                return Err(Failure::Changed { what, found, known });
            }
        }
        Ok(())
    }
}

impl Known {
    /// The same, with what `other` says where this says nothing.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        let text = |own: String, other: &String| if own.is_empty() { other.clone() } else { own };
        Self {
            size: self.size.or(other.size),
            validators: Validators {
                etag: text(self.validators.etag, &other.validators.etag),
                last_modified: text(self.validators.last_modified, &other.validators.last_modified),
            },
        }
    }
}

/// What an origin says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginInfo {
    /// Where the last redirect led.
    pub final_url: SourceUrl,
    /// Bytes of the whole file, if the origin says.
    pub size: Option<u64>,
    /// ETag and Last-Modified, as sent; empty where missing or longer than 1024 bytes.
    pub validators: Validators,
    /// Whether it has shown or said that it serves ranges.
    pub supports_ranges: bool,
}

impl OriginInfo {
    /// What to hold later answers against.
    pub fn known(&self) -> Known {
        Known { size: self.size, validators: self.validators.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_header() {
        assert_eq!(RangeRequest::ALL.header(), None);
        assert_eq!(RangeRequest { from: 5, to: None }.header().unwrap(), "bytes=5-");
        assert_eq!(RangeRequest { from: 0, to: Some(1) }.header().unwrap(), "bytes=0-0");
    }

    #[test]
    fn only_what_both_say_is_compared() {
        let known = |size, etag: &str, date: &str| Known {
            size,
            validators: Validators { etag: etag.into(), last_modified: date.into() },
        };
        let full = known(Some(9), "\"a\"", "Sun, 22 Nov 2026 10:00:00 GMT");
        for same in [known(None, "", ""), full.clone(), known(Some(9), "W/\"a\"", "")] {
            assert_eq!(full.check(&same), Ok(()));
            assert_eq!(same.check(&full), Ok(()));
        }
        for (what, other) in [
            ("size", known(Some(8), "\"a\"", "")),
            ("ETag", known(Some(9), "\"b\"", "")),
            ("Last-Modified", known(None, "", "Sun, 22 Nov 2026 10:00:01 GMT")),
        ] {
            assert!(matches!(full.check(&other), Err(Failure::Changed { what: found, .. }) if found == what));
        }
    }
}
