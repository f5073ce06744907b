//! The way from a file to production by REST alone: the very lines of `controller/src/api/README.md`, run by bash, with a controller that
//! serves, an agent that injects, and a shop.

use crate::controller::{Controller, LIMIT, join};
use crate::shop::{ENVIRONMENTS, Shop, root};
use lab::vm::on_path;
use lab::world::service::needing;
use lab::world::{Ended, Result, until};
use libtest_mimic::Trial;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const PAGE: &str = include_str!("../../../controller/src/api/README.md");

/// The page's own section, and where in it the shop changes.
const SECTION: &str = "## From a file to production";
const RELEASE: &str = "Then somebody brings out a release";

/// Says that it is time for that.
const CHANGE: &str = "touch change\n";

/// All of it, a minute of the schedule's included.
const WHOLE: Duration = Duration::from_secs(400);

/// A line that fails is named.
const STRICT: &str = "set -Eeuo pipefail\ntrap 'echo \"failed: $BASH_COMMAND\" >&2' ERR\n";

pub(crate) fn trials() -> Vec<Trial> {
    let tools = on_path("curl").and(on_path("jq"));
    vec![needing(
        tools.and(root()),
        "root to hold a process still, curl and jq: apt-get install curl jq",
        "rest::a_file_earns_production_by_the_lines_of_the_page",
        |_| by_the_lines_of_the_page(),
    )]
}

/// What is between fences of this language, in order, with the text before each.
fn blocks(language: &str) -> Vec<(&'static str, &'static str)> {
    let section = PAGE.split_once(SECTION).map_or("", |(_, section)| section);
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

/// The page as one script.
fn script() -> Result<String> {
    let mut script = STRICT.to_owned();
    for (before, block) in blocks("sh") {
        if before.contains(RELEASE) {
            script.push_str(CHANGE);
        }
        script.push_str(block);
    }
    let shown = [
        "/plans",
        "/promotions",
        "/votes",
        "/events",
        "PUT /schedules",
        CHANGE,
    ];
    match shown.into_iter().find(|what| !script.contains(what)) {
        Some(gone) => Err(format!("the page no longer shows {gone}").into()),
        None => Ok(script),
    }
}

/// A controller and an agent, and what the page says is there.
fn set_up(shop: &Shop) -> Result<(Controller, Ended)> {
    let (_, policy) = *blocks("yaml").first().ok_or("the page has no policy")?;
    fs::write(shop.file("policy.yaml"), policy)?;
    let url = shop.url();
    let notify = format!("notify:\n  - {{ name: ops, url: \"{url}/hook\", pauseMs: 50 }}\n");
    fs::write(shop.file("config.yaml"), format!("{ENVIRONMENTS}{notify}"))?;
    let (policy, config) = (shop.file("policy.yaml"), shop.file("config.yaml"));
    let controller = Controller::start(&["--policy", &policy, "--config", &config])?;
    let agent = join(&[&controller])?;
    for name in ["authority.pem", "admin.token"] {
        fs::copy(controller.data().join(name), shop.file(name))?;
    }
    fs::write(shop.file("orders.yaml"), shop.experiment())?;
    Ok((controller, agent))
}

fn by_the_lines_of_the_page() -> Result<()> {
    let shop = Shop::open()?;
    let (controller, _agent) = set_up(&shop)?;
    let said = shop.file("said");
    let out = fs::File::create(&said)?;
    let bash = Command::new("bash")
        .args(["-c", &script()?])
        .current_dir(shop.folder.path())
        .env("SQUALL", controller.url())
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
