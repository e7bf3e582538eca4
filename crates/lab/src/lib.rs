//! Lab: a whole fleet on one machine.
