//! The way to production by REST alone, from a file and from a push: the very lines of `controller/src/api/README.md`, run by bash, with a
//! controller that serves, an agent that injects, and a shop.

use crate::controller::{Controller, LIMIT, join};
use crate::shop::{ENVIRONMENTS, Shop, root};
use lab::vm::on_path;
use lab::world::service::needing;
use lab::world::stub::Asked;
use lab::world::{Ended, Result, output, until};
use libtest_mimic::Trial;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const PAGE: &str = include_str!("../../../controller/src/api/README.md");

/// The page's sections, and where in them the shop changes.
const BY_HAND: &str = "## From a file to production";
const BY_PUSH: &str = "## From a push to production";
const RELEASE: &str = "Then somebody brings out a release";

/// The repository that the page names.
const FOLLOWED: &str = "https://git.example/chaos.git";

/// Who commits; nothing of this machine's own settings counts.
const AUTHOR: [(&str, &str); 6] = [
    ("GIT_AUTHOR_NAME", "ann"),
    ("GIT_AUTHOR_EMAIL", "ann@example"),
    ("GIT_COMMITTER_NAME", "ann"),
    ("GIT_COMMITTER_EMAIL", "ann@example"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
];

/// Says that it is time for that.
const CHANGE: &str = "touch change\n";

/// All of it, a minute of the schedule's included.
const WHOLE: Duration = Duration::from_secs(400);

/// A line that fails is named.
const STRICT: &str = "set -Eeuo pipefail\ntrap 'echo \"failed: $BASH_COMMAND\" >&2' ERR\n";

pub(crate) fn trials() -> Vec<Trial> {
    let tools = on_path("curl").and(on_path("jq"));
    let needs = "root to hold a process still, curl and jq: apt-get install curl jq";
    vec![
        needing(
            tools.clone().and(root()),
            needs,
            "rest::a_file_earns_production_by_the_lines_of_the_page",
            |_| earned_by_hand(),
        ),
        needing(
            tools.and(root()),
            needs,
            "rest::a_push_earns_production_by_the_lines_of_the_page",
            |_| earned_by_a_push(),
        ),
    ]
}

/// What is between fences of this language in a section, in order, with the text before each.
fn blocks(section: &str, language: &str) -> Vec<(&'static str, &'static str)> {
    let section = PAGE.split_once(section).map_or("", |(_, section)| section);
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut parts = section.split("```");
    let mut found = Vec::new();
    while let (Some(before), Some(block)) = (parts.next(), parts.next()) {
        let (kind, text) = block.split_once('\n').unwrap_or_default();
        if kind == language {
            found.push((before, text));
        }
    }
    found
}

/// The lines of a section as one script, behind others; they must show all of this.
fn script(first: &str, section: &str, shown: &[&str]) -> Result<String> {
    let mut script = format!("{STRICT}{first}");
    for (before, block) in blocks(section, "sh") {
        if before.contains(RELEASE) {
            script.push_str(CHANGE);
        }
        script.push_str(block);
    }
    match shown
        .iter()
        .chain([&CHANGE])
        .find(|what| !script.contains(**what))
    {
        Some(gone) => Err(format!("the page no longer shows {gone}").into()),
        None => Ok(script),
    }
}

/// A controller and an agent, and what the page says is there; `more` is of the configuration.
fn set_up(shop: &Shop, more: &str) -> Result<(Controller, Ended)> {
    let (_, policy) = *blocks(BY_HAND, "yaml")
        .first()
        .ok_or("the page has no policy")?;
    fs::write(shop.file("policy.yaml"), policy)?;
    let url = shop.url();
    let notify = format!("notify:\n  - {{ name: ops, url: \"{url}/hook\", pauseMs: 50 }}\n");
    fs::write(
        shop.file("config.yaml"),
        format!("{ENVIRONMENTS}{notify}{more}"),
    )?;
    let (policy, config) = (shop.file("policy.yaml"), shop.file("config.yaml"));
    let controller = Controller::start(&["--policy", &policy, "--config", &config])?;
    let agent = join(&[&controller])?;
    for name in ["authority.pem", "admin.token"] {
        fs::copy(controller.data().join(name), shop.file(name))?;
    }
    fs::write(shop.file("orders.yaml"), shop.experiment())?;
    Ok((controller, agent))
}

fn earned_by_hand() -> Result<()> {
    let shop = Shop::open()?;
    let (controller, _agent) = set_up(&shop, "")?;
    let shown = [
        "/plans",
        "/promotions",
        "/votes",
        "/events",
        "PUT /schedules",
    ];
    run(&shop, &controller, &script("", BY_HAND, &shown)?, "")
}

/// The repository is a bare one beside the shop, which the page's lines push to and the controller follows.
fn earned_by_a_push() -> Result<()> {
    let shop = Shop::open()?;
    let bare = shop.file("chaos.git");
    let init = ["init", "--quiet", "--bare", "--initial-branch=main"];
    output(Command::new("git").args(init).arg(&bare))?;
    let url = format!("file://{bare}");
    let (_, follows) = *blocks(BY_PUSH, "yaml")
        .first()
        .ok_or("the page follows no repository")?;
    let (controller, _agent) = set_up(&shop, &follows.replace(FOLLOWED, &url))?;
    let (_, helpers) = *blocks(BY_HAND, "sh")
        .first()
        .ok_or("the page has no `as`")?;
    let shown = [
        "/git/plan",
        "/promotions",
        "/votes",
        " revert ",
        "nightly.yaml",
    ];
    let lines = script(helpers, BY_PUSH, &shown)?;
    run(&shop, &controller, &lines, &url)?;
    let notices = shop.notices("git.applied");
    let text = |one: &Asked| one.body.contains("is in force: 1 schedules");
    match notices.iter().any(text) {
        true => Ok(()),
        false => Err("nobody was told that the schedule came into force".into()),
    }
}

/// Runs lines of the page with bash, changes the shop where they say so, and waits for what the schedule's end is told with.
fn run(shop: &Shop, controller: &Controller, lines: &str, chaos: &str) -> Result<()> {
    let said = shop.file("said");
    let out = fs::File::create(&said)?;
    let bash = Command::new("bash")
        .args(["-c", lines])
        .current_dir(shop.folder.path())
        .env("SQUALL", controller.url())
        .env("CHAOS", chaos)
        .envs(AUTHOR)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()?;
    let mut bash = Ended(bash);
    let change = shop.file("change");
    let ended = until("the end of the page's lines", WHOLE, || {
        if Path::new(&change).exists() {
            shop.need_payment();
        }
        bash.0.try_wait().ok()?
    });
    let said = || fs::read_to_string(&said).unwrap_or_default();
    match ended {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(format!("the page's lines: {status}: {}", said()).into()),
        Err(error) => return Err(format!("{error}: {}", said()).into()),
    }
    let told = || (!shop.notices("schedule.suspended").is_empty()).then_some(());
    until("the notice that the schedule is suspended", LIMIT, told)
}
