//! Runs and their events, kept.

/// Where runs are kept. Cloning it is another handle to the same.
#[derive(Debug, Clone)]
pub struct Store {}
