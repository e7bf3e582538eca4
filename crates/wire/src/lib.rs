//! Wire: the peer protocol, its messages, limits and codec.
