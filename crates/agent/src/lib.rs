//! Agent: the daemon on each device.
