//! A game day whose leading controller dies, and whose next one stands still.

use super::{Pair, leads_soon};
use crate::controller::{Controller, LIMIT};
use crate::in_flight::Still;
use lab::world::{Result, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Instant;

/// Whose token has which role.
const TOKENS: [(&str, &str); 3] = [("ann", "operator"), ("bob", "operator"), ("sue", "viewer")];

/// What is written down on the way: at the first leader, at the second, and at the first again.
const NOTES: [&str; 3] = ["the dashboards are open", "the line was bad", "we go on"];

/// What is said to a leader that stands still.
const UNHEARD: &str = "nobody hears this";

fn file(date: &str) -> String {
    format!(
        "apiVersion: squall/v1\nkind: GameDay\nmetadata: {{ name: handed-on, owner: team-orders, runbook: \"https://wiki.example/helper\" }}\n\
         date: {date}\ntimeZone: UTC\nobjectives: [ a dead controller does not end the day ]\n\
         people:\n  - {{ name: ann, role: leader }}\n  - {{ name: bob, role: deputy }}\n  - {{ name: sue, role: scribe }}\n\
         experiments: [ {{ file: in-flight.yaml, before: [ everybody is here ] }} ]\n"
    )
}

/// The people, whose tokens are in one folder, whichever controller they ask.
struct People<'p> {
    home: &'p Path,
    day: String,
}

impl People<'_> {
    /// What somebody types at a controller.
    fn types(&self, at: &Controller, who: &str, line: &[&str]) -> Result<Output> {
        let token = self.home.join(who).display().to_string();
        let url = at.url();
        let mut args = vec!["gameday", line[0]];
        args.extend((!self.day.is_empty()).then_some(self.day.as_str()));
        args.extend(&line[1..]);
        args.extend(["--token-file", &token, "--controller", &url]);
        at.squall(&args)
    }

    /// What somebody types, and may.
    fn does(&self, at: &Controller, who: &str, line: &[&str]) -> Result<String> {
        let output = self.types(at, who, line)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{who}: {line:?}: {said}").into());
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    fn report(&self, at: &Controller) -> Option<Value> {
        serde_json::from_str(&self.does(at, "sue", &["report", "--json"]).ok()?).ok()
    }

    /// The run's end, once a leader has said how it ended.
    fn ended(&self, at: &Controller) -> Result<Value> {
        until("the end of the step's run", LIMIT, || {
            let run = self.report(at)?["steps"][0]["runs"][0].clone();
            run["endedUs"].is_number().then_some(run)
        })
    }
}

/// What is said at one leader is known at the next, who goes on with the day; and one that stood still adds nothing to it when it wakes.
pub(super) fn gone_on_with(programs: &Path) -> Result<()> {
    let mut pair = Pair::start(programs, &[])?;
    pair.join()?;
    let home = pair.first.home.path().to_owned();
    let still = Still::start(&pair.first)?;
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    fs::write(home.join("day.yaml"), file(&today))?;
    for (person, role) in TOKENS {
        let made = ["access", "create", person, "--role", role, "--days", "1"];
        fs::write(home.join(person), pair.first.squalls(&made)?)?;
    }
    let mut people = People {
        home: &home,
        day: String::new(),
    };
    let file = home.join("day.yaml").display().to_string();
    people.day = people.does(&pair.first, "ann", &["open", &file])?;
    let no_go = ["no-go", "--because", "bob is not here"];
    people.does(&pair.first, "ann", &no_go)?;
    people.does(&pair.first, "sue", &["note", NOTES[0]])?;
    let run = people.does(&pair.first, "ann", &["go", "--because", "all are here"])?;
    still.held()?;

    let killed = Instant::now();
    pair.first.end(Signal::SIGKILL)?;
    leads_soon(&pair.second, killed)?;
    still.let_go()?;
    let ended = people.ended(&pair.second)?;
    assert_eq!(ended["run"], *run, "{ended}");
    assert_eq!(ended["goBy"], "ann", "{ended}");
    assert_eq!(ended["verdict"], "inconclusive", "{ended}");
    let hand_over = ["hand-over", "--because", "ann's line is bad"];
    people.does(&pair.second, "bob", &hand_over)?;
    let refused = people.types(&pair.second, "ann", &["go"])?;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(said.contains("bob has the lead"), "{said}");
    people.does(&pair.second, "sue", &["note", NOTES[1]])?;

    stands_still(&mut pair, &people)?;
    people.does(&pair.first, "sue", &["note", NOTES[2]])?;
    let skip = ["skip", "--because", "no time left"];
    people.does(&pair.first, "bob", &skip)?;
    people.does(
        &pair.second,
        "bob",
        &["end", "--because", "enough for today"],
    )?;
    is_whole(&people.report(&pair.second).ok_or("no report")?, &run);
    Ok(())
}

/// The second leader stands still with something to write down before it, and wakes when the first one leads again.
fn stands_still(pair: &mut Pair, people: &People<'_>) -> Result<()> {
    pair.first.serve()?;
    until("the first's following", LIMIT, || pair.first.follows())?;
    let mut asking = pair.second.asking()?;
    let stopped = Instant::now();
    pair.second.signal(Signal::SIGSTOP)?;
    let token = fs::read_to_string(people.home.join("sue"))?;
    let token = format!("Authorization: Bearer {}\r\n", token.trim());
    let path = format!("/api/v1/gamedays/{}/notes", people.day);
    let note = serde_json::json!({ "text": UNHEARD }).to_string();
    asking.post(&path, &token, &note)?;
    leads_soon(&pair.first, stopped)?;
    pair.second.signal(Signal::SIGCONT)?;
    let answer = asking.answer()?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    assert!(!status.starts_with('2') && !status.is_empty(), "{answer}");
    until("the second's following", LIMIT, || pair.second.follows()).map(drop)
}

/// All that was said is there, each once and in its order, and nothing else.
fn is_whole(report: &Value, run: &str) {
    let all = |list: &str, field: &str| -> Vec<String> {
        let items = report[list].as_array().into_iter().flatten();
        let words = items.filter_map(|item| item[field].as_str());
        words.map(str::to_owned).collect()
    };
    assert_eq!(all("notes", "text"), NOTES, "{report}");
    let because = all("noGos", "because");
    assert_eq!(because, ["bob is not here", "no time left"], "{report}");
    assert_eq!(all("handOvers", "to"), ["bob"], "{report}");
    assert_eq!(report["lead"], "bob", "{report}");
    let runs = report["steps"][0]["runs"].as_array();
    assert_eq!(runs.map(Vec::len), Some(1), "{report}");
    assert_eq!(report["steps"][0]["runs"][0]["run"], run, "{report}");
    assert_eq!(report["conclusion"], "enough for today", "{report}");
    let told = report["timeline"].to_string();
    assert!(!told.contains(UNHEARD), "{told}");
    let times = told.matches("goes on with the day").count();
    assert_eq!(times, 2, "once for each that led it after another: {told}");
}
