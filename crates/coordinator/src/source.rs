//! Which URLs may stand in a record: those that mean the same bytes to everybody (architecture §3).

use peerage_origin::{SourceUrl, UrlError};

/// Query parameters that carry a secret or a signature, in lower case: pre-signed URLs of object stores and CDNs, and
/// the usual names of tokens and passwords. A URL with one of them is somebody's own.
const SECRET_PARAMETERS: &[&str] = &[
    "access_token",
    "api-key",
    "api_key",
    "apikey",
    "auth",
    "auth_token",
    "authorization",
    "awsaccesskeyid",
    "client_secret",
    "hdnea",
    "hdnts",
    "id_token",
    "jwt",
    "key-pair-id",
    "passwd",
    "password",
    "private_token",
    "pwd",
    "refresh_token",
    "sas",
    "secret",
    "session",
    "sessionid",
    "sig",
    "signature",
    "token",
    "x-amz-credential",
    "x-amz-security-token",
    "x-amz-signature",
    "x-goog-credential",
    "x-goog-signature",
    "x-ms-signature",
    "x-oss-signature",
];

/// A URL that may not be recorded. Never repeats the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotPublic {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("the url carries credentials; such a url is never ingested and never shared")]
    Credentials,
    #[error(
        "the url's query carries {name:?}, as signed or private urls do; it is never ingested and never shared"
    )]
    Secret { name: &'static str },
}

/// Reads a URL that may stand in a record.
pub(crate) fn public_url(text: &str) -> Result<SourceUrl, NotPublic> {
    let url = SourceUrl::parse(text)?;
    if url.has_secrets() {
        return Err(NotPublic::Credentials);
    }
    let secret = url.as_url().query_pairs().find_map(|(name, _)| {
        let name = name.to_ascii_lowercase();
        SECRET_PARAMETERS.iter().copied().find(|known| *known == name)
    });
    match secret {
        Some(name) => Err(NotPublic::Secret { name }),
        None => Ok(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_urls_are_told_apart() {
        for good in ["http://h/f", "https://h/f?v=3&arch=amd64", "https://h/token/sig", "https://h/?tokens=1"]
        {
            assert!(public_url(good).is_ok(), "{good}");
        }
        for (bad, name) in [
            ("https://h/f?X-Amz-Signature=1", "x-amz-signature"),
            ("https://h/f?v=1&SIG=abc", "sig"),
            ("https://h/f?%74oken=abc", "token"),
        ] {
            assert_eq!(public_url(bad), Err(NotPublic::Secret { name }), "{bad}");
        }
        assert_eq!(public_url("https://u:p@h/"), Err(NotPublic::Credentials));
        assert!(matches!(public_url("file:///etc/passwd"), Err(NotPublic::Url(_))));
    }
}
