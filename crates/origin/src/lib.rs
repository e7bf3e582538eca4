//! Origin: HTTP range sources.
