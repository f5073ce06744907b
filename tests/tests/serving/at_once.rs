//! Several runs in flight on one agent's link, and what ends one of them or all.

use crate::controller::{Controller, LIMIT, join};
use crate::in_flight::InFlight;
use crate::shop::root;
use lab::world::service::needing;
use lab::world::{Result, until};
use libtest_mimic::Trial;
use std::fs;

pub(crate) fn trials() -> Vec<Trial> {
    vec![needing(
        root(),
        "root",
        "at_once::a_stop_ends_one_of_two_runs_on_a_link_and_a_halt_file_all",
        one_then_all,
    )]
}

fn one_then_all(_: &std::path::Path) -> Result<()> {
    let controller = Controller::start(&[])?;
    let _agent = join(&[&controller])?;
    let url = controller.url();
    let (first, mut second) = (InFlight::start(&controller)?, InFlight::start(&controller)?);
    // Its exit code is the run's verdict.
    let stopped = controller.squall(&["stop", &first.run])?;
    assert_eq!(stopped.status.code(), Some(5));
    first.let_go()?;
    let ended = || first.end(&controller, &url);
    let (verdict, because) = until("the end of the run that was stopped", LIMIT, ended)?;
    assert_eq!(verdict, "halted", "{because}");
    // Its own lease is two seconds: it was renewed meanwhile, too.
    assert!(second.is_held(), "the other run's fault ended as well");
    assert_eq!(second.end(&controller, &url), None);

    let mut third = InFlight::start(&controller)?;
    let file = controller.data().join("halt");
    fs::write(&file, "a drill")?;
    for run in [&mut second, &mut third] {
        run.let_go()?;
        let ended = || run.end(&controller, &url);
        let (verdict, because) = until("the end of a run that was halted", LIMIT, ended)?;
        assert_eq!(verdict, "halted", "{because}");
        assert_eq!(run.watched()?.code(), Some(5));
    }
    let experiment = controller.home.path().join("in-flight.yaml");
    let experiment = experiment.display().to_string();
    let again = ["run", &experiment, "--controller", &url];
    let refused = controller.squall(&again)?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(said.contains("a drill"), "{said}");
    // Whoever has a shell lifts it, too.
    fs::remove_file(&file)?;
    let fourth = until("a run after the halt", LIMIT, || {
        InFlight::start(&controller).ok()
    })?;
    controller.squall(&["stop", &fourth.run])?;
    fourth.let_go()
}
