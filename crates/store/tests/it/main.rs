//! The store against real directories: restarts, kills, power cuts, faults, many threads.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod crash;
mod deliver;
mod evict;
mod faults;
mod lifecycle;
mod moving;
mod recovery;
mod stage;
mod support;
mod threads;
