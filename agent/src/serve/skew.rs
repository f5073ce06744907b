//! A controller of another version: what is made of words of which not all is understood.

use super::Agent;
use super::line::Lost;
use crate::kernel::clock;
use squall_experiments::ids::{FaultId, RunId};
use squall_experiments::wire::skew::{Speaks, TooFar, Unread, agree};
use squall_experiments::wire::{Excluded, FromAgent, Refused, Resolved, Stop, Welcome};

/// The agent's own.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Agent {
    /// Takes a controller's first word, where what it speaks is spoken here. One that leads no more is left.
    pub(super) fn welcomed(&mut self, welcome: Welcome) -> Result<(), TooFar> {
        let theirs = Speaks::said(&welcome.version, welcome.protocol, welcome.protocol_least);
        agree(&Speaks::ours(VERSION), &theirs)?;
        if welcome.version != VERSION {
            tracing::info!(
                controller = welcome.version,
                agent = VERSION,
                "the controller is of another version: what one does not know of the other's words is passed over"
            );
        }
        match self.terms.welcomed(welcome.term, clock::since_boot()) {
            Ok(()) => self.spare_pids = welcome.spare_pids,
            Err(error) => {
                tracing::warn!(%error, "the link is closed");
                self.lost = Some(Lost::Superseded);
            }
        }
        Ok(())
    }

    /// Answers what is not understood in every word, so that nobody waits for it, and nothing is injected that was not asked for.
    pub(super) fn not_understood(&mut self, unread: &Unread) {
        tracing::warn!(error = %unread, "the controller is not understood");
        let Unread::Content { kind, content, why } = unread else {
            return;
        };
        let reason = format!(
            "the agent of {} (Squall {VERSION}) does not understand what it is asked for: {why}; upgrade it",
            self.ready.node
        );
        match kind.as_str() {
            "moved" => {
                if let Some(run) = content.get("run").and_then(|run| run.as_str()) {
                    self.moved_somewhere(&RunId::from(run), &reason);
                }
            }
            // What it was to stop is not known, and a stop is never refused.
            "stop" => self.stop(&Stop::All),
            "arm" => {
                let Some(id) = content.get("id").and_then(|id| id.as_str()) else {
                    return;
                };
                let id = FaultId::from(id);
                if !self.faults.contains_key(&id) {
                    self.say(FromAgent::Refused(Refused {
                        id,
                        reason,
                        denied: true,
                        gone: false,
                    }));
                }
            }
            "resolve" => {
                let Some(request) = content.get("request").and_then(serde_json::Value::as_u64)
                else {
                    return;
                };
                let label = self.ready.node.clone();
                self.say(FromAgent::Resolved(Resolved {
                    request,
                    candidates: Vec::new(),
                    excluded: vec![Excluded { label, reason }],
                }));
            }
            _ => {}
        }
    }
}
