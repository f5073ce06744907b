//! What whoever reads a report should know of this means.

use squall_experiments::filter::Direction;

use crate::kernel::net::nfqueue::Copying;

pub(super) fn warnings(direction: Direction, copying: Copying) -> Vec<String> {
    let mut warnings = vec![
        "packets that wait here are lost when another fault, or any other nftables or iptables chain, of this network \
         namespace is taken away: the kernel empties every queue then"
            .to_owned(),
    ];
    if direction != Direction::Ingress {
        warnings.push(
            "bulk TCP sent from here is throttled far below the link's rate while it is delayed on its way out (TCP small \
             queues); to keep its throughput, delay it where it arrives"
                .into(),
        );
    }
    if copying == Copying::Whole {
        warnings.push("matched traffic is limited to some hundred Mbit/s while whole packets pass through the holder".into());
    }
    warnings
}
