//! What an experiment does, as one number.

use crate::experiment::Experiment;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

impl Experiment {
    /// SHA-256, in lower-case hexadecimal, over what the experiment does: probes, expectations, faults, targets,
    /// shares and times.
    ///
    /// Two files that do the same have the same digest, whatever their comments, the order of their keys, the
    /// spelling of their units and defaults that one of them writes out. What an experiment is called and why
    /// it is run does not count either: `metadata`, `hypothesis` and the names of steady states and steps. The
    /// order of lists does count, except for hosts and ports, whose order means nothing.
    #[must_use]
    pub fn digest(&self) -> String {
        let hash = Sha256::digest(canonical(&self.behaviour()).as_bytes());
        hash.iter().fold(String::new(), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    /// The experiment without what it is called.
    fn behaviour(&self) -> Value {
        let nameless = |value: Value| match value {
            Value::Object(mut fields) => {
                fields.remove("name");
                Value::Object(fields)
            }
            other => other,
        };
        let states = self.steady_state.iter().map(|s| nameless(json!(s)));
        let steps = self.method.iter().map(|s| nameless(json!(s)));
        json!({
            // Raised when a field is added that changes what files without it do.
            "version": 2,
            "steadyState": states.collect::<Vec<_>>(),
            "method": steps.collect::<Vec<_>>(),
            "baseline": self.baseline,
            "recovery": self.recovery,
            "falseStop": self.false_stop,
            "confidence": self.confidence,
            "lease": self.lease,
        })
    }
}

/// JSON without blanks and with sorted keys, whatever order the map type of this build keeps.
fn canonical(value: &Value) -> String {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let mut keys: Vec<&String> = fields.keys().collect();
                keys.sort();
                let fields: Map<String, Value> = keys
                    .into_iter()
                    .map(|k| (k.clone(), sorted(&fields[k])))
                    .collect();
                Value::Object(fields)
            }
            Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
            other => other.clone(),
        }
    }
    sorted(value).to_string()
}
