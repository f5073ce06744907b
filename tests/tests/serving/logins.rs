//! Logins of people at a controller, with a real OpenID provider: `oidc-provider` of npm.

use crate::controller::{Controller, LIMIT};
use lab::verify::node_package;
use lab::world::service::{Service, folder, free, needing};
use lab::world::{Result, until};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

const SCRIPT: &str = include_str!("provider.mjs");

/// Stage 2 is asked for, so that somebody must agree.
const POLICY: &str = crate::shop::POLICY;

pub(crate) fn trials() -> Vec<Trial> {
    vec![needing(
        node_package("oidc-provider"),
        "the npm package oidc-provider, which `cargo verify` installs",
        "logins::people_log_in_at_a_real_provider_and_nobody_else_does",
        people_log_in,
    )]
}

struct Provider {
    modules: PathBuf,
    address: SocketAddr,
    serving: Option<Service>,
}

impl Provider {
    fn start(package: &Path) -> Result<Self> {
        let modules = package.parent().ok_or("no folder of packages")?;
        let mut provider = Self {
            modules: modules.to_owned(),
            address: free()?,
            serving: None,
        };
        provider.serve("first")?;
        Ok(provider)
    }

    /// Starts it, or starts it again, with another key.
    fn serve(&mut self, key: &str) -> Result<()> {
        self.serving = None;
        let folder = folder()?;
        let script = folder.path().join("provider.mjs");
        fs::write(&script, SCRIPT)?;
        let mut node = Command::new("node");
        node.arg(script).arg(&self.modules);
        node.args([&self.address.port().to_string(), key]);
        let service = Service::start(node, Signal::SIGKILL, folder, &[self.address])?;
        self.serving = Some(service);
        Ok(())
    }

    fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    fn ask(&self, what: &str, said: &Value) -> Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let body = said.to_string();
        let length = body.len();
        write!(
            stream,
            "POST /test/{what} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        match head.starts_with("HTTP/1.1 200") {
            true => Ok(body.to_owned()),
            false => Err(answer.into()),
        }
    }

    /// A token that it signed, or as if it had.
    fn token(&self, how: &str, header: Value, claims: Value) -> Result<String> {
        self.ask(
            "sign",
            &json!({ "how": how, "header": header, "claims": claims }),
        )
    }

    /// How often its keys were asked for.
    fn asked(&self) -> Result<u64> {
        Ok(self.ask("asked", &Value::Null)?.parse()?)
    }
}

struct World {
    provider: Provider,
    controller: Controller,
    home: TempDir,
}

impl World {
    fn start(package: &Path) -> Result<Self> {
        let (provider, home) = (Provider::start(package)?, TempDir::new()?);
        let file = |name: &str| home.path().join(name).display().to_string();
        let config = format!(
            "environments:\n  staging: {{}}\n  production: {{}}
login:
  issuer: {}
  client: squall
  keysFor: 10s
  roles:
    - {{ claim: groups, has: starters, role: operator }}
    - {{ claim: groups, has: agreers, role: approver, environments: [ production ] }}
  people: {{ ann: [ s-ann ] }}
",
            provider.issuer()
        );
        fs::write(file("config.yaml"), config)?;
        fs::write(file("policy.yaml"), POLICY)?;
        let args = [
            "--policy",
            &file("policy.yaml"),
            "--config",
            &file("config.yaml"),
        ];
        Ok(Self {
            controller: Controller::start(&args)?,
            provider,
            home,
        })
    }

    /// A command of somebody at a machine of their own.
    fn squall(&self, who: &str, args: &[&str]) -> Result<Command> {
        let mut squall = Command::new(lab::world::agent::program("squall")?);
        squall
            .args(args)
            .env("SQUALL_DATA", self.home.path().join(who))
            .env(
                "SQUALL_AUTHORITY",
                self.controller.data().join("authority.pem"),
            )
            .env("SQUALL_CONTROLLER", self.controller.url());
        Ok(squall)
    }

    fn says(&self, who: &str, args: &[&str]) -> Result<String> {
        lab::world::output(&mut self.squall(who, args)?)
    }

    fn whoami(&self, who: &str) -> Result<Value> {
        Ok(serde_json::from_str(
            &self.says(who, &["whoami", "--json"])?,
        )?)
    }

    /// Logs in, as a person does who has a browser at hand.
    fn login(&self, who: &str) -> Result<()> {
        let mut squall = self.squall(who, &["login"])?;
        let mut child = squall
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let said = child.stderr.take().ok_or("no standard error")?;
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line)?;
        let (_, code) = line.trim().rsplit_once(' ').ok_or("no code")?;
        let confirmed = json!({ "code": code, "subject": format!("s-{who}") });
        self.provider.ask("confirm", &confirmed)?;
        let ended = until("the end of the login", LIMIT, || child.try_wait().ok()?)?;
        match ended.success() {
            true => Ok(()),
            false => Err(format!("{who} is not logged in: {line}").into()),
        }
    }

    /// The status with which a token is answered, and what is said.
    fn shown(&self, token: &str) -> Result<(String, String)> {
        let header = format!("Authorization: Bearer {token}\r\n");
        let answer = self.controller.get_as("/api/v1/whoami", &header)?;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        Ok((status.to_owned(), answer.clone()))
    }

    fn is_taken(&self, token: &str) -> Result<bool> {
        Ok(self.shown(token)?.0 == "200")
    }
}

fn people_log_in(package: &Path) -> Result<()> {
    let mut world = World::start(package)?;
    logged_in(&world)?;
    nobody_is_two_people(&world)?;
    what_is_not_good_is_refused(&world)?;
    logged_out(&world)?;
    keys_are_changed(&mut world)?;
    provider_is_away(&mut world)
}

/// What is known of people is what the provider says and the configuration makes of it; the token is theirs alone, and renewed.
fn logged_in(world: &World) -> Result<()> {
    for who in ["ann", "bob"] {
        world.login(who)?;
    }
    let ann = world.whoami("ann")?;
    assert_eq!(
        (&ann["name"], &ann["grants"][0]["role"]),
        (&json!("ann"), &json!("operator"))
    );
    assert_eq!(ann["token"], "login of ann@example.com");
    let bob = world.whoami("bob")?;
    assert_eq!(bob["name"], format!("{}#s-bob", world.provider.issuer()));
    assert_eq!(bob["grants"][0]["environments"], json!(["production"]));
    let folder = world.home.path().join("ann/logins");
    let file = fs::read_dir(&folder)?
        .next()
        .ok_or("no login is kept")??
        .path();
    assert_eq!(fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&folder)?.permissions().mode() & 0o777, 0o700);
    // It ends so soon that the next command asks for another.
    let before = fs::read_to_string(&file)?;
    world.whoami("ann")?;
    assert_ne!(before, fs::read_to_string(&file)?);
    // Not of the role, and not of the environment.
    let refused = world.squall("ann", &["access", "list"])?.output()?;
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("403"),
        "{refused:?}"
    );
    let refused = world
        .squall("bob", &["approve", "list", "--environment", "staging"])?
        .output()?;
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("403"),
        "{refused:?}"
    );
    Ok(())
}

/// Ann asks by her login, and does not agree by her API token; Bob does.
fn nobody_is_two_people(world: &World) -> Result<()> {
    let file = world.home.path().join("e.yaml").display().to_string();
    fs::write(&file, EXPERIMENT)?;
    let promoted = world
        .squall("ann", &["promote", &file, "--because", "a release"])?
        .output()?;
    assert_eq!(promoted.status.code(), Some(4), "{promoted:?}");
    let asked: Value = serde_json::from_str(&world.says("bob", &["approve", "list", "--json"])?)?;
    let asked = &asked["items"][0];
    assert_eq!(asked["requestedBy"], "ann");
    let id = asked["id"].as_str().ok_or("nothing was asked")?;
    let token = world.home.path().join("ann.token").display().to_string();
    let made = world
        .controller
        .squalls(&["access", "create", "ann", "--role", "approver"])?;
    fs::write(&token, made)?;
    let yes = ["yes", id, "--because", "mine"];
    let as_ann = ["approve", "--token-file", &token];
    let own = world
        .squall("ann", &[&as_ann[..], &yes].concat())?
        .output()?;
    let said = String::from_utf8_lossy(&own.stderr);
    assert!(said.contains("somebody else must"), "{said}");
    world
        .says("bob", &[&["approve"][..], &yes].concat())
        .map(drop)
}

fn what_is_not_good_is_refused(world: &World) -> Result<()> {
    let provider = &world.provider;
    let good = provider.token("key", json!({}), json!({}))?;
    assert!(world.is_taken(&good)?);
    for (how, header, claims) in [
        ("key", json!({}), json!({ "aud": "other" })),
        ("key", json!({}), json!({ "iss": "http://127.0.0.1:1" })),
        ("key", json!({}), json!({ "exp": 1_000_000 })),
        ("key", json!({}), json!({ "nbf": 9_000_000_000_u64 })),
        ("key", json!({}), json!({ "azp": "other" })),
        ("key", json!({ "typ": "logout+jwt" }), json!({})),
        ("none", json!({}), json!({})),
        ("public key as a secret", json!({}), json!({})),
        ("stranger", json!({}), json!({})),
    ] {
        let token = provider.token(how, header.clone(), claims.clone())?;
        let (status, said) = world.shown(&token)?;
        assert_eq!(status, "401", "{how} {header} {claims}: {said}");
    }
    // A key that is not known is asked for: once within the moment, whoever comes with it.
    let unknown = provider.token("stranger", json!({ "kid": "unknown" }), json!({}))?;
    let more = || {
        let before = provider.asked().ok()?;
        (!world.is_taken(&unknown).ok()? && provider.asked().ok()? > before).then_some(())
    };
    until("the provider's being asked for a key", LIMIT, more)?;
    let before = provider.asked()?;
    for _ in 0..20 {
        assert!(!world.is_taken(&unknown)?);
    }
    assert!(provider.asked()? <= before + 1);
    assert!(world.is_taken(&good)?);
    Ok(())
}

fn logged_out(world: &World) -> Result<()> {
    world.says("ann", &["logout"])?;
    assert_eq!(
        fs::read_dir(world.home.path().join("ann/logins"))?.count(),
        0
    );
    let after = world.squall("ann", &["whoami"])?.output()?;
    assert!(!after.status.success(), "{after:?}");
    world.says("ann", &["logout"]).map(drop)
}

/// The provider has another key: what it signs from now on is taken, and what the old one signed is not, once that is known.
fn keys_are_changed(world: &mut World) -> Result<()> {
    let old = world.provider.token("key", json!({}), json!({}))?;
    world.provider.serve("second")?;
    let new = world.provider.token("key", json!({}), json!({}))?;
    let taken = || world.is_taken(&new).ok()?.then_some(());
    until("the new key", LIMIT, taken)?;
    assert!(!world.is_taken(&old)?);
    Ok(())
}

/// Keys are good for their time without their provider, and no longer. API tokens do not need it.
fn provider_is_away(world: &mut World) -> Result<()> {
    let token = world.provider.token("key", json!({}), json!({}))?;
    assert!(world.is_taken(&token)?);
    world.provider.serving = None;
    assert!(
        world.is_taken(&token)?,
        "the keys were good for ten seconds"
    );
    let refused = || {
        world
            .shown(&token)
            .ok()
            .filter(|(status, _)| status == "503")
    };
    let (_, said) = until("the end of the keys", LIMIT, refused)?;
    assert!(said.contains("too old to trust"), "{said}");
    assert!(
        world
            .controller
            .get_as_admin("/api/v1/whoami")?
            .starts_with("HTTP/1.1 200")
    );
    Ok(())
}

const EXPERIMENT: &str = "apiVersion: squall/v1
kind: Experiment
metadata: { name: e, owner: team }
hypothesis: It answers.
steadyState:
  - { name: a, probe: { load: { url: \"http://127.0.0.1:1/\", rate: 50/s } }, expect: success >= 90% }
method:
  - { fault: pause, on: { process: { name: a } }, hold: 10s }
";
