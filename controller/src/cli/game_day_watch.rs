//! `squall gameday watch`: the day's timeline as it grows, with the turns of the runs in it. A line each, also on a terminal: what was said
//! stays to be read.

use super::fleet::{AGAIN, AGAIN_MAX};
use super::game_day::Which;
use super::remote::{At, RemoteError};
use super::{agents, fleet, say};
use crate::gameday::report::{DayReport, at_clock};
use crate::gameday::words::{Line, Teller, Tone};
use crate::gameday::{DayEvent, What};
use crate::live::clean;
use crate::report::Telling;
use console::Style;
use hyper::Method;
use jiff::tz::TimeZone;
use squall_experiments::event::Event;
use squall_experiments::ids::RunId;
use std::io::IsTerminal;
use std::process::ExitCode;
use tokio::task::JoinSet;

pub(super) async fn watch(which: &Which) -> ExitCode {
    match through(which).await {
        Ok(code) => code,
        Err(error) => fleet::failed(&error),
    }
}

async fn through(which: &Which) -> Result<ExitCode, RemoteError> {
    let mut view = View {
        at: which.at.clone(),
        json: which.json,
        teller: Teller::default(),
        zone: None,
        heard: 0,
        over: false,
        runs: JoinSet::new(),
    };
    let path = which.path("/events");
    let mut failures = 0;
    while !view.over {
        let before = view.heard;
        let seen = before.checked_sub(1);
        let heard = which
            .at
            .events(&path, seen, |event| view.hear(&event))
            .await;
        failures = if view.heard > before { 0 } else { failures + 1 };
        match heard {
            _ if view.over => {}
            Err(error) if error.is_input() || failures >= AGAIN_MAX => return Err(error),
            _ if failures >= AGAIN_MAX => return Err(RemoteError::Slow),
            _ => tokio::time::sleep(AGAIN).await,
        }
    }
    // The last words of a run come with its end, or shortly after.
    while view.runs.join_next().await.is_some() {}
    let path = which.path("/report");
    let report: DayReport = which.at.ask(Method::GET, &path, None::<&()>).await?;
    Ok(ExitCode::from(report.worst().exit_code()))
}

struct View {
    at: At,
    json: bool,
    teller: Teller,
    zone: Option<TimeZone>,
    heard: usize,
    over: bool,
    runs: JoinSet<()>,
}

impl View {
    fn hear(&mut self, event: &DayEvent) {
        self.heard += 1;
        self.over |= matches!(event.what, What::Over(_));
        if self.json {
            let line = serde_json::to_string(event).unwrap_or_default();
            say::out!("{line}");
            return;
        }
        let line = self.teller.tell(&event.what);
        match &event.what {
            What::Opened(opened) => self.zone = TimeZone::get(&opened.game_day.time_zone).ok(),
            What::Began(began) => {
                let follow = follow(self.at.clone(), began.run.clone(), self.zone.clone());
                self.runs.spawn(follow);
            }
            _ => {}
        }
        say_line(&self.teller.clock(event), &line);
    }
}

/// Tells the turns of a run, as long as the controller tells of it.
async fn follow(at: At, run: RunId, zone: Option<TimeZone>) {
    let path = format!("/runs/{}/events", agents::part(&run.0));
    let mut telling = Telling::default();
    let mut told = 0;
    let heard = at.events(&path, None, |event: Event| {
        telling.take(&event);
        let moments = telling.raw().timeline.get(told..).unwrap_or_default();
        for moment in moments {
            let line = Line {
                who: Some("(run)".to_owned()),
                what: moment.what.clone(),
                tone: Tone::Quiet,
            };
            say_line(&at_clock(event.at_us, zone.as_ref()), &line);
        }
        told = telling.raw().timeline.len();
    });
    if let Err(error) = heard.await {
        say::err!("run {run} is not told further: {error}");
    }
}

fn say_line(clock: &str, line: &Line) {
    let who = line.who.as_deref().unwrap_or_default();
    let (who, what) = (clean(who), clean(&line.what));
    let style = match line.tone {
        Tone::Good => Style::new().green(),
        Tone::Bad => Style::new().red().bold(),
        Tone::Unsure => Style::new().yellow(),
        Tone::Quiet => Style::new(),
    };
    // https://no-color.org: set and not empty.
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let style = style.force_styling(!unwanted && std::io::stdout().is_terminal());
    say::out!("{clock}  {who:<12}  {}", style.apply_to(what));
}
