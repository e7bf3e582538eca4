//! Host: facts about this device.
