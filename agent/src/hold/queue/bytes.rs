//! Flipping one bit of an IP packet where its receiver will notice.

const IPV4_HEADER_BYTES_MIN: usize = 20;
const IPV6_HEADER_BYTES: usize = 40;

/// Flips one bit behind the IP header, chosen by `draw`, and leaves every checksum as it is: the receiver drops the
/// packet for its checksum, or sees the wrong bit where there is none, as after netem. `false` where there is nothing
/// behind the header.
pub(crate) fn flip_one_bit(packet: &mut [u8], draw: u64) -> bool {
    let header = match packet.first().map(|b| b >> 4) {
        Some(4) => usize::from(packet[0] & 0xf) * 4,
        Some(6) => IPV6_HEADER_BYTES,
        _ => return false,
    };
    let Some(behind) = packet
        .get_mut(header.max(IPV4_HEADER_BYTES_MIN)..)
        .filter(|b| !b.is_empty())
    else {
        return false;
    };
    let at = (draw >> 3) as usize % behind.len();
    behind[at] ^= 1 << (draw & 7);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_bit_behind_the_header_changes() {
        for (first, header) in [(0x45, 20), (0x46, 24), (0x60, 40)] {
            for draw in [0, 7, 8, u64::MAX, 0x1234_5678_9abc_def0] {
                let mut packet = vec![0; 60];
                packet[0] = first;
                let before = packet.clone();
                assert!(flip_one_bit(&mut packet, draw));
                let changed: u32 = packet
                    .iter()
                    .zip(&before)
                    .map(|(a, b)| (a ^ b).count_ones())
                    .sum();
                assert_eq!(changed, 1);
                assert_eq!(packet[..header], before[..header]);
            }
        }
    }

    #[test]
    fn what_has_no_payload_is_left_alone() {
        for mut packet in [
            vec![],
            vec![0x45; 20],
            vec![0x60; 40],
            vec![0x4f; 30],
            vec![0x15; 60],
        ] {
            let before = packet.clone();
            assert!(!flip_one_bit(&mut packet, 9));
            assert_eq!(packet, before);
        }
    }
}
