//! Sim: the same engine for whole fleets in virtual time.
