//! The matrix as it is shown: every probe there is, and every failure.

use super::Failure;
use squall_experiments::probe::Probe;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;

/// What came of the cases of a cell: whom it asked, and in which words a person is told; or why there is none.
pub(super) type Told = Result<Vec<(&'static str, Result<String, String>)>, &'static str>;

static CELLS: Mutex<BTreeMap<(usize, usize), Told>> = Mutex::new(BTreeMap::new());

/// Takes down what came of a cell.
pub(super) fn note(word: &str, failure: Failure, told: Told) {
    let row = Probe::WORDS.iter().position(|known| *known == word);
    let column = Failure::ALL.iter().position(|known| *known == failure);
    if let (Some(row), Some(column), Ok(mut cells)) = (row, column, CELLS.lock()) {
        cells.insert((row, column), told);
    }
}

/// The cells in which something was not told as it should be.
pub(super) fn wrong() -> String {
    let mut text = String::new();
    let Ok(cells) = CELLS.lock() else { return text };
    for ((row, column), told) in cells.iter() {
        for (whom, told) in told.iter().flatten() {
            let Err(why) = told else { continue };
            let (word, failure) = (Probe::WORDS[*row], Failure::ALL[*column]);
            let _ = writeln!(text, "{word}, {failure:?}, {whom}: {why}");
        }
    }
    text
}

/// The matrix, and in which words each failure is told. None where it was not run.
pub(crate) fn table() -> Option<String> {
    let cells = CELLS.lock().ok().filter(|cells| !cells.is_empty())?;
    let (mut reasons, mut said): (Vec<&str>, _) = (Vec::new(), String::new());
    let mut text = format!("{:<12}", "it is");
    for failure in Failure::ALL {
        let _ = write!(text, "{:>12}", format!("{failure:?}").to_lowercase());
    }
    for (row, word) in Probe::WORDS.iter().enumerate() {
        let _ = write!(text, "\n{word:<12}");
        for (column, failure) in Failure::ALL.iter().enumerate() {
            let told = cells.get(&(row, column));
            let _ = write!(text, "{:>12}", shown(told, &mut reasons));
            for (whom, told) in told.into_iter().flatten().flatten() {
                let told = told
                    .as_ref()
                    .map_or_else(|why| format!("NOT TOLD: {why}"), Clone::clone);
                let failure = format!("{failure:?}").to_lowercase();
                let _ = writeln!(said, "{word}, {failure}, {whom}: {told}");
            }
        }
    }
    text.push('\n');
    for (number, reason) in reasons.iter().enumerate() {
        let _ = writeln!(text, "n/a {}: {reason}", number + 1);
    }
    Some(format!("{text}\n{said}"))
}

fn shown(told: Option<&Told>, reasons: &mut Vec<&'static str>) -> String {
    match told {
        None => "not run".to_owned(),
        Some(Err(reason)) => {
            let known = reasons.iter().position(|known| known == reason);
            let number = known.unwrap_or_else(|| {
                reasons.push(reason);
                reasons.len() - 1
            });
            format!("n/a {}", number + 1)
        }
        Some(Ok(cases)) if cases.iter().any(|(_, told)| told.is_err()) => "FAILED".to_owned(),
        Some(Ok(cases)) if cases.len() == 1 => "told".to_owned(),
        Some(Ok(cases)) => format!("told {} x", cases.len()),
    }
}
