//! Lab: a whole fleet on one machine.

pub mod origin;
