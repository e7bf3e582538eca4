//! The client against servers that misbehave: raw TCP on loopback, so that every byte of an answer can be wrong.
#![allow(clippy::unwrap_used, reason = "helpers of tests stand outside of test functions")]

mod guard;
mod proxies;
mod ranges;
mod secure;
mod support;
