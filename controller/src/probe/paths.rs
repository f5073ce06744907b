//! What the `body` expectations of a probe look at.

use super::ProbeError;
use serde_json::Value;
use serde_json_path::JsonPath;
use squall_experiments::expectation::Measure;
use squall_experiments::experiment::SteadyState;
use std::sync::Arc;

/// The JSON paths of a probe's `body` expectations, in the file's order.
#[derive(Debug, Clone)]
pub(super) struct Paths(Arc<Vec<JsonPath>>);

impl Paths {
    pub(super) fn of(steady: &SteadyState) -> Result<Self, ProbeError> {
        let bodies = steady.expect.iter().filter_map(|e| match &e.measure {
            Measure::Body(path) => Some(path),
            _ => None,
        });
        let paths = bodies.map(|path| {
            JsonPath::parse(path).map_err(|source| ProbeError::Path {
                probe: steady.name.clone(),
                path: path.clone(),
                source,
            })
        });
        Ok(Self(Arc::new(paths.collect::<Result<_, _>>()?)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first node that each path finds. What is not JSON has none.
    pub(super) fn find(&self, body: &[u8]) -> Vec<Option<Value>> {
        if self.is_empty() {
            return Vec::new();
        }
        let json: Option<Value> = serde_json::from_slice(body).ok();
        let find = |path: &JsonPath| path.query(json.as_ref()?).first().cloned();
        self.0.iter().map(find).collect()
    }
}
