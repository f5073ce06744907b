//! The two runs, one after the other.

use super::closing::{self, Played};
use super::net::Net;
use super::sandbox::SELF;
use super::service::Version;
use super::world::World;
use super::{DemoError, closing::Words};
use crate::fleet::Program;
use crate::live::{self, Lengths, Output};
use crate::report::{self, Summary};
use crate::run::{self, FEED_EVENTS_MAX, Halt, Halting, Order};
use squall_experiments::language::{self, Colour};
use squall_experiments::verdict::Verdict;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast;

/// The shipped file, as it is.
const FILE: &str = include_str!("../../../experiments/library/orders-survive-slow-payment.yaml");
const FILE_NAME: &str = "orders-survive-slow-payment.yaml";
/// Both runs draw with it; with one candidate nothing depends on it but the delays' jitter.
const SEED: u64 = 1;
/// How often a run that could not even begin, because the machine was too busy for its baseline, is tried.
const ATTEMPTS_MAX: u32 = 3;
/// Orders that v2 accepted as pending are charged within this after the fault is gone: at four at a time and some
/// 5 ms each, the demo's thousand take two seconds on an idle machine.
const SETTLED_S_MAX: u64 = 20;
const SETTLED_LOOK_MS: u64 = 100;

/// Plays it all. The exit code is 0 only if v1 was broken and v2 held.
pub(super) async fn run(reports: PathBuf) -> Result<ExitCode, DemoError> {
    let (halt, halting) = Halt::new();
    listen(halt)?;
    let net = Net::open()?;
    // The agent's and the controller's own talk needs no network, but programs expect a loopback.
    net.up("lo").await?;
    let file = reports.join(FILE_NAME);
    std::fs::write(&file, FILE).map_err(DemoError::io(format!("writing {}", file.display())))?;
    let words = Words::default();
    words.opening(&file);
    let mut played = Vec::new();
    for version in [Version::V1, Version::V2] {
        words.version(version);
        let mut one = self::one(&net, version, &reports, halting.clone()).await?;
        for _ in 1..ATTEMPTS_MAX {
            if !one.never_began() {
                break;
            }
            words.again();
            one = self::one(&net, version, &reports, halting.clone()).await?;
        }
        let verdict = one.summary.verdict;
        played.push(one);
        if verdict == Some(Verdict::Halted) {
            break;
        }
    }
    words.closing(&played);
    Ok(ExitCode::from(closing::exit_code(&played)))
}

/// Ctrl-C once stops, twice kills; the faults go either way.
fn listen(halt: Halt) -> Result<(), DemoError> {
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(DemoError::io("listening for Ctrl-C"))?;
    tokio::spawn(async move {
        while interrupt.recv().await.is_some() {
            let _or_it_is_over = halt.say();
        }
    });
    Ok(())
}

/// One run against one version of the order service, and its report.
async fn one(
    net: &Net,
    version: Version,
    reports: &Path,
    halting: Halting,
) -> Result<Played, DemoError> {
    let reading = language::read(FILE_NAME, FILE);
    let rendered = || DemoError::File(reading.render(FILE, Colour::Never));
    let (experiment, digest) = reading
        .experiment
        .clone()
        .zip(reading.digest.clone())
        .ok_or_else(rendered)?;
    let world = World::start(net, version).await?;
    let (feed, heard) = broadcast::channel(FEED_EVENTS_MAX);
    let view = tokio::spawn(live::watch(heard, Lengths::of(&experiment), Output::Stdout));
    let order = Order {
        run: run::new_id(),
        experiment,
        file_text: FILE.to_owned(),
        file_path: FILE_NAME.to_owned(),
        digest,
        seed: SEED,
        environment: None,
        by: None,
    };
    let agent = Program {
        path: SELF.into(),
        args: vec!["agent".into(), "run".into()],
    };
    let outcome = run::here(order, &agent, None, feed, halting).await;
    // Without a run the feed is closed, and the view ends as it does after the verdict.
    let _ = view.await;
    let outcome = outcome.map_err(DemoError::Run)?;
    let summary = Summary::of(&outcome.events);
    let path = reports.join(match version {
        Version::V1 => "v1.html",
        Version::V2 => "v2.html",
    });
    let page = report::html(&summary).map_err(DemoError::Report)?;
    std::fs::write(&path, page).map_err(DemoError::io(format!("writing {}", path.display())))?;
    let stats = if summary.verdict == Some(Verdict::Halted) {
        None
    } else {
        Some(settled(&world).await?)
    };
    world.end(net).await?;
    Ok(Played {
        version,
        summary,
        stats,
        report: path,
    })
}

/// The order service's numbers, once nothing is pending or the limit has come.
async fn settled(world: &World) -> Result<super::service::Stats, DemoError> {
    let mut waited_ms = 0;
    loop {
        let stats = world.stats().await?;
        if stats.settled >= stats.pending || waited_ms >= SETTLED_S_MAX * 1000 {
            return Ok(stats);
        }
        tokio::time::sleep(Duration::from_millis(SETTLED_LOOK_MS)).await;
        waited_ms += SETTLED_LOOK_MS;
    }
}
