//! A step that follows its target looks for it again, on all its nodes, and does what the answers ask for. Pure.

use super::machine::{Effect, Machine, Part};
use squall_experiments::plan::Stage;
use squall_experiments::run_life::RunState;
use squall_experiments::wire::{FromController, Stop};

impl Machine {
    /// The stage that is held now, of a step that follows its target.
    fn followed(&self) -> Option<&Stage> {
        let RunState::Injecting(stage) = self.state else {
            return None;
        };
        let stage = self.plan.stages.get(stage as usize)?;
        let holds = matches!(self.part, Part::Holding(_)) && self.stopping.is_none();
        (holds && self.following.is_on(stage.step)).then_some(stage)
    }

    /// Looks for the target again where that is due.
    pub(super) fn look(&mut self, now_us: u64, out: &mut Vec<Effect>) {
        let Some(step) = self.followed().map(|stage| stage.step) else {
            return;
        };
        if self.following.is_late(now_us) {
            self.found(now_us, out);
        }
        let nodes = self.asked.get(step).into_iter().flatten();
        let there = nodes.filter(|node| !self.absent.is(node)).cloned();
        let Some((question, nodes)) = self.following.ask(now_us, step, there.collect()) else {
            return;
        };
        for node in nodes {
            self.send(&node, FromController::Resolve(question.clone()), out);
        }
    }

    /// What the target means now: who joins is hit, who is lost is let go.
    pub(super) fn found(&mut self, now_us: u64, out: &mut Vec<Effect>) {
        let Some((step, share)) = self.followed().map(|stage| (stage.step, stage.share)) else {
            return;
        };
        let hit = self.faults.hit(step);
        let Some(change) = self.following.change(now_us, (step, share), &hit) else {
            return;
        };
        let moves = self.faults.change(now_us, step, &change);
        out.extend(moves.said.into_iter().map(Effect::Say));
        for (node, faults) in moves.end {
            self.send(&node, FromController::Stop(Stop::Faults(faults)), out);
        }
        for (node, arm) in moves.arm {
            self.send(&node, FromController::Arm(arm), out);
        }
        if let Some(trouble) = moves.trouble {
            self.trouble(now_us, trouble, out);
        }
    }
}
