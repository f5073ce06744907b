//! Real repositories, real signatures, and what a hostile one tries.

use super::*;
use crate::calendar::GitRights;
use crate::fleet::registry::Registry;
use crate::gameday::{Days, What};
use crate::notify::Notices;
use crate::practice::Practice;
use crate::run::StandStill;
use crate::run::desk::Desk;
use crate::store::Store;
use squall_experiments::secret::SecretRef;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const SCHEDULE: &str = "apiVersion: squall/v1\nkind: Schedule\nmetadata: { name: nightly }\nexperiment: e.yaml\ncron: 30 2 * * *\ntimeZone: Europe/Berlin\n";
const EXPERIMENT: &str = "apiVersion: squall/v1\nkind: Experiment\nmetadata: { name: e }\nhypothesis: h\nsteadyState:\n  - name: a\n    \
probe: { load: { url: \"http://a:1/\", rate: 50/s } }\n    expect: success >= 90%\nmethod:\n  - fault: kill\n    on: { process: { name: a } }\n    hold: 1min\n";

/// Somebody's repository, with keys to sign with.
struct Theirs {
    folder: TempDir,
}

impl Theirs {
    fn new() -> Self {
        let theirs = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir_all(theirs.work()).unwrap();
        theirs.git(&["init", "--quiet", "--initial-branch=main", "."]);
        for key in ["ann", "mallory"] {
            let file = theirs.folder.path().join(key);
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", key, "-f"])
                .arg(&file)
                .status()
                .unwrap();
            assert!(made.success());
        }
        let public = std::fs::read_to_string(theirs.folder.path().join("ann.pub")).unwrap();
        std::fs::write(theirs.signers(), format!("ann@example {public}")).unwrap();
        theirs
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    fn signers(&self) -> PathBuf {
        self.folder.path().join("signers")
    }

    fn git(&self, args: &[&str]) {
        let mut command = Command::new("git");
        command
            .current_dir(self.work())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1");
        command.args([
            "-c",
            "user.name=ann",
            "-c",
            "user.email=ann@example",
            "-c",
            "gpg.format=ssh",
        ]);
        let said = command.args(args).output().unwrap();
        assert!(
            said.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&said.stderr)
        );
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.work().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn commit(&self, signed_by: Option<&str>) {
        self.git(&["add", "--all"]);
        let key = signed_by
            .map(|key| format!("user.signingKey={}", self.folder.path().join(key).display()));
        match &key {
            Some(key) => self.git(&[
                "-c",
                key,
                "commit",
                "--quiet",
                "--allow-empty",
                "-S",
                "-m",
                "change",
            ]),
            None => self.git(&["commit", "--quiet", "--allow-empty", "-m", "change"]),
        }
    }

    fn source(&self, signers: bool) -> Source {
        Source {
            url: format!("file://{}", self.work().display()),
            branch: "main".into(),
            path: "chaos".into(),
            allowed_signers: signers.then(|| self.signers()),
        }
    }
}

async fn follower(theirs: &Theirs, signers: bool, ours: &Path) -> (Follower, Store) {
    let store = Store::open(ours).await.unwrap();
    let repository = Repository::open(theirs.source(signers), ours)
        .await
        .unwrap();
    (
        Follower::new(repository, store.clone(), Notices::default()),
        store,
    )
}

async fn applied(follower: &Follower) -> Plan {
    match follower.look().await.unwrap() {
        Followed::Applied(plan) => *plan,
        Followed::Nothing => panic!("the branch has moved"),
    }
}

#[tokio::test]
async fn what_is_good_comes_into_force_and_what_is_broken_stays_as_it_was() {
    let (theirs, ours) = (Theirs::new(), tempfile::tempdir().unwrap());
    theirs.write("chaos/s.yaml", SCHEDULE);
    theirs.write("chaos/e.yaml", EXPERIMENT);
    theirs.write("elsewhere.yaml", "not: ours");
    theirs.commit(None);
    let (follower, store) = follower(&theirs, false, ours.path()).await;
    let first = applied(&follower).await;
    assert_eq!(
        (first.put[0].name.as_str(), first.put[0].change, first.good),
        ("nightly", Change::New, 2)
    );
    assert_eq!(first.broken, []);
    let kept = store.schedules().await.unwrap();
    assert_eq!(kept[0].source.as_ref(), Some(&first.commit));
    assert_eq!(follower.look().await.unwrap(), Followed::Nothing);
    // A mistake is told with its line, and what was good before stays.
    theirs.write("chaos/s.yaml", &SCHEDULE.replace("30 2", "30 26"));
    theirs.commit(None);
    let broken = applied(&follower).await;
    assert!(
        broken.broken[0].said.contains("chaos/s.yaml:5:10"),
        "{}",
        broken.broken[0].said
    );
    assert!(!broken.changes());
    assert_eq!(store.schedules().await.unwrap(), kept);
    theirs.write("chaos/s.yaml", &SCHEDULE.replace("30 2", "30 3"));
    theirs.commit(None);
    assert_eq!(applied(&follower).await.put[0].change, Change::Changed);
    assert!(
        store.schedules().await.unwrap()[0]
            .files
            .schedule
            .text
            .contains("30 3")
    );
    std::fs::remove_file(theirs.work().join("chaos/s.yaml")).unwrap();
    theirs.commit(None);
    assert_eq!(applied(&follower).await.remove, ["nightly"]);
    assert_eq!(store.schedules().await.unwrap(), []);
}

#[tokio::test]
async fn what_a_branch_would_change_is_seen_and_changes_nothing() {
    let (theirs, ours) = (Theirs::new(), tempfile::tempdir().unwrap());
    theirs.write("chaos/e.yaml", EXPERIMENT);
    theirs.commit(Some("ann"));
    let (follower, store) = follower(&theirs, true, ours.path()).await;
    let new = follower.would(None).await.unwrap();
    let changes = |plan: &Plan| {
        plan.experiments
            .iter()
            .map(|e| e.change)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (changes(&new), new.in_force),
        (vec![Some(Change::New)], None)
    );
    assert_eq!(
        follower.commit_of("e.yaml", EXPERIMENT),
        None,
        "it is only seen"
    );
    let first = applied(&follower).await.commit;
    assert_eq!(
        follower.commit_of("e.yaml", EXPERIMENT),
        Some(first.clone())
    );
    assert_eq!(
        follower.commit_of("e.yaml", &format!("{EXPERIMENT} ")),
        None
    );
    assert_eq!(follower.commit_of("chaos/e.yaml", EXPERIMENT), None);
    // A comment is no change of what it does; a hold is one.
    theirs.git(&["checkout", "--quiet", "-b", "next"]);
    for (text, change) in [
        (format!("# a comment\n{EXPERIMENT}"), Change::Same),
        (EXPERIMENT.replace("1min", "2min"), Change::Changed),
    ] {
        theirs.write("chaos/e.yaml", &text);
        theirs.commit(Some("ann"));
        let plan = follower.would(Some("next")).await.unwrap();
        assert_eq!(changes(&plan), [Some(change)]);
        assert_eq!(plan.in_force.as_ref(), Some(&first));
        assert_ne!(plan.commit, first);
    }
    theirs.write("chaos/s.yaml", SCHEDULE);
    theirs.commit(Some("ann"));
    assert_eq!(follower.would(Some("next")).await.unwrap().put.len(), 1);
    assert_eq!(store.schedules().await.unwrap(), []);
    assert_eq!(follower.look().await.unwrap(), Followed::Nothing);
    for none in ["other", "next:main", "-x"] {
        assert!(follower.would(Some(none)).await.is_err(), "{none}");
    }
    theirs.commit(Some("mallory"));
    let unsigned = follower.would(Some("next")).await.unwrap_err();
    assert!(matches!(
        unsigned,
        FollowError::Git(GitError::Unsigned { .. })
    ));
}

#[tokio::test]
async fn only_what_is_signed_by_who_may_is_taken() {
    let (theirs, ours) = (Theirs::new(), tempfile::tempdir().unwrap());
    theirs.write("chaos/s.yaml", SCHEDULE);
    theirs.write("chaos/e.yaml", EXPERIMENT);
    let (follower, store) = follower(&theirs, true, ours.path()).await;
    for signed_by in [None, Some("mallory")] {
        theirs.commit(signed_by);
        let said = follower.look().await.unwrap_err();
        assert!(
            matches!(&said, FollowError::Git(GitError::Unsigned { .. })),
            "{signed_by:?}: {said}"
        );
        assert_eq!(store.schedules().await.unwrap(), []);
    }
    theirs.commit(Some("ann"));
    assert_eq!(applied(&follower).await.put.len(), 1);
}

#[tokio::test]
async fn nothing_in_a_repository_makes_git_do_anything_else() {
    let (theirs, ours) = (Theirs::new(), tempfile::tempdir().unwrap());
    let mark = ours.path().join("mark");
    let hook = format!("#!/bin/sh\ntouch {}\n", mark.display());
    // Hooks where it is fetched from, a link out of it, and a submodule that would be fetched.
    for name in ["post-checkout", "pre-auto-gc", "reference-transaction"] {
        let path = theirs.work().join(".git/hooks").join(name);
        std::fs::write(&path, &hook).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
    }
    std::fs::create_dir_all(theirs.work().join("chaos")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", theirs.work().join("chaos/passwd.yaml")).unwrap();
    theirs.write(
        ".gitmodules",
        "[submodule \"x\"]\n\tpath = x\n\turl = ext::sh -c touch% /tmp/x\n",
    );
    theirs.commit(None);
    let _by_their_own_commit = std::fs::remove_file(&mark);
    let repository = Repository::open(theirs.source(false), ours.path())
        .await
        .unwrap();
    // And hooks that somebody has put where it is fetched to.
    let bare = std::fs::read_dir(ours.path().join("git"))
        .unwrap()
        .map(|e| e.unwrap().path());
    for path in bare.filter(|path| path.join("HEAD").exists()) {
        let to = path.join("hooks/reference-transaction");
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(&to, &hook).unwrap();
        std::fs::set_permissions(&to, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let commit = repository.fetch().await.unwrap();
    let tree = repository.tree(&commit).await.unwrap();
    assert_eq!(tree.files.len(), 0, "a link is no file: {:?}", tree.files);
    assert!(!mark.exists(), "a hook was called");
}

#[test]
fn what_is_given_to_git_is_looked_at_first() {
    let good = Source {
        url: "https://git.example/chaos.git".into(),
        branch: "main".into(),
        path: String::new(),
        allowed_signers: None,
    };
    good.check().unwrap();
    for url in [
        "ext::sh -c id",
        "--upload-pack=id",
        "git@host:x",
        "http://git.example/x",
        "https://ann:secret@git.example/x",
        "ssh://-oProxyCommand=id/x",
        "https://a/ b",
    ] {
        let error = Source {
            url: url.into(),
            ..good.clone()
        }
        .check()
        .unwrap_err()
        .to_string();
        assert!(!error.contains("secret"), "{error}");
    }
    for branch in ["", "-x", "a..b", "a b", "main:other", "/x", "x/"] {
        Source {
            branch: branch.into(),
            ..good.clone()
        }
        .check()
        .unwrap_err();
    }
    for path in ["../x", "/etc", "-x", "a/../b", ":(glob)**"] {
        Source {
            path: path.into(),
            ..good.clone()
        }
        .check()
        .unwrap_err();
    }
}

/// The example of GitHub's documentation (docs.github.com, Validating webhook deliveries).
#[test]
fn a_push_is_told_by_who_has_the_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "It's a Secret to Everybody").unwrap();
    let hook = Hook::new(&SecretRef::File(file.display().to_string())).unwrap();
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    assert!(hook.is_from_who_may(signature, b"Hello, World!"));
    assert!(!hook.is_from_who_may(signature, b"Hello, World"));
    for wrong in [
        "",
        "sha256=",
        "sha256=7",
        "sha1=757107",
        &signature.replace('7', "8"),
        "sha256=zz",
    ] {
        assert!(!hook.is_from_who_may(wrong, b"Hello, World!"), "{wrong}");
    }
}

#[tokio::test]
async fn a_file_is_found_in_the_commit_that_is_in_force_and_nowhere_else() {
    let (theirs, ours) = (Theirs::new(), tempfile::tempdir().unwrap());
    theirs.write("chaos/books/orders.md", "Call Ann.");
    theirs.write("chaos/empty.md", "");
    theirs.write("secret.md", "not below the folder");
    std::os::unix::fs::symlink("../secret.md", theirs.work().join("chaos/link.md")).unwrap();
    theirs.commit(Some("ann"));
    let (follower, _store) = follower(&theirs, true, ours.path()).await;
    let bytes = async |path: &str| follower.file(path).await.unwrap().map(|(_, bytes)| bytes);
    assert_eq!(
        bytes("books/orders.md").await,
        None,
        "nothing is in force yet"
    );
    applied(&follower).await;
    assert_eq!(bytes("books/orders.md").await, Some(9));
    assert_eq!(bytes("empty.md").await, Some(0));
    for none in [
        "books",
        "link.md",
        "../secret.md",
        "/secret.md",
        "other.md",
        "",
        "books/*",
    ] {
        assert_eq!(bytes(none).await, None, "{none}");
    }
    // Somebody else's commit is not in force.
    theirs.write("chaos/other.md", "by mallory");
    theirs.commit(Some("mallory"));
    assert!(follower.look().await.is_err());
    assert_eq!(bytes("other.md").await, None);
}

fn game_day(date: &str, more: &str) -> String {
    format!(
        "apiVersion: squall/v1\nkind: GameDay\nmetadata: {{ name: helper-day, owner: o, runbook: \"https://wiki.example/x\" }}\ndate: {date}\ntimeZone: UTC\n\
         objectives: [ to learn ]\npeople: [ {{ name: ann, role: leader }} ]\nexperiments: [ e.yaml{more} ]\n"
    )
}

/// What a controller that is just started follows with.
async fn with_days(theirs: &Theirs, ours: &Path, rights: &str) -> (Follower, Store, Days) {
    let (follower, store) = follower(theirs, false, ours).await;
    let still = StandStill::open(store.clone(), ours).await.unwrap();
    let desk = Desk::new(
        store.clone(),
        Registry::default(),
        Default::default(),
        still,
    );
    let days = Days::new(store.clone(), desk, Notices::default());
    let practice = Practice::open(ours, None, Vec::new()).unwrap();
    let rights: GitRights = serde_json::from_str(rights).unwrap();
    let opens = GameDays::new(days.clone(), practice, rights);
    (follower.with_game_days(opens), store, days)
}

#[tokio::test]
async fn a_game_day_is_opened_once_and_its_runs_name_their_commit() {
    let (theirs, ours) = (Theirs::new(), tempfile::tempdir().unwrap());
    let tomorrow = jiff::Zoned::now().tomorrow().unwrap().tomorrow().unwrap();
    let date = tomorrow.date().to_string();
    theirs.write("chaos/day.yaml", &game_day(&date, ""));
    theirs.write("chaos/old.yaml", &game_day("2020-02-02", ""));
    theirs.write("chaos/e.yaml", EXPERIMENT);
    theirs.commit(None);
    let (follower, store, _) = with_days(&theirs, ours.path(), "{}").await;
    let would = follower.would(None).await.unwrap();
    assert_eq!(would.opens().count(), 1, "that of 2020 is over: {would:?}");
    assert_eq!(store.game_days(None, 9).await.unwrap(), [], "only shown");
    let plan = applied(&follower).await;
    assert!(plan.changes());
    let listed = store.game_days(None, 9).await.unwrap();
    assert_eq!((listed.len(), listed[0].opened_by.as_str()), (1, "Git"));
    // Another commit, and another controller: it is there.
    theirs.write("chaos/e2.yaml", EXPERIMENT);
    theirs.commit(None);
    let (follower, store, days) = with_days(&theirs, ours.path(), "{}").await;
    let again = applied(&follower).await;
    assert_eq!((again.changes(), again.broken), (false, Vec::new()));
    assert_eq!(store.game_days(None, 9).await.unwrap(), listed);
    let run = days.go(&listed[0].id, 1, "ann", String::new()).await;
    let events = store.events(&run.unwrap()).await.unwrap();
    let first = serde_json::to_string(&events[0]).unwrap();
    let of = format!("e.yaml at {}", plan.commit);
    assert!(first.contains(&of), "{first}");
    // What was opened stays, and that is said.
    theirs.write("chaos/day.yaml", &game_day(&date, ", e2.yaml"));
    theirs.commit(None);
    let changed = applied(&follower).await;
    let said = &changed.broken[0].said;
    assert!(said.contains("stays as it was opened"), "{said}");
    assert_eq!(store.game_days(None, 9).await.unwrap(), listed);
    let events = store.game_day_events(&listed[0].id, 0).await.unwrap();
    assert!(matches!(&events[0].what, What::Opened(o) if o.source == Some(plan.commit)));
}

#[tokio::test]
async fn a_game_day_whose_files_may_not_run_there_is_not_opened() {
    let (theirs, ours) = (Theirs::new(), tempfile::tempdir().unwrap());
    for (more, rights, words) in [
        (", gone.yaml", "{}", "there is no `chaos/gone.yaml`"),
        ("", r#"{"environments":["other"]}"#, "`git.rights`"),
        (", { file: e.yaml, environment: moon }", "{}", "moon"),
    ] {
        theirs.write("chaos/day.yaml", &game_day("2999-12-31", more));
        theirs.write("chaos/e.yaml", EXPERIMENT);
        theirs.commit(None);
        let (follower, store, _) = with_days(&theirs, ours.path(), rights).await;
        let plan = applied(&follower).await;
        assert!(plan.broken[0].said.contains(words), "{plan:?}");
        assert_eq!((plan.broken.len(), plan.good), (1, 1));
        assert_eq!(store.game_days(None, 9).await.unwrap(), []);
    }
}
