//! The `log` probe on journals that systemd's own writer writes.

use crate::ask::{Asking, unanswered};
use crate::user::Unprivileged;
use lab::world::Result;
use lab::world::service::needing;
use libtest_mimic::Trial;
use squall_controller::judge::{self, Outcome};
use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// It reads what `journalctl --output=export` prints, and writes a journal file.
const WRITER: &str = "/lib/systemd/systemd-journal-remote";

const MACHINE: &str = "0123456789abcdef0123456789abcdef";

pub(crate) fn trials() -> Vec<Trial> {
    let there = || Some(PathBuf::from(WRITER)).filter(|writer| writer.exists());
    let with = |name, test: fn(&Path) -> Result<()>| {
        needing(there(), "systemd-journal-remote", name, test)
    };
    let mut trials = vec![
        with("log::a_units_new_messages_in_the_journal_count", counted),
        with("log::a_rotated_journal_is_followed", rotated),
        with("log::all_kinds_of_journal_files_are_read", kinds),
        with("log::a_journal_that_cannot_be_read_is_told", unreadable),
        with("log::a_journal_that_is_none_is_told", garbage),
        with("log::silence_of_a_unit_that_nobody_knows_is_told", unknown),
    ];
    if packs_as_told() {
        trials.push(with("log::a_journal_packed_by_lz4_is_read", packed_by_lz4));
    }
    trials
}

/// A journal in a folder of its own.
struct World {
    folder: TempDir,
    written: u64,
    /// What the writer is to do otherwise than it would.
    settings: &'static [(&'static str, &'static str)],
}

impl World {
    fn new() -> Result<Self> {
        let folder = TempDir::new()?;
        fs::create_dir(folder.path().join(MACHINE))?;
        Ok(Self {
            folder,
            written: 0,
            settings: &[],
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(MACHINE).join(name)
    }

    fn probe(&self) -> String {
        let folder = self.folder.path().display();
        format!(
            "{{ log: {{ journal: orders.service, folder: {folder}, pattern: ERROR, every: 100ms }} }}"
        )
    }

    /// When this returns, they are in the file.
    fn write(&mut self, entries: &[(&str, &str)]) -> Result<()> {
        let mut text = String::new();
        for (unit, message) in entries {
            self.written += 1;
            // Long ago: what is new is not a question of the clock.
            let number = self.written;
            write!(
                text,
                "__REALTIME_TIMESTAMP=170000000{number:07}\n__MONOTONIC_TIMESTAMP={number}\n_BOOT_ID={MACHINE}\n\
                 {unit}\nPRIORITY=3\nMESSAGE={message}\n\n"
            )?;
        }
        let mut writer = Command::new(WRITER)
            .arg(format!(
                "--output={}",
                self.file("system.journal").display()
            ))
            .arg("-")
            .envs(self.settings.iter().copied())
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut input) = writer.stdin.take() {
            input.write_all(text.as_bytes())?;
        }
        let ended = writer.wait_with_output()?;
        if ended.status.success() {
            Ok(())
        } else {
            Err(format!("{WRITER}: {}", String::from_utf8_lossy(&ended.stderr)).into())
        }
    }

    /// As journald names it; it keeps its id.
    fn rotate(&self) -> Result<()> {
        let archived = format!("system@{MACHINE}-0000000000000001-00060a24181e4000.journal");
        fs::rename(self.file("system.journal"), self.file(&archived))?;
        Ok(())
    }
}

const UNIT: &str = "_SYSTEMD_UNIT=orders.service";
const ABOUT: &str = "UNIT=orders.service";
const OTHER: &str = "_SYSTEMD_UNIT=orders2.service";

/// How many lines the attempts since the last call found is `wanted`, as far as lines per second can tell.
fn found(asking: &mut Asking, before: &mut judge::Trial, wanted: u32) -> Result<()> {
    let (mut least, mut most) = (0.0, 0.0);
    let trials = asking.until_now()?;
    for trial in &trials {
        let value = trial.value.ok_or_else(|| format!("{trial:?}"))?;
        if (value > 0.0) != matches!(trial.outcome, Outcome::Failed(_)) {
            return Err(format!("{trial:?}").into());
        }
        // An interval, or longer on a busy machine, but not longer than from the beginning of the last look to the end of this.
        let longest = trial.ended_us.saturating_sub(before.due_us);
        least += value * 0.1;
        most += value * std::time::Duration::from_micros(longest).as_secs_f64();
        before.clone_from(trial);
    }
    let wanted = f64::from(wanted);
    if least <= wanted + 0.01 && most >= wanted - 0.01 {
        Ok(())
    } else {
        Err(format!("{least} to {most} and not {wanted}: {trials:?}").into())
    }
}

fn begun(world: &World) -> Result<(Asking, judge::Trial)> {
    let mut asking = Asking::start(&world.probe())?;
    let first = asking.next()?;
    if first.outcome == Outcome::Success && first.value == Some(0.0) {
        Ok((asking, first))
    } else {
        Err(format!("{first:?}").into())
    }
}

fn counted(_: &Path) -> Result<()> {
    let mut world = World::new()?;
    world.write(&[(UNIT, "ERROR from before"); 3])?;
    let (mut asking, mut last) = begun(&world)?;

    world.write(&[(OTHER, "ERROR of another"); 20])?;
    world.write(&[(UNIT, "fine"); 20])?;
    found(&mut asking, &mut last, 0)?;

    // More than one array of entries, and fields that are compressed.
    let long = "fine ".repeat(2000);
    let long = [format!("ERROR {long}"), format!("{long}ERROR"), long];
    let mut entries = vec![
        (UNIT, "ERROR 1"),
        (ABOUT, "ERROR 2"),
        (OTHER, "ERROR 3"),
        (UNIT, "fine"),
    ];
    entries.extend(long.iter().map(|long| (UNIT, long.as_str())));
    world.write(&entries.repeat(50))?;
    found(&mut asking, &mut last, 200)?;

    world.write(&[(UNIT, "ERROR later")])?;
    found(&mut asking, &mut last, 1)?;
    found(&mut asking, &mut last, 0)
}

fn rotated(_: &Path) -> Result<()> {
    let mut world = World::new()?;
    world.write(&[(UNIT, "ERROR from before"); 3])?;
    let (mut asking, mut last) = begun(&world)?;

    // The same sequence of entries in a file with an id of its own, as journald goes on with it; all of these are old.
    let copy = world.file("copy.journal");
    fs::copy(world.file("system.journal"), &copy)?;
    File::options()
        .write(true)
        .open(&copy)?
        .write_all_at(&[7; 16], 24)?;
    found(&mut asking, &mut last, 0)?;

    world.write(&[(UNIT, "ERROR"); 5])?;
    world.rotate()?;
    found(&mut asking, &mut last, 5)?;
    world.write(&[(UNIT, "ERROR"), (OTHER, "ERROR"), (UNIT, "ERROR")])?;
    found(&mut asking, &mut last, 2)?;
    world.write(&[(UNIT, "ERROR"); 4])?;
    found(&mut asking, &mut last, 4)?;
    found(&mut asking, &mut last, 0)
}

/// As older versions of systemd write them, and compressed in a way that is not read.
fn kinds(_: &Path) -> Result<()> {
    /// Bits of what a file says that it needs.
    const KEYED_HASH: u8 = 1 << 2;
    const COMPACT: u8 = 1 << 4;
    let long = format!("{}ERROR", "fine ".repeat(2000));
    let old: [(u8, &'static [_]); 2] = [
        (COMPACT, &[("SYSTEMD_JOURNAL_COMPACT", "0")]),
        (KEYED_HASH, &[("SYSTEMD_JOURNAL_KEYED_HASH", "0")]),
    ];
    for (without, settings) in old {
        let mut world = World::new()?;
        world.settings = settings;
        world.write(&[(UNIT, "ERROR from before"); 3])?;
        let mut features = [0];
        File::open(world.file("system.journal"))?.read_exact_at(&mut features, 12)?;
        if features[0] & without != 0 {
            return Err(format!("{WRITER} did not listen to {settings:?}").into());
        }
        let (mut asking, mut last) = begun(&world)?;
        let entries = [(UNIT, long.as_str()), (OTHER, "ERROR"), (UNIT, "ERROR")];
        world.write(&entries.repeat(10))?;
        found(&mut asking, &mut last, 20).map_err(|error| format!("{settings:?}: {error}"))?;
    }

    let mut world = World::new()?;
    world.write(&[(UNIT, "fine")])?;
    let (mut asking, _) = begun(&world)?;
    let mut other = World::new()?;
    other.write(&[(UNIT, long.as_str())])?;
    call_it_xz(&other.file("system.journal"))?;
    fs::rename(other.file("system.journal"), world.file("other.journal"))?;
    let told = asking.until_now()?;
    let is_xz = |trial: &judge::Trial| matches!(&trial.outcome, Outcome::Unanswered(why) if why.contains("compressed with xz"));
    if told.iter().any(is_xz) {
        Ok(())
    } else {
        Err(format!("{told:?}").into())
    }
}

/// Changes what the one compressed field of a journal says about its compression.
fn call_it_xz(path: &Path) -> Result<()> {
    let magic_of_zstd = [0x28, 0xb5, 0x2f, 0xfd];
    let bytes = fs::read(path)?;
    let mut windows = bytes.windows(4);
    let packed = windows.position(|window| window == magic_of_zstd);
    // 72 bytes come before it in a compact file, and the second says how it is packed.
    let flags = packed.ok_or("nothing is compressed")? - 71;
    assert_eq!(bytes[flags], 1 << 2);
    Ok(File::options()
        .write(true)
        .open(path)?
        .write_all_at(&[1], flags as u64)?)
}

fn unreadable(_: &Path) -> Result<()> {
    let mut world = World::new()?;
    world.write(&[(UNIT, "ERROR")])?;
    let wanted = ["system.journal: Permission denied", "group systemd-journal"];
    for folder in [world.folder.path(), &world.folder.path().join(MACHINE)] {
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    }
    let closed = world.file("system.journal");
    fs::set_permissions(&closed, Permissions::from_mode(0o000))?;
    let user = Unprivileged::become_one();
    let told = unanswered(&world.probe(), &wanted);
    drop(user);
    told?;
    fs::set_permissions(
        world.folder.path().join(MACHINE),
        Permissions::from_mode(0o000),
    )?;
    let user = Unprivileged::become_one();
    let told = unanswered(
        &world.probe(),
        &["Permission denied", "group systemd-journal"],
    );
    drop(user);
    fs::set_permissions(
        world.folder.path().join(MACHINE),
        Permissions::from_mode(0o755),
    )?;
    told
}

/// As systemd wrote them from 215 to 245. A writer of these days does it when it is told to.
fn packed_by_lz4(_: &Path) -> Result<()> {
    const LZ4: u8 = 1 << 1;
    let long = format!("{}ERROR", "fine ".repeat(2000));
    let mut world = World::new()?;
    world.settings = &[("SYSTEMD_JOURNAL_COMPRESS", "LZ4")];
    world.write(&[(UNIT, long.as_str())])?;
    let mut features = [0];
    File::open(world.file("system.journal"))?.read_exact_at(&mut features, 12)?;
    if features[0] & LZ4 == 0 {
        return Err("the writer did not pack by lz4, though its version can".into());
    }
    let (mut asking, mut last) = begun(&world)?;
    let entries = [(UNIT, long.as_str()), (OTHER, "ERROR"), (UNIT, "fine")];
    world.write(&entries.repeat(10))?;
    found(&mut asking, &mut last, 10)
}

/// Whether the writer here packs as it is told: since systemd 253. Debian 12 has 252, and its backports 254; where it
/// does not, the reader's own tests of lz4 stand alone.
fn packs_as_told() -> bool {
    let said = Command::new(WRITER).arg("--version").output();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let version = said.unwrap_or_default();
    let number = version.split_whitespace().nth(1).map(str::parse::<u32>);
    matches!(number, Some(Ok(253..)))
}

/// A misspelt name must not read as a quiet unit: by the index of the file, whatever kind of file it is.
fn unknown(_: &Path) -> Result<()> {
    let kinds: [&'static [_]; 3] = [
        &[],
        &[("SYSTEMD_JOURNAL_COMPACT", "0")],
        &[("SYSTEMD_JOURNAL_KEYED_HASH", "0")],
    ];
    for settings in kinds {
        let mut world = World::new()?;
        world.settings = settings;
        // Names that begin or end alike, and a message that has the name in it, are not the unit.
        world.write(&[
            (OTHER, "ERROR"),
            ("_SYSTEMD_UNIT=my-orders.service", "ERROR"),
            (
                "_SYSTEMD_USER_UNIT=orders.service",
                "_SYSTEMD_UNIT=orders.service",
            ),
        ])?;
        let mut asking = Asking::start(&world.probe())?;
        let first = asking.next()?;
        let told = |trial: &judge::Trial| matches!(&trial.outcome, Outcome::Unanswered(why) if why.contains("unit `orders.service`") && why.contains("misspelt"));
        if !told(&first) || first.value.is_some() {
            return Err(format!("{settings:?}: {first:?}").into());
        }
        // systemd writes about a unit before the unit itself does.
        world.write(&[(ABOUT, "ERROR: Started orders")])?;
        let trials = asking.until_now()?;
        let (last, _) = trials.split_last().ok_or("no attempts")?;
        if told(last) {
            return Err(format!("{settings:?}: {trials:?}").into());
        }
        let counted = trials.iter().filter(|t| t.value.is_some_and(|v| v > 0.0));
        if counted.count() != 1 {
            return Err(format!("{settings:?}: {trials:?}").into());
        }
    }
    Ok(())
}

fn garbage(_: &Path) -> Result<()> {
    let mut world = World::new()?;
    unanswered(&world.probe(), &["no journal in", "name the `folder`"])?;
    let gone = "{ log: { journal: a.service, folder: /no/such, pattern: ERROR, every: 100ms } }";
    unanswered(gone, &["/no/such: No such file", "name the `folder`"])?;

    let path = world.file("system.journal");
    fs::write(&path, "ERROR\n".repeat(1000))?;
    unanswered(
        &world.probe(),
        &["system.journal: it is not a journal file"],
    )?;
    fs::remove_file(&path)?;

    world.write(&[(UNIT, "ERROR")])?;
    let file = File::options().write(true).open(&path)?;
    file.write_all_at(&[0xff], 12)?;
    unanswered(&world.probe(), &["of a newer kind"])?;
    fs::remove_file(&path)?;

    world.write(&[(UNIT, "ERROR")])?;
    File::options().write(true).open(&path)?.set_len(4096)?;
    unanswered(&world.probe(), &["system.journal: damaged"])
}
