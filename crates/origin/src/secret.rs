//! URLs that belong to somebody: what they carry tells who asks, so they are never ingested and never shared
//! (architecture §3), neither by the device that is given one nor by the coordinator that is asked about one.

use std::fmt;

use crate::SourceUrl;

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

/// What makes a URL private. Never repeats the URL's own text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secret {
    /// A user name or a password before the host.
    Credentials,
    /// A query parameter of this name, in lower case.
    Query(&'static str),
}

impl fmt::Display for Secret {
    /// Reads on after "the url".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credentials => f.write_str("carries credentials"),
            Self::Query(name) => write!(f, "carries {name:?} in its query, as signed or private urls do"),
        }
    }
}

impl SourceUrl {
    /// What makes this URL private, if anything does.
    pub fn secret(&self) -> Option<Secret> {
        if self.has_credentials() {
            return Some(Secret::Credentials);
        }
        self.as_url().query_pairs().find_map(|(name, _)| {
            let name = name.to_ascii_lowercase();
            SECRET_PARAMETERS.iter().copied().find(|known| *known == name).map(Secret::Query)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_urls_are_told_apart() {
        for (url, secret) in [
            ("http://h/f", None),
            ("https://h/f?v=3&arch=amd64", None),
            ("https://h/token/sig", None),
            ("https://h/?tokens=1", None),
            ("https://u:p@h/", Some(Secret::Credentials)),
            ("https://h/f?X-Amz-Signature=1", Some(Secret::Query("x-amz-signature"))),
            ("https://h/f?v=1&SIG=abc", Some(Secret::Query("sig"))),
            ("https://h/f?%74oken=abc", Some(Secret::Query("token"))),
        ] {
            assert_eq!(SourceUrl::parse(url).unwrap().secret(), secret, "{url}");
        }
    }
}
