//! Store: one directory of verified pieces.
