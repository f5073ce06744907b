//! Schedules at a controller that serves, with an agent that injects: told of by a push, started by the clock, broken, suspended, and
//! everybody told.

use crate::controller::{Controller, LIMIT, join};
use crate::shop::{ENVIRONMENTS, SCHEDULE, Shop, root};
use lab::world::service::needing;
use lab::world::{Ended, Result, answer, output, until};
use libtest_mimic::Trial;
use serde_json::Value;
use std::fs;
use std::process::Command;
use std::time::Duration;

/// The next minute, and a run.
const NEXT_RUN: Duration = Duration::from_secs(150);

/// What pushes are told with, and what notices are signed with.
const SECRETS: [&str; 2] = ["a word between two", "another word"];

/// HMAC-SHA256 by somebody else: in hexadecimal, and in base64.
const HMAC: &str = "import base64, hashlib, hmac, sys
mac = hmac.new(sys.argv[1].encode(), sys.stdin.buffer.read(), hashlib.sha256)
print(mac.hexdigest(), base64.b64encode(mac.digest()).decode())";

pub(crate) fn trials() -> Vec<Trial> {
    vec![needing(
        root(),
        "root, to hold a process still",
        "schedules::a_push_is_followed_started_by_the_clock_and_suspended_when_it_breaks",
        |_| followed(),
    )]
}

fn signed(secret: &str, message: &str) -> Result<(String, String)> {
    let said = answer(Command::new("python3").args(["-c", HMAC, secret]), message)?;
    let (hex, base64) = said.trim().split_once(' ').ok_or("no signature")?;
    Ok((hex.to_owned(), base64.to_owned()))
}

/// A repository that somebody pushes to, and who may.
struct Repository<'s>(&'s Shop);

impl<'s> Repository<'s> {
    fn new(shop: &'s Shop) -> Result<Self> {
        let repository = Self(shop);
        let work = shop.file("work");
        fs::create_dir_all(format!("{work}/chaos"))?;
        repository.git(&["init", "--quiet", "--initial-branch=main", "."])?;
        let key = shop.file("ann");
        let keygen = ["-q", "-t", "ed25519", "-N", "", "-f", &key];
        output(Command::new("ssh-keygen").args(keygen))?;
        let public = fs::read_to_string(format!("{key}.pub"))?;
        fs::write(shop.file("signers"), format!("ann@example {public}"))?;
        Ok(repository)
    }

    fn git(&self, args: &[&str]) -> Result<String> {
        let signer = format!("user.signingKey={}", self.0.file("ann"));
        let mut git = Command::new("git");
        git.current_dir(self.0.file("work"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1");
        for setting in [
            "user.name=ann",
            "user.email=ann@example",
            "gpg.format=ssh",
            &signer,
        ] {
            git.args(["-c", setting]);
        }
        output(git.args(args))
    }

    /// Commits a file; the commit.
    fn commit(&self, name: &str, text: &str, sign: &str) -> Result<String> {
        fs::write(format!("{}/chaos/{name}", self.0.file("work")), text)?;
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", sign, "-m", "change"])?;
        Ok(self.git(&["rev-parse", "HEAD"])?.trim().to_owned())
    }

    fn url(&self) -> String {
        format!("file://{}", self.0.file("work"))
    }
}

struct World<'s> {
    shop: &'s Shop,
    repository: Repository<'s>,
    controller: Controller,
    _agent: Ended,
}

impl<'s> World<'s> {
    fn start(shop: &'s Shop) -> Result<Self> {
        let repository = Repository::new(shop)?;
        repository.commit("e.yaml", &shop.experiment(), "-S")?;
        for (name, secret) in ["push", "notice"].into_iter().zip(SECRETS) {
            fs::write(shop.file(name), secret)?;
        }
        let (git, signers, push) = (repository.url(), shop.file("signers"), shop.file("push"));
        let (hook, notice) = (shop.url(), shop.file("notice"));
        // Looked at when a push is told, and no sooner.
        let config = format!(
            "{ENVIRONMENTS}git:
  repository: {{ url: \"{git}\", branch: main, path: chaos, allowedSigners: \"{signers}\" }}
  every: 1h
  hook: {{ file: \"{push}\" }}
notify:
  - {{ name: ops, url: \"{hook}/hook\", secret: {{ file: \"{notice}\" }}, pauseMs: 50 }}
"
        );
        fs::write(shop.file("config.yaml"), config)?;
        let (policy, config) = (shop.file("policy.yaml"), shop.file("config.yaml"));
        let controller = Controller::start(&["--policy", &policy, "--config", &config])?;
        let agent = join(&[&controller])?;
        Ok(Self {
            shop,
            repository,
            controller,
            _agent: agent,
        })
    }

    /// Tells the controller of a push, as a Git server does.
    fn pushed(&self) -> Result<()> {
        let body = r#"{"ref":"refs/heads/main"}"#;
        let (hex, _) = signed(SECRETS[0], body)?;
        let (forged, _) = signed("a guess", body)?;
        for (signature, status) in [(forged, "401"), (hex, "202")] {
            let header = format!("X-Hub-Signature-256: sha256={signature}\r\n");
            let said = self.controller.post("/hooks/git", &header, body)?;
            assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{said}");
        }
        Ok(())
    }

    /// The one schedule in force.
    fn schedule(&self) -> Result<Value> {
        let list = self.controller.squalls(&["schedule", "list", "--json"])?;
        let list: Vec<Value> = serde_json::from_str(&list)?;
        Ok(list.into_iter().next().unwrap_or_default())
    }

    /// Waits for a notice whose text has these words.
    fn told(&self, event: &str, words: &str) -> Result<()> {
        let told = || {
            let notices = self.shop.notices(event);
            let found = notices.iter().any(|one| one.body.contains(words));
            found.then_some(())
        };
        until(&format!("a notice {event} with `{words}`"), LIMIT, told)
    }
}

fn followed() -> Result<()> {
    let shop = Shop::open()?;
    let world = World::start(&shop)?;
    shop.earn(&world.controller)?;
    shop.need_payment();
    let commit = comes_into_force(&world)?;
    what_is_not_good_changes_nothing(&world, &commit)?;
    breaks(&world, &commit)
}

/// What a push would change is shown, and is in force once the push is told; not before.
fn comes_into_force(world: &World<'_>) -> Result<String> {
    let commit = world.repository.commit("nightly.yaml", SCHEDULE, "-S")?;
    let (url, signers) = (world.repository.url(), world.shop.file("signers"));
    let plan = ["git", "plan", &url, "--path", "chaos", "--json"];
    let plan = [&plan[..], &["--allowed-signers", &signers]].concat();
    let plan: Value = serde_json::from_str(&world.controller.squalls(&plan)?)?;
    assert_eq!(plan["commit"], commit.as_str(), "{plan}");
    assert_eq!(plan["put"][0]["name"], "nightly", "{plan}");
    assert_eq!(plan["put"][0]["change"], "new", "{plan}");
    assert_eq!(
        world.schedule()?,
        Value::Null,
        "shown, and in force already"
    );
    world.pushed()?;
    world.told("git.applied", &commit)?;
    assert_eq!(world.schedule()?["source"], commit.as_str());
    Ok(commit)
}

fn what_is_not_good_changes_nothing(world: &World<'_>, commit: &str) -> Result<()> {
    let broken = SCHEDULE.replace("\"* * * * *\"", "61 * * * *");
    world.repository.commit("nightly.yaml", &broken, "-S")?;
    world.pushed()?;
    world.told("git.refused", "nightly.yaml:5:7")?;
    assert_eq!(world.schedule()?["source"], commit);
    let other = SCHEDULE.replace("Berlin", "Paris");
    let sign = "--no-gpg-sign";
    let unsigned = world.repository.commit("nightly.yaml", &other, sign)?;
    world.pushed()?;
    world.told("git.refused", &format!("{unsigned} is not signed"))?;
    assert_eq!(world.schedule()?["source"], commit);
    assert_eq!(world.schedule()?["timeZone"], "Europe/Berlin");
    Ok(())
}

/// The clock starts a run; it breaks, and nothing is started any more. The receiver is told, though it was not ready at first.
fn breaks(world: &World<'_>, commit: &str) -> Result<()> {
    world.shop.turn_away(2);
    let ended = || {
        let starts = world
            .controller
            .squalls(&["schedule", "starts", "nightly", "--json"]);
        let starts: Value = serde_json::from_str(&starts.ok()?).ok()?;
        let first = starts.as_array()?.last()?.clone();
        (first["state"] == "ended").then_some(first)
    };
    let first = until("the run that the clock starts", NEXT_RUN, ended)?;
    assert_eq!(first["because"], "broken", "{first}");
    let run = first["run"].as_str().ok_or("a start without its run")?;
    let events = format!("/api/v1/runs/{run}/events");
    let events = world.controller.get_as_admin(&events)?;
    assert!(events.contains(&format!("e.yaml at {commit}")), "{events}");
    assert!(events.contains("schedule nightly"), "{events}");
    let because = world.schedule()?["suspendedBecause"].to_string();
    assert!(because.contains(run), "{because}");

    let event = "schedule.suspended";
    let sent = || Some(world.shop.notices(event)).filter(|sent| sent.len() == 3);
    let sent = until("the notice, sent until it was taken", LIMIT, sent)?;
    for one in &sent {
        let header = |name: &str| one.header(name).ok_or(format!("no {name}"));
        assert_eq!(
            header("webhook-id")?,
            sent[0].header("webhook-id").unwrap_or_default()
        );
        let message = format!(
            "{}.{}.{}",
            header("webhook-id")?,
            header("webhook-timestamp")?,
            one.body
        );
        let (_, base64) = signed(SECRETS[1], &message)?;
        assert_eq!(header("webhook-signature")?, format!("v1,{base64}"));
        assert!(one.body.contains(run), "{}", one.body);
    }
    world.told("run.finished", &format!("Run {run} of schedule"))
}
