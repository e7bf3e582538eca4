//! Testkit: real processes, fake neighbours and network namespaces for tests.
