//! A whole game day: a controller, an agent, a service and what it leans on, and five people, each with a token of their own.

use crate::controller::{Controller, LIMIT};
use lab::world::agent::program;
use lab::world::http::Service;
use lab::world::stub::{Said, Stub};
use lab::world::victim::Victim;
use lab::world::{Ended, Result, until};
use libtest_mimic::{Completion, Failed, Trial};
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::Value;
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

/// Whose token has which role. The day's own roles are in its file.
const TOKENS: [(&str, &str); 5] = [
    ("ann", "operator"),
    ("bob", "operator"),
    ("eve", "viewer"),
    ("sue", "viewer"),
    ("tom", "operator"),
];

pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::ignorable_test("gameday::a_whole_day", || {
        if !geteuid().is_root() {
            return Ok(Completion::ignored_with(
                "needs root: an agent pauses a process",
            ));
        }
        let day = a_whole_day().map_err(|error| Failed::from(error.to_string()));
        day.map(|()| Completion::Completed)
    })]
}

struct World {
    controller: Controller,
    _agent: Ended,
    _victim: Victim,
    _service: Service,
    told: Stub,
}

/// An experiment that lets the victim stand still, while the service answers without it.
fn experiment(name: &str, victim: &str, port: u16, hold: &str) -> String {
    format!(
        "apiVersion: squall/v1\nkind: Experiment\nmetadata: {{ name: {name} }}\nhypothesis: Users are served while a helper stands still.\n\
         steadyState:\n  - name: users are served\n    probe: {{ load: {{ url: \"http://127.0.0.1:{port}/\", rate: 50/s }} }}\n    expect: [ success >= 90% ]\n\
         method:\n  - fault: pause\n    on: {{ process: {{ command: \"{victim}\" }} }}\n    hold: {hold}\nbaseline: 5s\nrecovery: 20s\n"
    )
}

fn game_day(date: &str) -> String {
    format!(
        "apiVersion: squall/v1\nkind: GameDay\nmetadata: {{ name: helper-day, owner: team-orders, runbook: \"https://wiki.example/helper\" }}\n\
         date: {date}\ntimeZone: UTC\nobjectives: [ users do not notice a helper that stands still ]\n\
         people:\n  - {{ name: ann, role: leader }}\n  - {{ name: bob, role: deputy }}\n  - {{ name: eve, role: operator }}\n  - {{ name: sue, role: scribe }}\n  - {{ name: tom, role: observer }}\n\
         experiments:\n  - {{ file: short.yaml, before: [ everybody is here ] }}\n  - long.yaml\n"
    )
}

impl World {
    fn open() -> Result<Self> {
        let home = TempDir::new()?;
        let told = Stub::start(|_| Said::new(204, ""))?;
        let config = home.path().join("config.yaml");
        let url = told.url();
        fs::write(
            &config,
            format!(
                "notify: [ {{ name: ops, url: \"{url}/hook\" }}, {{ name: slack, url: \"{url}/slack\", format: slack }} ]\n"
            ),
        )?;
        let config = config.display().to_string();
        let controller = Controller::start_in(home, &["--config", &config])?;
        let home = controller.home.path();
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let service = Service::on(listener, Arc::new(|_| true))?;
        let name = format!("helper-of-{}", std::process::id());
        let victim = Victim::start(&name)?;
        let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
        for (file, text) in [
            ("day.yaml", game_day(&today)),
            ("short.yaml", experiment("short-pause", &name, port, "3s")),
            ("long.yaml", experiment("long-pause", &name, port, "10min")),
        ] {
            fs::write(home.join(file), text)?;
        }
        for (person, role) in TOKENS {
            let token =
                controller.squalls(&["access", "create", person, "--role", role, "--days", "1"]);
            fs::write(home.join(person), token?)?;
        }
        let token = home.join("join");
        fs::write(&token, controller.squalls(&["token", "create"])?)?;
        let agent = Command::new(program("squall-agent")?)
            .args(["run", "--node", "node-7", "--controller", &controller.url()])
            .arg("--state")
            .arg(home.join("agent"))
            .arg("--join-token-file")
            .arg(&token)
            .stderr(Stdio::null())
            .spawn()?;
        let world = Self {
            _agent: Ended(agent),
            _victim: victim,
            _service: service,
            told,
            controller,
        };
        world.linked()?;
        Ok(world)
    }

    fn linked(&self) -> Result<()> {
        let connected = || {
            let agents = self.controller.squalls(&["agents", "--json"]).ok()?;
            let agents: Value = serde_json::from_str(&agents).ok()?;
            agents[0]["connected"]["sinceUs"].as_i64()
        };
        until("the agent's link", LIMIT, connected).map(drop)
    }

    fn path(&self, name: &str) -> String {
        self.controller.home.path().join(name).display().to_string()
    }

    /// What somebody types.
    fn types(&self, who: &str, line: &[&str]) -> Result<Output> {
        let token = self.path(who);
        let mut args = vec!["gameday"];
        args.extend(line);
        args.extend(["--token-file", &token]);
        self.controller.squall(&args)
    }

    /// What somebody types, and may.
    fn does(&self, who: &str, line: &[&str]) -> Result<String> {
        let output = self.types(who, line)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{who}: gameday {}: {said}", line.join(" ")).into());
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// What somebody types, and is refused with these words.
    fn is_refused(&self, who: &str, line: &[&str], words: &str) -> Result<()> {
        let output = self.types(who, line)?;
        let said = String::from_utf8_lossy(&output.stderr);
        let is_refused = output.status.code() == Some(4) && said.contains(words);
        match is_refused {
            true => Ok(()),
            false => Err(format!("{who}: {line:?}: {:?}, {said}", output.status).into()),
        }
    }

    fn report(&self, day: &str) -> Option<Value> {
        let said = self.does("ann", &["report", day, "--json"]).ok()?;
        serde_json::from_str(&said).ok()
    }

    /// Waits for something in the newest run of a step.
    fn until_run(&self, day: &str, step: usize, what: &str) -> Result<Value> {
        let found = || {
            let report = self.report(day)?;
            let run = report["steps"][step - 1]["runs"]
                .as_array()?
                .last()?
                .clone();
            (!run[what].is_null()).then_some(run)
        };
        until(&format!("{what} of step {step}"), LIMIT, found)
    }
}

fn a_whole_day() -> Result<()> {
    let mut world = World::open()?;
    let file = world.path("day.yaml");
    let day = world.does("ann", &["open", &file])?;
    let mut watching = Ended(
        Command::new(program("squall")?)
            .args(["gameday", "watch", &day, "--token-file", &world.path("sue")])
            .env("SQUALL_DATA", world.controller.data())
            .env("SQUALL_CONTROLLER", world.controller.url())
            .stdout(Stdio::piped())
            .spawn()?,
    );
    until_go(&world, &day)?;
    the_controller_starts_again(&mut world)?;
    until_stop(&world, &day)?;
    others_are_told(&world)?;
    let status = until("the end of the view", LIMIT, || {
        watching.0.try_wait().ok()?
    })?;
    assert_eq!(status.code(), Some(5), "something was stopped");
    let mut seen = String::new();
    let stdout = watching.0.stdout.as_mut().ok_or("no view")?;
    stdout.read_to_string(&mut seen)?;
    for words in [
        "no-go: step 1",
        "verdict: held",
        "takes the lead",
        "goes on with the day",
        "stops step 2",
    ] {
        assert!(seen.contains(words), "{words}: {seen}");
    }
    is_told(&world, &day)
}

/// A no-go, what nobody may, and a step that holds.
fn until_go(world: &World, day: &str) -> Result<()> {
    world.is_refused("tom", &["go", day], "ann has the lead")?;
    world.is_refused("eve", &["go", day], "operator")?;
    world.is_refused("ann", &["go", day, "--step", "2"], "step 2 is not next")?;
    world.does(
        "ann",
        &["no-go", day, "--because", "the dashboards are not open"],
    )?;
    world.does("sue", &["note", day, "dashboards are open now"])?;
    let run = world.does("ann", &["go", day])?;
    let held = world.until_run(day, 1, "endedUs")?;
    assert_eq!(
        (held["run"].as_str(), held["verdict"].as_str()),
        (Some(run.as_str()), Some("held")),
        "{held}"
    );
    assert!(
        held["recoverMs"].is_number() && held["detectMs"].is_null(),
        "{held}"
    );
    Ok(())
}

/// The record is in the store, and whoever leads next goes on with it.
fn the_controller_starts_again(world: &mut World) -> Result<()> {
    world.controller.end(Signal::SIGTERM)?;
    world.controller.serve()?;
    world.linked()
}

/// The deputy takes over, a step is stopped by somebody who watches, and the day ends.
fn until_stop(world: &World, day: &str) -> Result<()> {
    world.is_refused(
        "tom",
        &["hand-over", day, "--because", "x"],
        "cannot have the lead",
    )?;
    world.does(
        "bob",
        &["hand-over", day, "--because", "ann's train leaves"],
    )?;
    world.is_refused("ann", &["go", day], "bob has the lead")?;
    let run = world.does("bob", &["go", day])?;
    world.until_run(day, 2, "faultInUs")?;
    world.is_refused("bob", &["end", day], "under way")?;
    another_day_meets_it(world, &run)?;
    world.does(
        "eve",
        &["stop", day, "--because", "a customer & co. called"],
    )?;
    let halted = world.until_run(day, 2, "endedUs")?;
    assert_eq!(halted["verdict"], "halted", "{halted}");
    assert_eq!(halted["stoppedBy"], "eve", "{halted}");
    assert!(halted["detectMs"].is_number(), "{halted}");
    world.does(
        "sue",
        &[
            "action",
            day,
            "tell customers before",
            "--owner",
            "team-orders",
            "--due",
            "2026-12-31",
        ],
    )?;
    world.does("bob", &["end", day, "--because", "nobody noticed but one"])?;
    world.is_refused("bob", &["go", day], "the game day is over")
}

/// Whoever `notify` names hears of the day, as JSON and in Slack's form; of its notes and of its runs' events nothing.
fn others_are_told(world: &World) -> Result<()> {
    let told = [
        ("gameDay.opened", "ann opens helper-day; ann has the lead"),
        (
            "gameDay.noGo",
            "ann no-go: step 1, short-pause: the dashboards",
        ),
        ("gameDay.go", "ann go: step 1, short-pause as run"),
        (
            "gameDay.handedOver",
            "bob takes the lead: ann's train leaves",
        ),
        (
            "gameDay.stopped",
            "eve stops step 2, long-pause: a customer",
        ),
        (
            "gameDay.over",
            "bob ends the game day: nobody noticed but one",
        ),
    ];
    for (event, words) in told {
        let heard = || {
            let asked = world.told.asked();
            let is_in = |path: &str, what: &dyn Fn(&Value) -> bool| {
                asked.iter().any(|one| {
                    let body: Value = serde_json::from_str(&one.body).unwrap_or_default();
                    one.line.starts_with(path) && one.body.contains(words) && what(&body)
                })
            };
            let whole = is_in("POST /hook", &|body| body["notice"]["event"] == event);
            let slack = is_in("POST /slack", &|body| body["text"].is_string());
            (whole && slack).then_some(())
        };
        until(&format!("the notice {event} with `{words}`"), LIMIT, heard)?;
    }
    let asked = world.told.asked();
    let noted = asked
        .iter()
        .any(|one| one.body.contains("dashboards are open now"));
    assert!(!noted, "a note is for those who are there");
    Ok(())
}

/// The same target, on another day, while the first has it: the budget says no, and nothing is injected.
fn another_day_meets_it(world: &World, run: &str) -> Result<()> {
    let other = world.does("ann", &["open", &world.path("day.yaml")])?;
    world.does("ann", &["go", &other])?;
    let refused = world.until_run(&other, 1, "endedUs")?;
    assert_eq!(refused["verdict"], "refused", "{refused}");
    let because = refused["because"].as_str().unwrap_or_default();
    assert!(because.contains(run), "{because}");
    assert!(refused["faultInUs"].is_null());
    // It waits for another decision, and is left out.
    world.does("ann", &["skip", &other, "--because", "another day has it"])?;
    world.does(
        "ann",
        &[
            "skip",
            &other,
            "--step",
            "2",
            "--because",
            "another day has it",
        ],
    )?;
    world.does("ann", &["end", &other])?;
    Ok(())
}

/// The report of the day; the page is left where it can be looked at.
fn is_told(world: &World, day: &str) -> Result<()> {
    let page = world.does("tom", &["report", day, "--html"])?;
    let text = world.does("tom", &["report", day])?;
    fs::write(
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("gameday.html"),
        &page,
    )?;
    for words in [
        "Stopped on the way",
        "1 held, 1 halted",
        "the dashboards are not open",
        "stopped by eve",
        "tell customers before",
        "nobody noticed but one",
    ] {
        assert!(page.contains(words), "{words}");
    }
    for words in [
        "| held |",
        "stopped by eve",
        "(**team-orders**, until 2026-12-31)",
        "a customer &amp; co. called",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let report = world.report(day).ok_or("no report")?;
    assert_eq!(report["handOvers"][0]["to"], "bob");
    assert_eq!(report["noGos"][0]["by"], "ann");
    let listed = world.does("tom", &["list"])?;
    assert!(listed.lines().count() >= 3, "{listed}");
    // Done, and refused: all of it is in the audit log.
    let audit = world.controller.squalls(&["audit", "list", "--json"])?;
    for deed in ["go", "no-go", "lead", "stop", "end"] {
        assert!(audit.contains(&format!("/gamedays/{day}/{deed}")), "{deed}");
    }
    world.controller.squalls(&["audit", "verify"]).map(drop)
}
