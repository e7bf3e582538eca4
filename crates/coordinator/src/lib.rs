//! Coordinator: catalog, swarm registry and enrolments of a fleet.
