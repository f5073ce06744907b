//! The journal by itself, on entries whose group is gone: putting those back is nothing, and the entry goes.

use super::open_files::{Limits, Was, cgroup_of};
use super::*;
use crate::kernel::limits::{self, OpenFiles};
use std::os::unix::fs::PermissionsExt;

fn journal() -> (tempfile::TempDir, Journal) {
    let home = tempfile::tempdir().unwrap();
    let journal = Journal::new(home.path().join("journal"));
    (home, journal)
}

fn entry(inode: u64) -> Entry {
    Entry {
        boot: boot(),
        fault: FaultId::from("f"),
        holder: std::process::id(),
        started: identity(std::process::id()).unwrap().started,
        undo: Undo::Thaw {
            folder: "/nonexistent/group".into(),
            inode,
            v2: true,
        },
    }
}

/// A process that waits for its end, and its limit of open files.
struct Waiting(std::process::Child, OpenFiles);

impl Waiting {
    fn start(soft: u64) -> Self {
        let mut child = std::process::Command::new("sleep");
        let child = child.arg("60").spawn().unwrap();
        let now = limits::open_files(child.id()).unwrap();
        let limit = OpenFiles { soft, ..now };
        limits::set_open_files(child.id(), limit).unwrap();
        Self(child, limit)
    }

    fn soft(&self) -> u64 {
        limits::open_files(self.0.id()).unwrap().soft
    }

    fn set(&self, soft: u64) {
        let limit = OpenFiles { soft, ..self.1 };
        limits::set_open_files(self.0.id(), limit).unwrap();
    }

    fn was(&self, lowered: u64) -> Was {
        let id = identity(self.0.id()).unwrap();
        Was {
            pid: id.pid,
            started: id.started,
            soft: self.1.soft,
            hard: self.1.hard,
            lowered,
            cgroup: 0,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn open_files(processes: Vec<Was>, since: u64) -> Undo {
    Undo::OpenFiles(Limits {
        since,
        group: None,
        cgroups: vec![cgroup_of(std::process::id()).unwrap()],
        processes,
    })
}

#[test]
fn limits_come_back_to_whom_they_were_taken_from_and_to_what_that_forked() {
    let victim = Waiting::start(400);
    let since = identity(victim.0.id()).unwrap().started;
    let entry = open_files(vec![victim.was(20)], since);
    let again = serde_json::to_string(&entry).unwrap();
    assert_eq!(serde_json::from_str::<Undo>(&again).unwrap(), entry);
    // Lowered, and lowered again; one started beside it in the same cgroup looks like one that it forked.
    victim.set(15);
    let forked = Waiting::start(15);
    let own = Waiting::start(300);
    entry.put_back().unwrap();
    assert_eq!((victim.soft(), forked.soft()), (400, 400));
    assert_eq!(own.soft(), 300, "that is not a lowered one");
    // What somebody else has set meanwhile is not touched.
    victim.set(100);
    entry.put_back().unwrap();
    assert_eq!(victim.soft(), 100);
    // Neither is another process of that number, nor one that was there before.
    victim.set(15);
    forked.set(15);
    let mut other = victim.was(20);
    other.started += 1;
    open_files(vec![other], u64::MAX).put_back().unwrap();
    assert_eq!((victim.soft(), forked.soft()), (15, 15));
    // Nobody is left: nothing is to be done.
    drop(victim);
    drop(forked);
    entry.put_back().unwrap();
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn one_thing_is_changed_by_one_fault_at_a_time() {
    let (_home, journal) = journal();
    let mut kept = journal.write(entry(1)).unwrap();
    assert!(matches!(
        journal.write(entry(1)),
        Err(JournalError::Taken(_))
    ));
    drop(journal.write(entry(2)).unwrap());
    kept.give_back().unwrap();
    assert!(!kept.path().exists());
    assert!(journal.write(entry(1)).is_ok());
    assert_eq!(journal.entries().unwrap(), Vec::<PathBuf>::new());
}

#[test]
fn what_a_live_holder_changed_stays() {
    if !is_root() {
        return;
    }
    let (_home, journal) = journal();
    let kept = journal.write(entry(1)).unwrap();
    assert_eq!(journal.replay().unwrap(), Vec::<String>::new());
    assert!(kept.path().exists());
}

/// A guard that is stopped just when it has got the lock, as far as its successors can see.
#[test]
fn a_lock_that_is_not_given_up_keeps_nobody_from_putting_back() {
    if !is_root() {
        return;
    }
    let (_home, journal) = journal();
    let dead = Entry {
        started: 0,
        ..entry(1)
    };
    let kept = journal.write(dead.clone()).unwrap();
    assert_eq!(journal.replay().unwrap(), [dead.undo.in_words()]);
    assert!(!kept.path().exists());
    let kept = journal.write(dead).unwrap();
    journal
        .settle(&FaultId::from("f"), std::process::id())
        .unwrap();
    assert!(!kept.path().exists());
}

#[test]
fn a_dead_holders_change_is_put_back_before_the_next() {
    let (_home, journal) = journal();
    let kept = journal.write(entry(1)).unwrap();
    flock(&kept.file, FlockOperation::Unlock).unwrap();
    let again = journal.write(entry(1)).unwrap();
    assert!(again.path().exists());
    assert_eq!(kept.file.metadata().unwrap().nlink(), 0);
    std::mem::forget(kept);
}

#[test]
fn another_boot_needs_nothing_and_half_an_entry_is_swept() {
    if !is_root() {
        return;
    }
    let (_home, journal) = journal();
    journal.prepare().unwrap();
    let old = Entry {
        boot: "another".to_owned(),
        ..entry(7)
    };
    let path = journal.folder.join(old.undo.key());
    std::fs::write(&path, serde_json::to_vec(&old).unwrap()).unwrap();
    let half = journal.folder.join(".1234");
    std::fs::write(&half, "{").unwrap();
    journal.replay().unwrap();
    assert!(!path.exists() && !half.exists());
}

#[test]
fn what_cannot_be_understood_is_an_error_that_names_the_file() {
    if !is_root() {
        return;
    }
    let (_home, journal) = journal();
    journal.prepare().unwrap();
    let path = journal.folder.join("freezer-v2-1");
    std::fs::write(&path, "{}").unwrap();
    let error = journal.replay().unwrap_err();
    assert!(error.to_string().contains("freezer-v2-1"), "{error}");
    assert!(path.exists());
}

#[test]
fn a_folder_that_others_may_write_is_not_believed() {
    if !is_root() {
        return;
    }
    let (_home, journal) = journal();
    journal.prepare().unwrap();
    std::fs::set_permissions(&journal.folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(journal.replay(), Err(JournalError::Open(_))));
    assert!(matches!(
        journal.write(entry(1)),
        Err(JournalError::Open(_))
    ));
}
