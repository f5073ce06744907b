//! Figures beside each other.

use std::fmt::Write as _;

use serde::Serialize;

/// One thing measured, for Squall and for a rival.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) what: String,
    /// The unit of both figures.
    pub(crate) unit: &'static str,
    /// Squall's figure.
    pub(crate) squall: f64,
    /// Who else did the same, and its figure.
    pub(crate) rival: Option<Rival>,
}

/// Another way of doing the same.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Rival {
    /// What it is.
    pub(crate) name: String,
    /// Its figure.
    pub(crate) figure: f64,
}

impl Row {
    pub(crate) fn alone(what: impl Into<String>, unit: &'static str, squall: f64) -> Self {
        Self {
            what: what.into(),
            unit,
            squall,
            rival: None,
        }
    }

    pub(crate) fn beside(mut self, name: impl Into<String>, figure: f64) -> Self {
        self.rival = Some(Rival {
            name: name.into(),
            figure,
        });
        self
    }

    fn first(&self) -> String {
        match self.unit {
            "" => self.what.clone(),
            unit => format!("{} [{unit}]", self.what),
        }
    }
}

/// All rows as a table, with Squall's figure as a multiple of the rival's.
pub(crate) fn table(rows: &[Row]) -> String {
    let firsts: Vec<String> = rows.iter().map(Row::first).collect();
    let width = firsts.iter().map(String::len).max().unwrap_or(0);
    let mut text = format!(
        "{:<width$} {:>12} {:>12} {:>7}  {}\n",
        "", "squall", "rival", "ratio", "rival"
    );
    for (row, first) in rows.iter().zip(firsts) {
        let _ = write!(text, "{first:<width$} {:>12.3}", row.squall);
        if let Some(rival) = &row.rival {
            let ratio = if rival.figure == 0.0 {
                "-".to_owned()
            } else {
                format!("{:.2}", row.squall / rival.figure)
            };
            let _ = write!(text, " {:>12.3} {ratio:>7}  {}", rival.figure, rival.name);
        }
        text.push('\n');
    }
    text
}

/// The value below which `share` (0 to 1) of `values` lie.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    let at = (sorted.len() as f64 * share) as usize;
    sorted
        .get(at.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}
