//! An interface that is down: what goes over it goes nowhere, and who uses it sees that there is no link.
//!
//! The kernel forgets with it what was set on it, so a journal holds it as it does a freeze: what would be forgotten is on
//! disk before the interface is set down, and a guard is ready to set it up and to give all of it back.

use super::held::{Held, HoldError};
use super::safeguard::{Safeguard, Undoable};
use super::speech::HoldSpec;
use crate::journal::Undo;
use crate::kernel::net::forgotten;
use crate::kernel::net::links::{self, Link};
use crate::kernel::net::netlink::{Netlink, Protocol};
use crate::kernel::net::netns::Netns;
use squall_experiments::dose::{Dose, Evidence, NicDownDose};
use squall_experiments::fault::NicDown;
use squall_experiments::filter::ResolvedEndpoint;
use squall_experiments::wire::EndCause;
use std::time::{Duration, Instant};

struct Down {
    route: Netlink,
    link: Link,
    /// When the kernel last said that it is down.
    seen: Instant,
    dose: NicDownDose,
    over: Option<EndCause>,
}

/// Writes down, sets down, and reads back from the kernel that it is.
pub(crate) fn arm(nic: &NicDown, spec: &HoldSpec) -> Result<(Box<dyn Held>, Evidence), HoldError> {
    let mut route = Netlink::open(Protocol::Route)?;
    let name = nic.interface.as_str();
    let (found, all) = forgotten::named(&mut route, name)?;
    let Some(link) = found else {
        let there: Vec<&str> = all.iter().map(|link| link.name.as_str()).collect();
        return Err(HoldError::Unable(format!(
            "the target has no interface `{name}`: it has {}",
            there.join(", ")
        )));
    };
    if !link.up {
        return Err(HoldError::Unable(format!(
            "the interface `{name}` is down already: set it up first"
        )));
    }
    spared(&mut route, &link, &all, &spec.filter.spare)?;
    let known = forgotten::with(&mut route, &forgotten::stack_on(&all, link.index))?;
    let count = known.len();
    // From here on dropping this sets it up, and so does its guard.
    let undo = Undo::LinkUp {
        netns: Netns::current()?.identity().inode,
        index: link.index,
        name: link.name.clone(),
        forgotten: known,
    };
    let safeguard = Safeguard::stand(spec, undo)?;
    links::set_down(&mut route, &link)?;
    let mut down = Down {
        seen: Instant::now(),
        dose: NicDownDose {
            seconds: 0.0,
            forgotten: count as u64,
        },
        over: None,
        route,
        link,
    };
    down.look()?;
    if down.over.is_some() {
        return Err(HoldError::Unable(format!(
            "the interface `{name}` was set down, and the kernel does not show it so"
        )));
    }
    let evidence = Evidence {
        means: safeguard.means("the interface is set down"),
        read_back: vec![format!(
            "the kernel says that {name} (number {}) is down",
            down.link.index
        )],
        warnings: Vec::new(),
    };
    Ok((safeguard.hold(down), evidence))
}

/// Says no where what must be reached is reached over it: the controller, and what the node's policy protects.
fn spared(
    route: &mut Netlink,
    link: &Link,
    all: &[Link],
    spare: &[ResolvedEndpoint],
) -> Result<(), HoldError> {
    for network in spare.iter().flat_map(|end| &end.networks) {
        let Some(way) = forgotten::way_to(route, network.address)? else {
            continue;
        };
        if forgotten::needs(all, way, link.index) {
            return Err(HoldError::Unable(format!(
                "{network} is reached over the interface `{}`, and must be: it is the controller's, a resolver of the node, or \
                 one that the node's policy protects; name another interface, or write `protect: {{ links: false }}` into the policy",
                link.name
            )));
        }
    }
    Ok(())
}

impl Undoable for Down {
    /// The dose is asked for once a second, and that is soon enough.
    const LOOK_EVERY: Option<Duration> = None;

    /// Asks the kernel whether it is down, and counts the time since it last was.
    fn look(&mut self) -> Result<(), HoldError> {
        match links::by_index(&mut self.route, self.link.index)? {
            None => self.over = Some(EndCause::TargetGone),
            Some(link) if link.up => {
                self.over = Some(EndCause::Failed(format!(
                    "somebody else has set the interface `{}` up",
                    link.name
                )));
            }
            Some(_) => {
                self.dose.seconds += self.seen.elapsed().as_secs_f64();
                self.seen = Instant::now();
            }
        }
        Ok(())
    }

    fn dose(&self) -> Dose {
        Dose::NicDown(self.dose.clone())
    }

    fn over(&self) -> Option<EndCause> {
        self.over.clone()
    }
}
