//! API: every request and response between parts, and the typed clients.
