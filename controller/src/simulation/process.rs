//! A process: a runtime of its own on one thread, with a clock that stands still until the simulation lets it go on. Dropping it is SIGKILL.

use crate::clock::simulated::{self, Clocks};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;
use tokio::time::Instant;

pub(super) struct Process {
    /// Before the runtime, with which its tasks have to do.
    tasks: LocalSet,
    runtime: Runtime,
    clocks: Clocks,
}

impl Process {
    pub(super) fn start(now_us: u64, wall_us: u64) -> Self {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().unwrap();
        let began = runtime.block_on(async { Instant::now() });
        let clocks = Clocks {
            began,
            began_us: now_us,
            wall_us,
        };
        Self {
            tasks: LocalSet::new(),
            runtime,
            clocks,
        }
    }

    /// Starts a task, which runs when the process next does.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.spawn_local(task);
    }

    /// Lets it go on until then.
    pub(super) fn run_until(&self, until_us: u64) {
        simulated::set(Some(self.clocks));
        let until = self.at(until_us);
        let sleep = async { tokio::time::sleep_until(until).await };
        self.tasks.block_on(&self.runtime, sleep);
        simulated::set(None);
    }

    /// It stood still (SIGSTOP) until now: time has gone on, and nothing else has.
    pub(super) fn wake(&self, now_us: u64) {
        simulated::set(Some(self.clocks));
        self.tasks.block_on(&self.runtime, async {
            let passed = self.at(now_us).saturating_duration_since(Instant::now());
            tokio::time::advance(passed).await;
        });
        simulated::set(None);
    }

    /// Does something in it at once.
    pub(super) fn within<T>(&self, act: impl FnOnce() -> T) -> T {
        simulated::set(Some(self.clocks));
        let _inside = self.runtime.enter();
        let done = act();
        simulated::set(None);
        done
    }

    /// Somebody sets its machine's clock.
    pub(super) const fn set_wall(&mut self, wall_us: u64) {
        self.clocks.wall_us = wall_us;
    }

    fn at(&self, us: u64) -> Instant {
        self.clocks.began + Duration::from_micros(us - self.clocks.began_us)
    }
}
