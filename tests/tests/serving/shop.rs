//! A shop that experiments are tried on: it takes orders, whatever becomes of payment or only while that runs. It is also whom notices
//! are sent to, and where the runbook is.

use crate::controller::Controller;
use lab::world::stub::{Asked, Said, Stub};
use lab::world::{Ended, Result};
use nix::unistd::geteuid;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use tempfile::TempDir;

/// Stage 3 is earned by one run in each stage before.
pub(crate) const POLICY: &str = "apiVersion: squall/v1
kind: Policy
environments:
  - { name: staging, stage: 1 }
  - name: production
    stage: 3
    from: [ staging ]
    needs: { held: 1, within: 1d }
    automated: { held: 1, within: 1d }
";

/// The one replica of payment is not spared.
pub(crate) const ENVIRONMENTS: &str =
    "environments:\n  staging: &all { budget: { lastReplica: hit } }\n  production: *all\n";

/// Every minute, and gone on with whatever the runs show.
pub(crate) const SCHEDULE: &str = "apiVersion: squall/v1
kind: Schedule
metadata: { name: nightly, owner: team-orders }
experiment: e.yaml
cron: \"* * * * *\"
timeZone: Europe/Berlin
environment: production
";

/// How the shop behaves.
#[derive(Debug, Default)]
struct Manner {
    needs_payment: AtomicBool,
    payment: AtomicU32,
    turns_away: AtomicU32,
}

impl Manner {
    fn answer(&self, asked: &Asked) -> Option<Said> {
        let path = asked.line.split(' ').nth(1).unwrap_or_default();
        match path {
            "/orders" if self.needs_payment.load(Ordering::Relaxed) && self.is_payment_still() => {
                Said::new(500, "payment does not answer")
            }
            "/orders" | "/runbook" => Said::new(200, "well"),
            "/hook" => {
                let less = |left: u32| left.checked_sub(1);
                let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
                match self.turns_away.fetch_update(set, get, less) {
                    Ok(_) => Said::new(503, "later"),
                    Err(_) => Said::new(204, ""),
                }
            }
            _ => Said::new(404, ""),
        }
    }

    /// What the kernel says of it: stopped, or held by a tracer.
    fn is_payment_still(&self) -> bool {
        let pid = self.payment.load(Ordering::Relaxed);
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with(['t', 'T']))
    }
}

pub(crate) struct Shop {
    pub(crate) folder: TempDir,
    stub: Stub,
    manner: Arc<Manner>,
    name: String,
    _payment: Ended,
}

/// Holding another process still needs root.
pub(crate) fn root() -> Option<PathBuf> {
    geteuid().is_root().then(|| "/proc/self".into())
}

impl Shop {
    pub(crate) fn open() -> Result<Self> {
        static SHOPS: AtomicU32 = AtomicU32::new(0);
        let number = SHOPS.fetch_add(1, Ordering::Relaxed);
        // The kernel keeps 15 letters of a name.
        let name = format!("pay{number}-{}", std::process::id());
        let folder = TempDir::new()?;
        let program = folder.path().join(&name);
        // A copy could not be run while another thread starts a program: it still has the copy open, as written to (ETXTBSY).
        symlink("/usr/bin/sleep", &program)?;
        let payment = Command::new(&program)
            .arg("infinity")
            .stdin(Stdio::null())
            .spawn()?;
        let manner = Arc::<Manner>::default();
        manner.payment.store(payment.id(), Ordering::Relaxed);
        let answers = Arc::clone(&manner);
        let shop = Self {
            stub: Stub::start(move |asked| answers.answer(asked))?,
            folder,
            manner,
            name,
            _payment: Ended(payment),
        };
        fs::write(shop.file("e.yaml"), shop.experiment())?;
        fs::write(shop.file("policy.yaml"), POLICY)?;
        Ok(shop)
    }

    /// A file of its folder.
    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub(crate) fn url(&self) -> String {
        self.stub.url()
    }

    pub(crate) fn experiment(&self) -> String {
        let (url, name) = (self.url(), &self.name);
        format!(
            "apiVersion: squall/v1
kind: Experiment
metadata: {{ name: orders-without-payment, owner: team-orders, runbook: \"{url}/runbook\" }}
hypothesis: Orders are taken while payment stands still.
steadyState:
  - name: orders
    probe: {{ load: {{ url: \"{url}/orders\", rate: 50/s }} }}
    expect: success >= 90%
method:
  - fault: pause
    on: {{ process: {{ name: {name} }} }}
    hold: 3s
baseline: 3s
recovery: 20s
"
        )
    }

    /// What payment's process is called.
    pub(crate) fn payment(&self) -> &str {
        &self.name
    }

    /// From now on an order needs payment.
    pub(crate) fn need_payment(&self) {
        self.manner.needs_payment.store(true, Ordering::Relaxed);
    }

    /// So many notices are not taken at first.
    pub(crate) fn turn_away(&self, count: u32) {
        self.manner.turns_away.store(count, Ordering::Relaxed);
    }

    /// Notices about an event, the oldest first, each as often as it was sent.
    pub(crate) fn notices(&self, event: &str) -> Vec<Asked> {
        let mut asked = self.stub.asked();
        asked.retain(|one| {
            let body: Value = serde_json::from_str(&one.body).unwrap_or_default();
            one.line.starts_with("POST /hook") && body["notice"]["event"] == event
        });
        asked
    }

    /// Earns stage 3 for the file, as people do: run, answered for, agreed to by somebody else, run in production by hand.
    pub(crate) fn earn(&self, controller: &Controller) -> Result<()> {
        let file = self.file("e.yaml");
        let run = |environment: &str| {
            let url = controller.url();
            let at = ["--controller", &url, "--environment", environment];
            controller.squalls(&[&["run", &file, "--json"], &at[..]].concat())
        };
        run("staging")?;
        let questions = [1, 2, 3, 7, 10, 11, 12].map(|number| format!("{number}=yes"));
        let answers = questions.iter().flat_map(|one| ["--answer", one]);
        let said = ["checklist", &file, "--because", "as it was tried"];
        controller.squalls(&said.into_iter().chain(answers).collect::<Vec<_>>())?;
        let promoted = controller.squall(&["promote", &file, "--because", "a release"])?;
        // Asked for, and not there yet.
        assert_eq!(promoted.status.code(), Some(4));
        let bob = self.token(controller, "bob", "approver")?;
        let asked = controller.squalls(&["approve", "list", "--json"])?;
        let asked: Value = serde_json::from_str(&asked)?;
        let id = asked["items"][0]["id"]
            .as_str()
            .ok_or("nothing was asked")?;
        let as_bob = ["approve", "--token-file", &bob];
        controller.squalls(&[&as_bob[..], &["yes", id, "--because", "seen"]].concat())?;
        run("production").map(drop)
    }

    /// A token for somebody; the file that holds it.
    pub(crate) fn token(&self, controller: &Controller, name: &str, role: &str) -> Result<String> {
        let file = self.file(name);
        let made = controller.squalls(&["access", "create", name, "--role", role])?;
        fs::write(Path::new(&file), made)?;
        Ok(file)
    }
}
