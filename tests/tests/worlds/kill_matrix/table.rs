//! The matrix as it is shown: every kind of fault there is, and every end.

use std::fmt::Write as _;
use std::sync::Mutex;

use squall_experiments::capability::{Capabilities, Means};
use squall_experiments::fault::FaultKind;

use super::end::End;
use super::variation::{self, Variation};
use super::{Cell, Told};

/// One line: a fault by its means, or one that this node cannot inject.
struct Row {
    kind: FaultKind,
    variation: Variation,
    name: String,
    /// Why it is not on this node, where it is not.
    unable: Option<String>,
    /// What came of each cell, in the order of [`End::ALL`]; none where it was not run.
    cells: [Option<String>; End::ALL.len()],
}

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

/// How a fault by its means is called.
pub(super) fn row(kind: FaultKind, means: Means, variation: Variation) -> String {
    let means = format!("{means:?}").to_lowercase();
    let what = variation.exhausts(kind);
    let what = what.map_or_else(String::new, |what| format!("_{}", what.word()));
    format!("{kind}{what}_by_{means}{}", variation.suffix())
}

/// Makes the lines: one for each kind there is, whether this node can inject it or not.
pub(super) fn expect(capabilities: &Capabilities) {
    let Ok(mut rows) = ROWS.lock() else { return };
    for kind in FaultKind::ALL {
        let able = variation::rows(kind, capabilities);
        let why = || {
            let known = capabilities.of(kind);
            known.map_or_else(String::new, |c| c.notes.join("; "))
        };
        let unable = able
            .is_empty()
            .then(|| (kind.to_string(), Variation::Plain, Some(why())));
        let able = able
            .into_iter()
            .map(|(kind, means, variation)| (row(kind, means, variation), variation, None));
        rows.extend(able.chain(unable).map(|(name, variation, unable)| Row {
            kind,
            variation,
            name,
            unable,
            cells: Default::default(),
        }));
    }
}

/// Takes down what came of a cell.
pub(super) fn note(cell: &Cell, told: &Told) {
    let Ok(mut rows) = ROWS.lock() else { return };
    let place = End::ALL.iter().position(|end| *end == cell.end);
    let row = rows.iter_mut().find(|row| row.name == cell.fault);
    if let (Some(row), Some(place)) = (row, place) {
        row.cells[place] = Some(match told {
            Ok(gone) => format!("{} ms", gone.as_millis()),
            Err(_) => "FAILED".to_owned(),
        });
    }
}

/// The matrix: how long each victim suffered after the end. None where no cell was run.
pub(crate) fn table() -> Option<String> {
    let rows = ROWS.lock().ok()?;
    if rows.iter().all(|row| row.cells.iter().all(Option::is_none)) {
        return None;
    }
    let mut reasons: Vec<&str> = Vec::new();
    let mut text = String::new();
    let heads = End::ALL.map(End::head);
    line(&mut text, "the fault is gone", heads.map(|head| head.0));
    line(&mut text, "so long after", heads.map(|head| head.1));
    for row in rows.iter() {
        let mut cells = row.cells.clone();
        for (cell, end) in cells.iter_mut().zip(End::ALL) {
            let reason = row
                .unable
                .as_deref()
                .or(end.senseless(row.kind, row.variation));
            let Some(reason) = reason else { continue };
            let known = reasons.iter().position(|known| *known == reason);
            let number = known.unwrap_or_else(|| {
                reasons.push(reason);
                reasons.len() - 1
            });
            *cell = Some(format!("n/a {}", number + 1));
        }
        let cells = cells
            .each_ref()
            .map(|cell| cell.as_deref().unwrap_or("not run"));
        line(&mut text, &row.name, cells);
    }
    for (number, reason) in reasons.iter().enumerate() {
        let _ = writeln!(text, "n/a {}: {reason}", number + 1);
    }
    Some(text)
}

fn line(text: &mut String, name: &str, cells: [&str; End::ALL.len()]) {
    let _ = write!(text, "{name:<32}");
    for cell in cells {
        let _ = write!(text, "{cell:>10}");
    }
    text.push('\n');
}
