//! Every fault the node can inject, by every means it has, ended in every way it can end: each time the
//! victim measures that the fault was there and how fast it is gone, and the host is left as it was.
//!
//! A cell is one fault and one end. Cells of the same end live in one round: one agent holds all their faults at once, each on
//! a victim of its own, and all of them end together. Nearly all of a cell's time is waiting, and that they share.

mod end;
mod round;
mod table;
mod variation;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use squall_experiments::capability::{Capabilities, Means};
use squall_experiments::fault::FaultKind;

use crate::dose::emulated;
use crate::{as_root, is_wanted};
use end::End;
pub(crate) use table::table;
use variation::Variation;

/// One fault, by one means, with one end.
#[derive(Clone, Debug)]
struct Cell {
    fault: String,
    kind: FaultKind,
    means: Means,
    variation: Variation,
    end: End,
}

impl Cell {
    fn name(&self) -> String {
        format!("kill_matrix::{}::{}", self.fault, self.end.name())
    }
}

/// How long the victim suffered after the end had come, or what went wrong.
type Told = Result<Duration, String>;

/// Cells of one end that live at the same time.
struct Round {
    cells: Vec<Cell>,
    told: OnceLock<Vec<Told>>,
}

impl Round {
    /// What came of the cell at `place`; whoever asks first runs them all.
    fn tell(&self, place: usize) -> Told {
        let told = self.told.get_or_init(|| round::run(&self.cells));
        told.get(place)
            .cloned()
            .unwrap_or_else(|| Err("nothing came of it".to_owned()))
    }
}

/// So many faults live at once: with many more, an emulated machine is too busy with the victims' own traffic to be measured. Namespaces
/// are taken down by the kernel one after the other (`cleanup_net`, net/core/net_namespace.c), which takes that machine a while.
fn at_once(end: End) -> usize {
    match (emulated(), end) {
        (false, _) => 20,
        (true, End::NetnsDeleted) => 4,
        (true, _) => 8,
    }
}

/// One test per cell. A kind of fault that is new is in it by itself.
pub(crate) fn trials(arguments: &Arguments, capabilities: &Capabilities) -> Vec<Trial> {
    table::expect(capabilities);
    let mut trials = Vec::new();
    for end in End::ALL {
        let rows = FaultKind::ALL
            .into_iter()
            .flat_map(|kind| variation::rows(kind, capabilities));
        let cells = rows.map(|(kind, means, variation)| Cell {
            fault: table::row(kind, means, variation),
            kind,
            means,
            variation,
            end,
        });
        let cells = cells.filter(|cell| end.senseless(cell.kind, cell.variation).is_none());
        let (wanted, others): (Vec<_>, Vec<_>) =
            cells.partition(|cell| is_wanted(arguments, &cell.name()));
        // Those that nobody asked for are counted as filtered out, and live alone where they are run all the same.
        for cells in wanted
            .chunks(at_once(end))
            .chain(others.chunks(1))
            .map(<[Cell]>::to_vec)
        {
            let round = Arc::new(Round {
                cells,
                told: OnceLock::new(),
            });
            for (place, cell) in round.cells.iter().enumerate() {
                let (cell, told) = (cell.clone(), Arc::clone(&round));
                trials.push(as_root(cell.name(), move || {
                    let told = told.tell(place);
                    table::note(&cell, &told);
                    Ok(told.map(drop)?)
                }));
            }
        }
    }
    trials
}
