//! The front door for developers and CI.
fn main() {}
