//! Lab: a whole fleet on one machine, to try a policy on a real file before it is rolled out (product §3).
//!
//! [`run`] starts one origin behind an enforced uplink, one coordinator and N agents, all as real processes of the
//! running binary on addresses of 127.77.0.0/16, lets every agent download the same file and says what crossed the
//! uplink, how long it took beside what physics allows, and whether every device holds the right bytes.
//!
//! The way of a run: [`LabArgs`] → `scratch` (one directory, gone at the end) → `fleet` (processes, kept by `nursery`)
//! → `downloads` (when who starts; what is seen meanwhile goes to `board`, and from there to `view`) → `truth` (every
//! copy is hashed) → `report` → `table` or JSON.
//!
//! With `--simulate` nothing is started: the engine runs in virtual time (`simulate`).
//!
//! Nothing outlives a run: children die with the lab whatever ends it (`child`), and a directory that a killed lab left
//! behind is removed by the next one (`scratch`).

mod address;
mod args;
mod board;
mod bound;
mod child;
mod downloads;
mod fleet;
mod human;
mod nursery;
pub mod origin;
mod origin_process;
mod policy;
mod report;
mod run;
mod scratch;
mod signals;
mod simulate;
mod subject;
mod table;
mod totals;
mod truth;
mod usage;
mod view;

pub use args::{LabArgs, Source};
pub use child::{LabChildArgs, run_child};
pub use origin_process::{LabOriginArgs, run_origin};
pub use run::run;
