//! Swarm: the transfer engine as a state machine without I/O.
