//! The threads that commands run on.

use std::io;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Runtime};

use crate::command::Command;

/// What a command runs on: those that only ask others run on the thread that is there, without a change of threads for
/// each word.
pub(crate) fn of(command: &Command) -> io::Result<Runtime> {
    match command {
        Command::Agent(_) | Command::Lab(_) | Command::LabOrigin(_) | Command::LabChild(_) => engine(),
        // It has no blocking sections: a second worker would only take turns with the first.
        Command::Coordinator(args) if args.is_daemon() => with_workers(1),
        _ => Builder::new_current_thread().enable_all().build(),
    }
}

/// What the engine runs on. Its blocking sections need a second worker to go on beside them, even on one core.
pub(crate) fn engine() -> io::Result<Runtime> {
    with_workers(2)
}

/// A worker for each core, but at least so many.
fn with_workers(least: usize) -> io::Result<Runtime> {
    let workers = available_parallelism().map_or(2, |cores| cores.get().max(least));
    Builder::new_multi_thread().worker_threads(workers).enable_all().build()
}
