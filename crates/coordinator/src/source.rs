//! Which URLs may stand in a record: those that mean the same bytes to everybody (architecture §3).

use peerage_origin::{Secret, SourceUrl, UrlError};

/// A URL that may not be recorded. Never repeats the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotPublic {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("the url {0}; such a url is never ingested and never shared")]
    Secret(Secret),
}

/// Reads a URL that may stand in a record.
pub(crate) fn public_url(text: &str) -> Result<SourceUrl, NotPublic> {
    let url = SourceUrl::parse(text)?;
    match url.secret() {
        Some(secret) => Err(NotPublic::Secret(secret)),
        None => Ok(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_urls_pass() {
        assert!(public_url("https://h/f?v=3&arch=amd64").is_ok());
        assert_eq!(public_url("https://h/f?v=1&SIG=abc"), Err(NotPublic::Secret(Secret::Query("sig"))));
        assert_eq!(public_url("https://u:p@h/"), Err(NotPublic::Secret(Secret::Credentials)));
        assert!(matches!(public_url("file:///etc/passwd"), Err(NotPublic::Url(_))));
    }
}
