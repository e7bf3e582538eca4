//! Policy: settings, their layers, and the decision what a device may do.
