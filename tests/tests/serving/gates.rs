//! Deployment gates, asked as Argo Rollouts and Flagger ask: by the manifests of deploy/gates, filled in as these tools fill them in.

use crate::controller::{Controller, join};
use crate::shop::{ENVIRONMENTS, Shop, root};
use lab::verify::python_package;
use lab::world::service::needing;
use lab::world::{Ended, Result, answer, until};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Earned by one run by hand.
const POLICY: &str = "apiVersion: squall/v1
kind: Policy
environments: [ { name: production, stage: 1, automated: { held: 1, within: 1d } } ]
";

const TO_JSON: &str =
    "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))";

/// A run of the shop's experiment, on a busy machine.
const RUN_MAX: Duration = Duration::from_secs(120);

pub(crate) fn trials() -> Vec<Trial> {
    let python = python_package("yaml").filter(|_| root().is_some());
    vec![needing(
        python,
        "root, and the Python package PyYAML, which `cargo verify` installs",
        "gates::releases_are_judged_as_argo_and_flagger_ask",
        judged,
    )]
}

/// What a tool asks, and with what.
struct Asks {
    path: String,
    headers: String,
    body: String,
}

struct World<'s> {
    packages: &'s Path,
    shop: &'s Shop,
    controller: Controller,
    token: String,
}

impl<'s> World<'s> {
    fn start(packages: &'s Path, shop: &'s Shop) -> Result<(Self, Ended)> {
        fs::write(shop.file("policy.yaml"), POLICY)?;
        fs::write(shop.file("config.yaml"), ENVIRONMENTS)?;
        let (policy, config) = (shop.file("policy.yaml"), shop.file("config.yaml"));
        let controller = Controller::start(&["--policy", &policy, "--config", &config])?;
        let agent = join(&[&controller])?;
        let made = ["access", "create", "gates", "--role", "operator"];
        let made = [&made[..], &["--environment", "production"]].concat();
        let token = controller.squalls(&made)?.trim().to_owned();
        let world = Self {
            packages,
            shop,
            controller,
            token,
        };
        Ok((world, agent))
    }

    fn documents(&self, name: &str) -> Result<Value> {
        let path = format!("{}/../deploy/gates/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        let mut python = Command::new("python3");
        python
            .env("PYTHONPATH", self.packages)
            .args(["-c", TO_JSON]);
        let text = answer(&mut python, &fs::read_to_string(path)?)?;
        Ok(serde_json::from_str(&text)?)
    }

    /// As metricproviders/webmetric of Argo Rollouts has it: the arguments filled in, the headers as they are, the body as JSON.
    fn argo(&self, revision: &str) -> Result<Asks> {
        let web = &self.documents("argo-rollouts")?[0]["spec"]["metrics"][0]["provider"]["web"];
        assert_eq!(
            (&web["method"], &web["jsonPath"]),
            (&json!("POST"), &json!("{$.verdict}"))
        );
        let mut body = web["jsonBody"].clone();
        body["checksum"] = revision.into();
        body["metadata"]["experiment"] = self.shop.experiment().into();
        let header = &web["headers"][0];
        let value = header["value"].as_str().unwrap_or_default();
        let value = value.replace("{{args.token}}", &self.token);
        Ok(Asks {
            path: path_of(&web["url"])?,
            headers: format!(
                "{}: {value}\r\n",
                header["key"].as_str().unwrap_or_default()
            ),
            body: body.to_string(),
        })
    }

    /// As pkg/controller/webhook.go of Flagger has it; what is in front of the host is sent as Go's client sends it.
    fn flagger(&self, kind: &str, checksum: &str, phase: &str) -> Result<Asks> {
        let documents = self.documents("flagger")?;
        let hooks = documents[0]["spec"]["analysis"]["webhooks"].as_array();
        let hook = hooks.and_then(|hooks| hooks.iter().find(|hook| hook["type"] == kind));
        let hook = hook.ok_or("no such webhook")?;
        let mut metadata = hook["metadata"].clone();
        metadata["experiment"] = self.shop.experiment().into();
        let body = json!({
            "name": documents[0]["metadata"]["name"],
            "namespace": documents[0]["metadata"]["namespace"],
            "phase": phase, "checksum": checksum, "failedChecks": 0, "canaryWeight": 20,
            "metadata": metadata,
        });
        let url = hook["url"].as_str().unwrap_or_default();
        let (pair, _) = url
            .trim_start_matches("https://")
            .split_once('@')
            .ok_or("no token")?;
        let pair = pair.replace("TOKEN", &self.token);
        let base64 =
            "import base64, sys; print(base64.b64encode(sys.stdin.buffer.read()).decode())";
        let pair = answer(Command::new("python3").args(["-c", base64]), &pair)?;
        Ok(Asks {
            path: path_of(&hook["url"])?,
            headers: format!("Authorization: Basic {}\r\n", pair.trim()),
            body: body.to_string(),
        })
    }

    /// Status and body.
    fn ask(&self, asks: &Asks) -> Result<(u16, Value)> {
        let said = self
            .controller
            .post(&asks.path, &asks.headers, &asks.body)?;
        let status = said.split(' ').nth(1).unwrap_or_default().parse()?;
        let body = said.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok((status, serde_json::from_str(body)?))
    }

    /// Asks as a rollout does, until there is a verdict.
    fn verdict(&self, asks: &Asks) -> Result<String> {
        let said = || {
            let (status, body) = self.ask(asks).ok()?;
            let verdict = body["verdict"].as_str().unwrap_or_default().to_owned();
            (status != 200 || verdict != "underWay").then_some(format!("{status} {verdict}"))
        };
        until("the verdict", RUN_MAX, said)
    }
}

fn path_of(url: &Value) -> Result<String> {
    let url = url.as_str().unwrap_or_default();
    let (_, path) = url
        .split_once(":7410")
        .ok_or("an address without its port")?;
    Ok(path.to_owned())
}

fn judged(packages: &Path) -> Result<()> {
    let shop = Shop::open()?;
    let (world, _agent) = World::start(packages, &shop)?;
    let first = world.argo("r1")?;
    let (status, said) = world.ask(&first)?;
    assert_eq!(status, 403, "nothing is earned: {said}");
    let (file, url) = (shop.file("e.yaml"), world.controller.url());
    let run = [
        "run",
        &file,
        "--controller",
        &url,
        "--environment",
        "production",
    ];
    world.controller.squalls(&run)?;
    argo_goes_on_with_what_held(&world, &first)?;
    shop.need_payment();
    flagger_rolls_back_what_broke(&world)?;
    // The one before has its verdict still; nobody is told anything without a token; and what broke has to be earned anew.
    assert_eq!(world.verdict(&first)?, "200 held");
    let mut second = world.argo("r2")?;
    assert_eq!(world.ask(&second)?.0, 403);
    second.headers.clear();
    assert_eq!(world.ask(&second)?.0, 401);
    Ok(())
}

/// The same run, however often it is asked.
fn argo_goes_on_with_what_held(world: &World<'_>, first: &Asks) -> Result<()> {
    let (status, said) = world.ask(first)?;
    assert_eq!(
        (status, &said["verdict"]),
        (200, &json!("underWay")),
        "{said}"
    );
    assert_eq!(world.ask(first)?.1["run"], said["run"]);
    assert_eq!(world.verdict(first)?, "200 held");
    assert_eq!(world.ask(first)?.1["run"], said["run"]);
    Ok(())
}

fn flagger_rolls_back_what_broke(world: &World<'_>) -> Result<()> {
    let kinds = ["rollout", "confirm-promotion", "rollback"];
    let asks = kinds.map(|kind| world.flagger(kind, "c1", "Progressing"));
    let [pass, confirm, rollback] = asks;
    let (pass, confirm, rollback) = (pass?, confirm?, rollback?);
    assert_eq!(world.ask(&rollback)?.0, 409, "there was no run");
    assert_eq!(world.ask(&pass)?.0, 200);
    assert_eq!(world.ask(&confirm)?.0, 409, "it is under way");
    let broke = || (world.ask(&pass).ok()?.0 == 409).then_some(());
    until("the end of its passing", RUN_MAX, broke)?;
    assert_eq!(
        (world.ask(&confirm)?.0, world.ask(&rollback)?.0),
        (409, 200)
    );
    Ok(())
}
