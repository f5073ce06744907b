//! Names of runs, faults and targets. Text on the wire; types here, so that one is never taken for another.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    };
}

id!(/// One run of one experiment; sorts by the time it was created.
    RunId);
id!(/// One fault on one target in one run. Arming the same id twice is arming it once.
    FaultId);
id!(/// One thing that a fault can hit, named by the agent that resolved it: stable while that thing lives, never
    /// reused for another (a process carries its start time).
    TargetId);
