//! What a run leaves for people and for machines: one HTML file, one JSON document, one Markdown text.
//!
//! All three are written from a [`Summary`], and a summary is a pure fold of the run's events: a report made the
//! next day from the store is the report that was made when the run ended. Nothing here knows a clock, a file or a
//! socket, and nothing here judges: verdicts and evidence are taken as the events say them.
//!
//! - [`html`]: one file without outside references, for a person in a hurry.
//! - [`Summary`] as JSON: stable; [`Summary::VERSION`] is raised when an old reader would misunderstand; [`schema`]
//!   documents it.
//! - [`markdown`]: short enough for a pull request.

mod axis;
mod evidence;
mod fold;
mod html;
mod markdown;
mod plot;
mod summary;
mod thin;
pub(crate) mod words;

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

pub use fold::Telling;
pub use html::html;
pub use markdown::markdown;
pub(crate) use markdown::{code, plain};
pub use summary::{
    Environment, ExpectationReport, FaultOutcome, FaultReport, FileReport, FirstBroken, Moment,
    PhaseKind, PhaseReport, Point, StageReport, Summary, Timings, Unit, ViolationReport,
};

/// Why a report could not be written out.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The template failed to render, which only a failing writer can cause.
    #[error(
        "the report of run {run} could not be rendered; `squall report {run} --json` has the same data"
    )]
    Render {
        /// The run.
        run: String,
        /// What the template said.
        #[source]
        source: askama::Error,
    },
}

/// The JSON Schema (2020-12) of [`Summary`], for whoever reads `--json`.
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Summary).to_value()
}
