//! An agent: what the real one's task does with each word (`agent/src/serve.rs`, `agent/src/serve/line.rs`), over machines and clocks that are
//! simulated. It remembers what has ended, answers repetitions, holds its faults while it has no link, and dials again.

use super::node::{Machine, TARGETS};
use super::wire::End;
use crate::clock::since_boot;
use crate::fleet::framing;
use futures_util::{SinkExt, StreamExt};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use squall_experiments::capability::{Capabilities, Capability, Means};
use squall_experiments::fault::{FaultKind, Holding};
use squall_experiments::ids::{FaultId, RunId, TargetId};
use squall_experiments::target::Candidate;
use squall_experiments::wire::{
    Arm, EndCause, Ended, FromAgent, FromController, Hello, PROTOCOL, Refused, Resolve, Resolved,
    Stop, Terms,
};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// As in `agent/src/link/mod.rs`.
const ASK_EVERY: Duration = Duration::from_secs(10);
const SILENT_MAX: Duration = Duration::from_secs(25);

type Socket = WebSocketStream<End>;

/// Dials the n-th controller.
pub(super) type Dial = Box<dyn Fn(usize) -> Option<End> + Send>;

pub(super) struct Agent {
    machine: Machine,
    name: String,
    dice: StdRng,
    faults: BTreeMap<FaultId, Entry>,
    finished: BTreeMap<FaultId, FromAgent>,
    /// Of a hundred words, so many are heard again a moment later, or only then.
    unsettled_percent: u32,
    later: mpsc::UnboundedSender<Later>,
    terms: Terms,
    /// Of the controller that is heard.
    term: Option<u64>,
}

struct Entry {
    run: RunId,
    target: TargetId,
    armed: Option<FromAgent>,
}

/// What comes after a while.
enum Later {
    Say(FromAgent),
    Hear(FromController),
}

/// Serves for ever.
pub(super) async fn serve(
    machine: Machine,
    number: usize,
    controllers: usize,
    seed: u64,
    unsettled_percent: u32,
    dial: Dial,
) {
    let mut holders = machine.lock().agent_begins();
    let (later, mut due) = mpsc::unbounded_channel();
    let mut agent = Agent {
        machine,
        name: name(number),
        dice: StdRng::seed_from_u64(seed),
        faults: BTreeMap::new(),
        finished: BTreeMap::new(),
        unsettled_percent,
        later,
        terms: Terms::default(),
        term: None,
    };
    let (mut turn, mut failures) = (number, 0_u32);
    loop {
        if let Some(end) = dial(turn % controllers) {
            let socket = WebSocketStream::from_raw_socket(end, Role::Client, Some(framing()));
            let mut socket = socket.await;
            if agent.attend(&mut socket, &mut holders, &mut due).await {
                failures = 0;
            }
        }
        failures += 1;
        turn += 1;
        // What holders say meanwhile is remembered, and told by who asks for it again.
        let whole = 500_u64 << (failures / 2).min(4);
        let pause = Duration::from_millis(agent.dice.random_range(whole / 2..=whole));
        let over = Instant::now() + pause;
        while let Ok(Some(word)) = tokio::time::timeout_at(over, holders.recv()).await {
            agent.report(&word);
        }
    }
}

pub(super) fn name(number: usize) -> String {
    format!("node-{number}")
}

impl Agent {
    /// One link, from its hello to its loss; whether anything was heard on it.
    async fn attend(
        &mut self,
        socket: &mut Socket,
        holders: &mut mpsc::UnboundedReceiver<FromAgent>,
        due: &mut mpsc::UnboundedReceiver<Later>,
    ) -> bool {
        let (mut ask, mut last) = (interval(ASK_EVERY), Instant::now());
        let mut heard = false;
        // What was on the way on another link is lost with that.
        while due.try_recv().is_ok() {}
        if say(socket, &FromAgent::Hello(self.hello())).await.is_err() {
            return false;
        }
        loop {
            let words = tokio::select! {
                biased;
                frame = tokio::time::timeout_at(last + SILENT_MAX, socket.next()) => {
                    last = Instant::now();
                    match frame {
                        Ok(Some(Ok(Message::Text(text)))) => {
                            heard = true;
                            self.terms.heard(since_boot());
                            let message = serde_json::from_str(&text).unwrap();
                            if let FromController::Welcome(welcome) = &message {
                                if self.terms.welcomed(welcome.term, since_boot()).is_err() {
                                    return heard;
                                }
                                self.term = welcome.term;
                            }
                            self.hear_or_later(message)
                        }
                        Ok(Some(Ok(Message::Pong(_) | Message::Ping(_)))) => Vec::new(),
                        _ => return heard,
                    }
                }
                Some(word) = holders.recv() => {
                    self.report(&word);
                    self.say_or_later(word)
                }
                Some(later) = due.recv() => match later {
                    Later::Say(word) => vec![word],
                    Later::Hear(message) => self.hear(message),
                },
                _ = ask.tick() => {
                    if socket.send(Message::Ping(Vec::new().into())).await.is_err() {
                        return heard;
                    }
                    Vec::new()
                }
            };
            for word in words {
                if say(socket, &word).await.is_err() {
                    return heard;
                }
            }
        }
    }

    fn hello(&self) -> Hello {
        let capability = Capability {
            fault: FaultKind::Delay,
            means: vec![Means::Queue],
            held: Holding::Kernel,
            notes: Vec::new(),
        };
        Hello {
            protocol: PROTOCOL,
            protocol_least: None,
            version: "0".into(),
            node: self.name.clone(),
            pid: 1,
            capabilities: Capabilities {
                faults: vec![capability],
                ..Capabilities::default()
            },
            labels: Default::default(),
        }
    }

    fn is_unsettled(&mut self) -> bool {
        self.dice.random_range(0..100) < self.unsettled_percent
    }

    fn after_a_while(&mut self, what: Later) {
        let while_ = Duration::from_millis(self.dice.random_range(1..300));
        let later = self.later.clone();
        tokio::spawn(async move {
            sleep(while_).await;
            let _over = later.send(what);
        });
    }

    /// A word comes at once, twice, or after others that were said later. But a stop is never late: it overtakes.
    fn hear_or_later(&mut self, message: FromController) -> Vec<FromAgent> {
        if self.is_unsettled() {
            self.after_a_while(Later::Hear(message.clone()));
            let stops = matches!(
                message,
                FromController::Stop(_) | FromController::Welcome(_)
            );
            if !stops && self.is_unsettled() {
                return Vec::new();
            }
        }
        self.hear(message)
    }

    fn say_or_later(&mut self, word: FromAgent) -> Vec<FromAgent> {
        if self.is_unsettled() {
            self.after_a_while(Later::Say(word.clone()));
            if self.is_unsettled() {
                return Vec::new();
            }
        }
        vec![word]
    }

    fn hear(&mut self, message: FromController) -> Vec<FromAgent> {
        match message {
            FromController::Welcome(_) | FromController::Moved(_) => Vec::new(),
            FromController::Stop(stop) => self.stop(&stop),
            FromController::Renew(renew) => {
                let lease_us = u64::try_from(renew.lease.duration().as_micros()).unwrap();
                let mut node = self.machine.lock();
                let known = renew
                    .faults
                    .iter()
                    .filter(|id| self.faults.contains_key(id));
                known.for_each(|id| node.renew(id, lease_us));
                Vec::new()
            }
            FromController::Resolve(resolve) => {
                let answer = FromAgent::Resolved(self.found(&resolve));
                self.after_a_while(Later::Say(answer));
                Vec::new()
            }
            FromController::Arm(arm) => self.arm(arm),
        }
    }

    fn found(&self, resolve: &Resolve) -> Resolved {
        let candidate = |target: &str| Candidate {
            id: TargetId::from(target),
            node: self.name.clone(),
            label: target.to_owned(),
            pid: Some(1),
            cgroup: None,
            group: None,
            namespace: None,
            zone: None,
        };
        Resolved {
            request: resolve.request,
            candidates: TARGETS.iter().map(|target| candidate(target)).collect(),
            excluded: Vec::new(),
        }
    }

    fn arm(&mut self, arm: Arm) -> Vec<FromAgent> {
        if let Some(end) = self.finished.get(&arm.id) {
            return vec![end.clone()];
        }
        if let Some(entry) = self.faults.get(&arm.id) {
            return entry.armed.iter().cloned().collect();
        }
        let mut live = self.faults.values();
        if let Some(other) = live.find(|e| e.target == arm.target && e.run != arm.run) {
            return vec![FromAgent::Refused(Refused {
                id: arm.id,
                reason: format!("run {} has a fault on this target", other.run),
                denied: true,
                gone: false,
            })];
        }
        let entry = Entry {
            run: arm.run.clone(),
            target: arm.target.clone(),
            armed: None,
        };
        self.faults.insert(arm.id.clone(), entry);
        self.machine.lock().hold(arm, self.term);
        Vec::new()
    }

    fn stop(&mut self, stop: &Stop) -> Vec<FromAgent> {
        let mut node = self.machine.lock();
        for (id, entry) in &self.faults {
            let meant = match stop {
                Stop::Faults(ids) => ids.contains(id),
                Stop::Run(run) => entry.run == *run,
                Stop::All => true,
                Stop::Others(runs) => !runs.contains(&entry.run),
            };
            if meant {
                node.stop(id);
            }
        }
        let Stop::Faults(ids) = stop else {
            return Vec::new();
        };
        let over = ids.iter().filter(|id| !self.faults.contains_key(id));
        let end = |id: &FaultId| {
            let end = self.finished.get(id).cloned();
            end.unwrap_or_else(|| {
                FromAgent::Ended(Ended {
                    id: id.clone(),
                    cause: EndCause::HolderKilled("nothing is known of it".into()),
                    dose: None,
                    at_us: 0,
                    took_us: Some(0),
                    lasted_us: None,
                })
            })
        };
        over.map(end).collect()
    }

    /// Takes down what a holder says.
    fn report(&mut self, word: &FromAgent) {
        match word {
            FromAgent::Armed(armed) => {
                if let Some(entry) = self.faults.get_mut(&armed.id) {
                    entry.armed = Some(word.clone());
                }
            }
            FromAgent::Ended(Ended { id, .. }) | FromAgent::Refused(Refused { id, .. }) => {
                self.faults.remove(id);
                self.finished.insert(id.clone(), word.clone());
            }
            _ => {}
        }
    }
}

async fn say(socket: &mut Socket, word: &FromAgent) -> Result<(), ()> {
    let text = serde_json::to_string(word).unwrap();
    socket.send(Message::text(text)).await.map_err(drop)
}
