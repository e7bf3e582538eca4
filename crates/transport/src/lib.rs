//! Transport: TLS connections between peers.
