//! Which processors who has while something is measured: without a place of its own, what is seen is who waits for one.

use lab::world::Result;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The processors of this process, as they were when this was made; with its end this thread has them all again.
pub(super) struct Cores {
    all: CpuSet,
    first: CpuSet,
    others: CpuSet,
}

impl Cores {
    /// The first for one, and the others for everybody else. Where there is but one, it is everybody's.
    pub(super) fn apart() -> Result<Self> {
        let all = sched_getaffinity(Pid::from_raw(0))?;
        let ours = (0..CpuSet::count()).filter(|cpu| all.is_set(*cpu).unwrap_or_default());
        let ours: Vec<usize> = ours.collect();
        let (mut first, mut others) = (all, all);
        if ours.len() > 1 {
            for cpu in &ours[1..] {
                first.unset(*cpu)?;
            }
            others.unset(ours[0])?;
        }
        Ok(Self { all, first, others })
    }

    /// Whether there are others.
    pub(super) fn several(&self) -> bool {
        self.first != self.others
    }

    /// From now on this thread, and what it starts, runs on the first.
    pub(super) fn to_first(&self) -> Result<()> {
        run_on(&self.first)
    }

    /// From now on this thread, and what it starts, runs on the others.
    pub(super) fn to_others(&self) -> Result<()> {
        run_on(&self.others)
    }
}

impl Drop for Cores {
    fn drop(&mut self) {
        // What is measured next says where it runs.
        let _ = run_on(&self.all);
    }
}

fn run_on(cores: &CpuSet) -> Result<()> {
    Ok(sched_setaffinity(Pid::from_raw(0), cores)?)
}
