//! IP packets with a UDP datagram in them: what it says, and the packet that answers it.

use std::ops::Range;

use crate::hold::checksum::checksum;

const UDP: u8 = 17;
const UDP_BYTES: usize = 8;
const V4_BYTES: usize = 20;
const V6_BYTES: usize = 40;
/// The time to live of an answer.
const HOPS: u8 = 64;

/// Where the parts of a packet are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Datagram {
    is_v6: bool,
    /// Where the UDP header begins.
    udp: usize,
    /// What the datagram carries.
    pub(super) payload: Range<usize>,
}

/// The parts, where this is a whole UDP datagram in one packet; `None` for a fragment, and for IPv6 with extensions.
pub(super) fn parse(packet: &[u8]) -> Option<Datagram> {
    let (is_v6, udp) = match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet[0] & 0x0f) * 4;
            let fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]);
            // More fragments, or an offset.
            if header < V4_BYTES || fragment & 0x3fff != 0 || *packet.get(9)? != UDP {
                return None;
            }
            (false, header)
        }
        6 if *packet.get(6)? == UDP => (true, V6_BYTES),
        _ => return None,
    };
    let header = packet.get(udp..udp + UDP_BYTES)?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let payload = udp + UDP_BYTES..udp + length;
    (length >= UDP_BYTES && payload.end <= packet.len()).then_some(Datagram {
        is_v6,
        udp,
        payload,
    })
}

/// A packet back to the sender of `packet`, from where that one went to. `None` where it would be too long.
pub(super) fn answer(packet: &[u8], parts: &Datagram, payload: &[u8]) -> Option<Vec<u8>> {
    let udp_length = u16::try_from(UDP_BYTES + payload.len()).ok()?;
    let ports = packet.get(parts.udp..parts.udp + 4)?;
    let mut udp = [ports[2], ports[3], ports[0], ports[1]].to_vec();
    udp.extend(udp_length.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    let mut out = if parts.is_v6 {
        let (from, to) = (packet.get(8..24)?, packet.get(24..40)?);
        let mut header = vec![0x60, 0, 0, 0];
        header.extend(udp_length.to_be_bytes());
        header.extend([UDP, HOPS]);
        header.extend(to.iter().chain(from));
        header
    } else {
        let total = u16::try_from(V4_BYTES).ok()?.checked_add(udp_length)?;
        let (from, to) = (packet.get(12..16)?, packet.get(16..20)?);
        let mut header = vec![0x45, 0];
        header.extend(total.to_be_bytes());
        // No identification, may not be fragmented, header checksum to come.
        header.extend([0, 0, 0x40, 0, HOPS, UDP, 0, 0]);
        header.extend(to.iter().chain(from));
        let sum = checksum(&[&header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    };
    let addresses = if parts.is_v6 { 8 } else { 12 };
    let pseudo = [0, UDP, udp[4], udp[5]];
    let sum = match checksum(&[&out[addresses..], &pseudo, &udp]) {
        // Zero would mean "no checksum" (RFC 768).
        0 => 0xffff,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    out.append(&mut udp);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A query from 10.0.0.1:4660 to 10.0.0.2:53 that says `abc`.
    fn v4() -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 31, 0, 0, 0x40, 0, 64, UDP, 0, 0];
        packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend([0x12, 0x34, 0, 53, 0, 11, 0, 0]);
        packet.extend(b"abc");
        packet
    }

    fn sums_up(packet: &[u8], parts: &Datagram) -> bool {
        let addresses = if parts.is_v6 { 8 } else { 12 };
        let udp = &packet[parts.udp..];
        let pseudo = [0, UDP, udp[4], udp[5]];
        let header = parts.is_v6 || checksum(&[&packet[..V4_BYTES]]) == 0;
        header && checksum(&[&packet[addresses..parts.udp], &pseudo, udp]) == 0
    }

    #[test]
    fn an_answer_goes_back_where_the_query_came_from() {
        let packet = v4();
        let parts = parse(&packet).unwrap();
        assert_eq!(&packet[parts.payload.clone()], b"abc");
        let back = answer(&packet, &parts, b"hello").unwrap();
        let read = parse(&back).unwrap();
        assert_eq!(&back[read.payload.clone()], b"hello");
        assert_eq!(back[12..20], [10, 0, 0, 2, 10, 0, 0, 1]);
        assert_eq!(back[20..24], [0, 53, 0x12, 0x34]);
        assert!(sums_up(&back, &read), "{back:x?}");
    }

    #[test]
    fn ipv6_too() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 11, UDP, 64];
        packet.extend([1; 16]);
        packet.extend([2; 16]);
        packet.extend(&v4()[V4_BYTES..]);
        let parts = parse(&packet).unwrap();
        let back = answer(&packet, &parts, b"odd").unwrap();
        assert_eq!(back[8..40], [[2; 16], [1; 16]].concat());
        assert!(sums_up(&back, &parse(&back).unwrap()), "{back:x?}");
    }

    #[test]
    fn a_fragment_is_let_alone() {
        let mut packet = v4();
        packet[6] = 0x20;
        assert_eq!(parse(&packet), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(packet in prop::collection::vec(any::<u8>(), 0..120)) {
            if let Some(parts) = parse(&packet) {
                answer(&packet, &parts, b"x");
            }
        }
    }
}
