//! Where the ends of conversations are that a cluster names: every order to arm says it, agents are told as they move, and what is aimed
//! at nobody shows nothing. Pure, but for the first look.

use super::faults::Faults;
use super::machine::{Effect, Input, Machine};
use super::nodes::by_node;
use super::verdict::Facts;
use crate::probe::{Places, Whereabouts};
use squall_experiments::event::Happening;
use squall_experiments::experiment::Experiment;
use squall_experiments::fault::Fault;
use squall_experiments::filter::{Endpoint, Found, Host};
use squall_experiments::wire::{FromController, Moved};
use tokio::sync::mpsc;

/// Looks before a run begins, and from then on: where they are, with what the run begins (a refusal where that is not known, or where
/// one is nowhere), and the news.
pub(super) async fn first(
    experiment: &Experiment,
    first: Input,
) -> (Places, Input, mpsc::Receiver<Places>) {
    let (places, nothing) = (Places::default(), mpsc::channel(1).1);
    if !matches!(first, Input::Begin) {
        return (places, first, nothing);
    }
    let whereabouts = match Whereabouts::of(experiment) {
        Ok(None) => return (places, first, nothing),
        Ok(Some(whereabouts)) => whereabouts,
        Err(why) => return (places, Input::Refuse(why.to_string()), nothing),
    };
    let found = match whereabouts.look().await {
        Ok(found) => found,
        Err(why) => return (places, Input::Refuse(why), nothing),
    };
    let places = Places {
        found,
        unknown: None,
    };
    if let Some(nowhere) = places.found.iter().find(|at| at.networks.is_empty()) {
        let why = format!(
            "{} has no address of its own now, so that nothing would be hit: see `kubectl get services,endpointslices,pods`",
            nowhere.host
        );
        return (places, Input::Refuse(why), nothing);
    }
    let news = whereabouts.watch(places.found.clone());
    (places, first, news)
}

/// What of it a fault names.
pub(super) fn of(fault: &Fault, found: &[Found]) -> Vec<Found> {
    let Some(filter) = fault.filter() else {
        return Vec::new();
    };
    let named = |now: &&Found| filter.cluster_hosts().any(|(host, _)| *host == now.host);
    found.iter().filter(named).cloned().collect()
}

/// The end that is nowhere just now, so that no packet is matched.
fn nobody<'a>(fault: &'a Fault, found: &[Found]) -> Option<&'a Host> {
    let filter = fault.filter()?;
    let is_nowhere = |host: &Host| match host {
        Host::Network(_) | Host::Name(_) => false,
        Host::Cluster(_) => {
            let at = found.iter().find(|at| at.host == *host);
            at.is_none_or(|at| at.networks.is_empty())
        }
    };
    let of_end = |end: &'a Endpoint| {
        end.hosts
            .first()
            .filter(|_| end.hosts.iter().all(is_nowhere))
    };
    [&filter.to, &filter.from]
        .into_iter()
        .flatten()
        .find_map(of_end)
}

impl Faults {
    /// The ends of conversations are there now. Says in words which are elsewhere than before.
    fn moved(&mut self, found: Vec<Found>) -> Vec<String> {
        let before = std::mem::replace(&mut self.found, found);
        let moved = self.found.iter().filter(|now| !before.contains(now));
        let told = moved.map(|now| {
            let at: Vec<String> = now.networks.iter().map(ToString::to_string).collect();
            match at.is_empty() {
                true => format!(
                    "{} has no address now: what is aimed at it touches nothing",
                    now.host
                ),
                false => format!("{} is at {}", now.host, at.join(", ")),
            }
        });
        told.collect()
    }

    /// The first that is to be in force and is aimed at nobody, in words.
    fn aimed_at_nobody(&self) -> Option<String> {
        if self.found.iter().all(|at| !at.networks.is_empty()) {
            return None;
        }
        let mut live = self.acting().filter(|fault| fault.is_renewed());
        live.find_map(|fault| {
            let host = nobody(&fault.planned.fault, &self.found)?;
            Some(format!(
                "{host} had no address while {} was to be in force: for so long it touched nothing",
                fault.words()
            ))
        })
    }
}

impl Facts {
    /// A fault that is in force for nobody leaves open what it would have done: kept once.
    pub(super) fn note_nobody(&mut self, faults: &Faults) {
        if self.nobody.is_none() {
            self.nobody = faults.aimed_at_nobody();
        }
    }
}

impl Machine {
    /// Faults that are in force go with the ends of their conversations; those to come are told where they are.
    pub(super) fn moved(&mut self, places: Places, out: &mut Vec<Effect>) {
        let moved = self.faults.moved(places.found);
        let noted = |what| Effect::Say(Happening::Noted(what));
        if !moved.is_empty() {
            let of_cluster = self.faults.acting().filter(|fault| {
                let filter = fault.planned.fault.filter();
                filter.is_some_and(|filter| filter.cluster_hosts().next().is_some())
            });
            for node in by_node(of_cluster).into_keys() {
                let moved = FromController::Moved(Moved {
                    run: self.run.clone(),
                    found: self.faults.found.clone(),
                });
                self.send(&node, moved, out);
            }
        }
        match places.unknown {
            Some(why) => out.push(noted(format!(
                "where services and pods are is not known any more, and what is aimed at them touches nothing until it is: {why}"
            ))),
            None => out.extend(moved.into_iter().map(noted)),
        }
        self.facts.note_nobody(&self.faults);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::fixture;
    use crate::run::world::{NODE, World};
    use squall_experiments::run_life::RunState;
    use squall_experiments::verdict::Verdict;

    const HOST: &str = "service/shop/payment";

    fn world() -> World {
        let mut experiment = fixture::experiment();
        let Fault::Delay(delay) = &mut experiment.method[0].faults[0] else {
            panic!("no delay");
        };
        delay.filter =
            serde_json::from_value(serde_json::json!({ "to": { "hosts": [HOST] } })).unwrap();
        let mut world = World::new(&experiment);
        world.take(Input::Found(at(&["10.0.0.2"])));
        world.take(Input::Begin);
        world
    }

    fn through(mut world: World) -> World {
        world.until(RunState::Finished);
        world
    }

    fn at(addresses: &[&str]) -> Places {
        let networks = addresses.iter().map(|at| at.parse().unwrap()).collect();
        Places {
            found: vec![Found {
                host: HOST.parse().unwrap(),
                networks,
            }],
            unknown: None,
        }
    }

    fn notes(world: &World) -> Vec<&String> {
        let notes = world.said.iter().filter_map(|said| match said {
            Happening::Noted(note) if note.contains("service") => Some(note),
            _ => None,
        });
        notes.collect()
    }

    #[test]
    fn faults_are_asked_for_where_the_end_is_and_told_where_it_goes() {
        let mut world = world();
        world.until(RunState::Injecting(1));
        world.take(Input::Found(at(&["10.0.0.3"])));
        // What is as before is nothing new.
        world.take(Input::Found(at(&["10.0.0.3"])));
        let world = through(world);
        let finished = world.finished();
        assert_eq!(finished.verdict, Verdict::Held, "{}", finished.because);
        let mut said = world.sent.iter().filter_map(|sent| match sent {
            FromController::Arm(arm) => Some(&arm.found),
            FromController::Moved(moved) => Some(&moved.found),
            _ => None,
        });
        assert_eq!(said.next(), Some(&at(&["10.0.0.2"]).found));
        assert!(said.any(|found| *found == at(&["10.0.0.3"]).found));
        let moved = world.sent.iter();
        let moved = moved.filter(|sent| matches!(sent, FromController::Moved(_)));
        assert_eq!(moved.count(), 1);
        assert_eq!(
            notes(&world),
            [
                &format!("{HOST} is at 10.0.0.2"),
                &format!("{HOST} is at 10.0.0.3")
            ]
        );
    }

    /// The dose alone would not tell: it is that of the packets before.
    #[test]
    fn a_run_whose_end_was_nowhere_for_a_while_is_not_held_and_says_so() {
        let lost = Places {
            unknown: Some("no answer".into()),
            ..at(&[])
        };
        for (nowhere, note) in [(at(&[]), "has no address now"), (lost, "no answer")] {
            let mut world = world();
            world.until(RunState::Injecting(0));
            world.step();
            world.take(Input::Found(nowhere));
            world.take(Input::Found(at(&["10.0.0.2"])));
            let world = through(world);
            let finished = world.finished();
            assert_eq!(finished.verdict, Verdict::Inconclusive);
            let because = finished.because;
            assert!(
                because.contains(&format!("{HOST} had no address")),
                "{because}"
            );
            assert!(notes(&world).iter().any(|said| said.contains(note)));
        }
    }

    #[test]
    fn an_agent_that_comes_back_is_told_where_the_end_is_now() {
        let mut world = world();
        world.until(RunState::Injecting(0));
        world.step();
        world.take(Input::AgentAway(NODE.into(), "unplugged".into()));
        world.take(Input::Found(at(&["10.0.0.3"])));
        world.take(Input::AgentBack(NODE.into()));
        let last = world.sent.iter().rev().find_map(|sent| match sent {
            FromController::Arm(arm) => Some(arm.found.clone()),
            _ => None,
        });
        assert_eq!(last, Some(at(&["10.0.0.3"]).found));
    }
}
