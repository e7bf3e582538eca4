//! Scenarios. Each holds whatever the seed is; to replay one, `SIM_SEED=7 cargo nextest run -p peerage-sim NAME`.
//! `SIM_SEEDS=1000` runs so many; `--no-capture` shows the figures of all.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod arrivals;
mod faults;
mod flash;
mod fleet;
mod liars;
mod lone;
mod qos;
mod replay;
mod sites;
mod support;
