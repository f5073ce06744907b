//! A file system that is kept busy: reads, writes and syncs at a rate each, on one unnamed file of bounded size.
//!
//! Each kind of operation has a thread of its own, which does the next when that is due: what one of them waits for does
//! not slow down the others, as with three busy neighbours. A backlog that the disk could not work off is forgotten
//! past [`BACKLOG_MAX`], or a moment's stall would be followed by a storm.

use super::held::{Held, HoldError};
use super::holder::Grip;
use super::place::{self, Place};
use super::strain::{self, Resource, Strain};
use crate::kernel::disk;
use squall_experiments::dose::{Dose, Evidence, IoDose};
use squall_experiments::fault::{Io, IoRate};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The most work that is caught up on.
const BACKLOG_MAX: Duration = Duration::from_secs(1);
/// How long the file may take to be written before it is read: an arming has five seconds in all.
const FIRST_WRITE: Duration = Duration::from_secs(2);
/// How long the first operation of each kind may take.
const FIRST_DONE: Duration = Duration::from_secs(2);
/// A worker that gives way goes on at this rate at least: a longer sleep would not hear that it may do more.
const LEAST_PER_SECOND: f64 = 1.0;
/// A worker calls nothing deep; its buffer is on the heap.
const STACK_BYTES: usize = 64 << 10;

/// What one worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    Sync,
}

/// What one worker has done, for whoever looks.
#[derive(Debug, Default)]
struct Done {
    operations: AtomicU64,
    /// How many are to be done in a second now, an `f64`'s bits.
    per_second: AtomicU64,
    /// The error that ended it; 0 while there is none.
    error: AtomicI32,
}

/// One worker as the holder knows it.
struct Worker {
    kind: Kind,
    block: u64,
    per_second: f64,
    done: Arc<Done>,
}

struct Busy {
    workers: Vec<Worker>,
    place: Place,
    /// The last second: when it began, how many operations were done by then, and how many per second it came to.
    mark: (Instant, u64),
    per_second: f64,
    strain: Strain,
}

/// The file, and how it is to be treated.
#[derive(Clone)]
struct Ground {
    file: Arc<File>,
    /// Bytes of it that were written.
    length: u64,
    /// Past the page cache.
    direct: bool,
}

/// Writes the file, starts the workers and waits until each has done something.
pub(crate) fn arm(
    fault: &Io,
    grip: &Grip,
    limits: &strain::Limits,
) -> Result<(Box<dyn Held>, Evidence), HoldError> {
    let asked = asked(fault)?;
    let place = place::find(&fault.path, grip)?;
    let ground = prepare(fault, &place)?;
    let mut busy = Busy {
        workers: Vec::new(),
        place,
        mark: (Instant::now(), 0),
        per_second: 0.0,
        strain: Strain::new(&[Resource::Io], limits),
    };
    for (kind, block, per_second) in asked {
        busy.workers
            .push(Worker::start(kind, block, per_second, &ground)?);
    }
    busy.first_done()?;
    let (read, written) = disk::storage_bytes().unwrap_or_default();
    let evidence = Evidence {
        means: if ground.direct {
            "direct I/O on an unnamed file, from the target's cgroup".to_owned()
        } else {
            "buffered I/O on an unnamed file, from the target's cgroup".to_owned()
        },
        read_back: vec![
            format!(
                "a file of {} bytes at {}; each kind of operation was done at least once",
                ground.length, busy.place.in_words
            ),
            format!("the kernel accounts {read} bytes read from storage and {written} written"),
        ],
        warnings: [warnings(&ground, fault), busy.strain.warnings()].concat(),
    };
    Ok((Box::new(busy), evidence))
}

fn warnings(ground: &Ground, fault: &Io) -> Vec<String> {
    let mut warnings = Vec::new();
    if !ground.direct {
        warnings.push(
            "this file system takes no direct I/O: writes are followed by fdatasync, reads by a request to forget; on \
             tmpfs no disk is touched at all"
                .to_owned(),
        );
    }
    if ground.length < fault.file.get() {
        warnings.push(format!(
            "the disk is slow: only {} bytes of the file's {} were written in {} s, and the work is on these",
            ground.length,
            fault.file,
            FIRST_WRITE.as_secs()
        ));
    }
    warnings
}

/// Each kind that is asked for, with its block and its operations per second.
#[expect(clippy::cast_precision_loss, reason = "rates are far below 2^52")]
fn asked(fault: &Io) -> Result<Vec<(Kind, u64, f64)>, HoldError> {
    let mut asked = Vec::new();
    for (kind, rate) in [(Kind::Read, fault.read), (Kind::Write, fault.write)] {
        let Some(rate) = rate else { continue };
        let block = fault.block_of(rate);
        let per_second = match rate {
            IoRate::Bytes(rate) => rate.get() as f64 / block as f64,
            IoRate::Operations(rate) => rate.per_second(),
        };
        asked.push((kind, block, per_second));
    }
    if let Some(rate) = fault.sync {
        asked.push((Kind::Sync, Io::BLOCK_LEAST, rate.per_second()));
    }
    let fits = |size: u64, least, most| {
        (least..=most).contains(&size) && size.is_multiple_of(Io::BLOCK_LEAST)
    };
    let largest = fault.file.get().min(Io::BLOCK_MOST);
    let blocks = asked
        .iter()
        .all(|(_, block, _)| fits(*block, Io::BLOCK_LEAST, largest));
    let file = fits(fault.file.get(), Io::FILE_LEAST, Io::FILE_MOST);
    if asked.is_empty() || !blocks || !file {
        return Err(HoldError::Unable(format!(
            "`{fault}` asks for nothing, or for blocks or a file of a size that cannot be: see `squall check`"
        )));
    }
    Ok(asked)
}

/// Makes the file and writes it, as much of it as there is time for: what was never written is not read from a disk.
fn prepare(fault: &Io, place: &Place) -> Result<Ground, HoldError> {
    /// Left free whatever the file's size: an I/O load is not to be a fill.
    const RESERVE_BYTES: u64 = 64 << 20;
    let free = place.room()?.free;
    if free < fault.file.get().saturating_add(RESERVE_BYTES) {
        return Err(HoldError::Unable(format!(
            "{free} bytes are free at {}, and a file of {} with a reserve of {RESERVE_BYTES} bytes does not fit: ask for a \
             smaller `file`",
            place.in_words, fault.file
        )));
    }
    let writing = |file: &File, direct: bool| {
        let begun = Instant::now();
        let mut block = Block::new(Io::FILE_LEAST);
        let mut length = 0;
        // Room for one block at least, however slow the disk is.
        let least = Io::BLOCK_MOST;
        while length < fault.file.get() && (length < least || begun.elapsed() < FIRST_WRITE) {
            let bytes = block.of((fault.file.get() - length).min(Io::FILE_LEAST));
            disk::noise(bytes, length);
            file.write_all_at(bytes, length)?;
            length += bytes.len() as u64;
        }
        if !direct {
            file.sync_data()?;
        }
        Ok::<u64, std::io::Error>(length)
    };
    // A file system may refuse direct I/O when the file is opened, or when it is written.
    let direct = place.unnamed(true).ok();
    let direct = direct.and_then(|file| Some((writing(&file, true).ok()?, file)));
    let (length, file, direct) = if let Some((length, file)) = direct {
        (length, file, true)
    } else {
        let file = place.unnamed(false)?;
        let length = writing(&file, false).map_err(HoldError::kernel(
            "write",
            format!("a file at {}", place.in_words),
        ))?;
        (length, file, false)
    };
    Ok(Ground {
        file: Arc::new(file),
        length,
        direct,
    })
}

/// Memory that direct I/O takes: aligned to the largest sector there is.
struct Block {
    bytes: Vec<u8>,
    from: usize,
}

impl Block {
    fn new(size: u64) -> Self {
        const ALIGNED: usize = 4096;
        let size = usize::try_from(size).unwrap_or(0);
        let bytes = vec![0; size + ALIGNED];
        let from = bytes.as_ptr().align_offset(ALIGNED);
        Self { bytes, from }
    }

    fn of(&mut self, size: u64) -> &mut [u8] {
        let size = usize::try_from(size).unwrap_or(0);
        &mut self.bytes[self.from..self.from + size]
    }
}

impl Worker {
    fn start(kind: Kind, block: u64, per_second: f64, ground: &Ground) -> Result<Self, HoldError> {
        let done = Arc::new(Done {
            per_second: AtomicU64::new(per_second.to_bits()),
            ..Done::default()
        });
        let (told, ground) = (Arc::clone(&done), ground.clone());
        std::thread::Builder::new()
            .name("squall-io".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || work(kind, block, &ground, &told))
            .map_err(HoldError::kernel("start", format!("a thread to {kind:?}")))?;
        Ok(Self {
            kind,
            block,
            per_second,
            done,
        })
    }

    fn operations(&self) -> u64 {
        self.done.operations.load(Ordering::Relaxed)
    }
}

/// One worker's whole life: it ends with the process, or with an error.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52 operations")]
fn work(kind: Kind, size: u64, ground: &Ground, done: &Done) {
    let mut block = Block::new(size);
    let mut begun = Instant::now();
    let mut turn = 0u64;
    let places = (ground.length / size).max(1);
    let mut bits = done.per_second.load(Ordering::Relaxed);
    loop {
        let asked = done.per_second.load(Ordering::Relaxed);
        if asked != bits {
            // Another rate counts from now on.
            (bits, begun, turn) = (asked, Instant::now(), 0);
        }
        let per_second = f64::from_bits(bits);
        let due = begun + Duration::from_secs_f64(turn as f64 / per_second);
        let now = Instant::now();
        if due > now {
            std::thread::sleep(due - now);
        } else if now - due > BACKLOG_MAX {
            // Start counting anew, with the backlog forgotten.
            (begun, turn) = (now, 0);
        }
        turn += 1;
        let at = rand::random_range(0..places) * size;
        if let Err(error) = operate(kind, block.of(size), at, ground) {
            let number = error.raw_os_error().unwrap_or(libc::EIO);
            return done.error.store(number, Ordering::Relaxed);
        }
        done.operations.fetch_add(1, Ordering::Relaxed);
    }
}

fn operate(kind: Kind, block: &mut [u8], at: u64, ground: &Ground) -> std::io::Result<()> {
    let file = &ground.file;
    match kind {
        Kind::Read => {
            if !ground.direct {
                disk::forget(file)?;
            }
            file.read_exact_at(block, at)
        }
        Kind::Write | Kind::Sync => {
            // Different each time: some disks do not write what is there already.
            disk::noise(&mut block[..8], rand::random());
            file.write_all_at(block, at)?;
            if kind == Kind::Sync || !ground.direct {
                file.sync_data()?;
            }
            Ok(())
        }
    }
}

impl Busy {
    /// Waits until each worker has done its first operation.
    fn first_done(&self) -> Result<(), HoldError> {
        let begun = Instant::now();
        loop {
            self.check()?;
            let Some(idle) = self.workers.iter().find(|w| w.operations() == 0) else {
                return Ok(());
            };
            if begun.elapsed() > FIRST_DONE {
                return Err(HoldError::Unable(format!(
                    "the first {:?} at {} was not done within {} s: the disk, or the target's cgroup, is stalled already",
                    idle.kind,
                    self.place.in_words,
                    FIRST_DONE.as_secs()
                )));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Whether a worker has ended with an error.
    fn check(&self) -> Result<(), HoldError> {
        for worker in &self.workers {
            let number = worker.done.error.load(Ordering::Relaxed);
            if number != 0 {
                let what = format!("{:?} at {}", worker.kind, self.place.in_words);
                let error = std::io::Error::from_raw_os_error(number);
                return Err(HoldError::kernel("go on with", what)(error));
            }
        }
        Ok(())
    }

    /// Operations per second that were asked for.
    fn asked(&self) -> f64 {
        self.workers.iter().map(|worker| worker.per_second).sum()
    }

    /// The operations per second of the last half second or more.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 operations")]
    fn measure(&mut self) {
        /// Below this the quotient says more about the clock than about the load.
        const WINDOW_LEAST: Duration = Duration::from_millis(500);
        let all: u64 = self.workers.iter().map(Worker::operations).sum();
        let window = self.mark.0.elapsed();
        if window >= WINDOW_LEAST {
            self.per_second = (all - self.mark.1) as f64 / window.as_secs_f64();
            self.mark = (Instant::now(), all);
        }
    }

    fn of(&self, kind: Kind) -> (u64, u64) {
        let worker = self.workers.iter().find(|worker| worker.kind == kind);
        worker.map_or((0, 0), |w| (w.operations(), w.operations() * w.block))
    }
}

impl Held for Busy {
    fn next_turn(&self) -> Option<Instant> {
        Some(self.strain.next_look())
    }

    fn turn(&mut self) -> Result<(), HoldError> {
        self.check()?;
        self.measure();
        let share = self.strain.share(self.per_second / self.asked());
        for worker in &self.workers {
            let rate = (worker.per_second * share).max(LEAST_PER_SECOND.min(worker.per_second));
            let told = &worker.done.per_second;
            told.store(rate.to_bits(), Ordering::Relaxed);
        }
        Ok(())
    }

    fn dose(&mut self) -> Result<Dose, HoldError> {
        self.measure();
        let (reads, read_bytes) = self.of(Kind::Read);
        let (writes, written_bytes) = self.of(Kind::Write);
        let (syncs, synced_bytes) = self.of(Kind::Sync);
        Ok(Dose::Io(IoDose {
            reads,
            read_bytes,
            writes,
            written_bytes: written_bytes + synced_bytes,
            syncs,
            per_second: self.per_second,
            asked_per_second: self.asked(),
            back_off: self.strain.said(),
        }))
    }

    fn release(mut self: Box<Self>) -> Result<Dose, HoldError> {
        // The workers end with the process, which is next.
        self.dose()
    }
}
