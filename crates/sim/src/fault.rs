//! What befalls a world while it runs.

use peerage_swarm::Limits;

use crate::Health;

/// Something that goes wrong, or is mended.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// A device loses power: its neighbours notice by silence only.
    PowerCut(usize),
    /// A device shuts down and says so.
    ShutDown(usize),
    /// A device that was off comes back with what it had stored.
    Return(usize),
    /// The origin changes its behaviour; ranges under way break off unless it is fine or silent.
    Origin(Health),
    /// The connected cache does.
    Cache(Health),
    /// The origin's rate changes, in Mbit/s.
    OriginMbit(f64),
    /// A device's link changes: down and up in Mbit/s.
    Link(usize, f64, f64),
    /// The coordinator does not answer (`false`), or does again.
    Coordinator(bool),
    /// Devices up to and without this number cannot reach the others.
    Partition(usize),
    /// They can again.
    Heal,
    /// A device is paused or goes on.
    Pause(usize, bool),
    /// A device's policy changes.
    Limits(usize, Limits),
    /// A device finds one of its pieces damaged, if it has it.
    Damage(usize, u32),
}
