//! IP packets with a TCP segment in them: what their headers say, and segments made to measure. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::hold::checksum::checksum;

const TCP: u8 = 6;
const UDP: u8 = 17;
const V4_BYTES: usize = 20;
const V6_BYTES: usize = 40;
const TCP_BYTES: usize = 20;
/// The time to live of what is made here.
const HOPS: u8 = 64;

/// Flags of a TCP header (RFC 9293, section 3.1).
pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(super) const ACK: u8 = 0x10;
/// Where they are in it, and where the window is.
pub(super) const FLAGS_AT: u32 = 13;
pub(super) const WINDOW_AT: u32 = 14;

/// What the headers of a segment say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Where it comes from.
    pub(super) source: SocketAddr,
    /// Where it goes.
    pub(super) destination: SocketAddr,
    /// Its first byte's number.
    pub(super) sequence: u32,
    /// The next byte that its sender waits for.
    pub(super) acknowledged: u32,
    /// Its flags.
    pub(crate) flags: u8,
    /// Bytes of data in it.
    pub(super) payload: u32,
    /// The timestamps of RFC 7323: its sender's, and the one echoed.
    pub(super) timestamps: Option<(u32, u32)>,
    /// Where its TCP header begins.
    tcp_at: usize,
    /// Where its data begins.
    data_at: usize,
}

/// Reads a packet's headers. `length` is how long it really is: its end need not be there. `None` for a fragment, for IPv6
/// with extensions, and for anything that is not TCP.
pub(crate) fn parse(packet: &[u8], length: u32) -> Option<Segment> {
    let (source, destination, tcp_at, number) = addresses(packet)?;
    if number != TCP {
        return None;
    }
    let header = packet.get(tcp_at..tcp_at + TCP_BYTES)?;
    let number = |at: usize| {
        let bytes = header.get(at..)?.first_chunk()?;
        Some(u32::from_be_bytes(*bytes))
    };
    let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let header_bytes = usize::from(header[12] >> 4) * 4;
    let data_at = tcp_at + header_bytes;
    if header_bytes < TCP_BYTES {
        return None;
    }
    let options = packet.get(tcp_at + TCP_BYTES..data_at)?;
    Some(Segment {
        source: SocketAddr::new(source, port(0)),
        destination: SocketAddr::new(destination, port(2)),
        sequence: number(4)?,
        acknowledged: number(8)?,
        flags: header[13],
        payload: length.checked_sub(u32::try_from(data_at).ok()?)?,
        timestamps: timestamps(options),
        tcp_at,
        data_at,
    })
}

/// What has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The transport, source and destination of a packet, and whether it begins a connection. `None` as with [`parse`].
pub(crate) fn ends(packet: &[u8]) -> Option<(Transport, SocketAddr, SocketAddr, bool)> {
    let (source, destination, at, number) = addresses(packet)?;
    let transport = match number {
        TCP => Transport::Tcp,
        UDP => Transport::Udp,
        _ => return None,
    };
    let ports = packet.get(at..at + 4)?;
    let flags = packet.get(at + 13).filter(|_| number == TCP);
    Some((
        transport,
        SocketAddr::new(source, u16::from_be_bytes([ports[0], ports[1]])),
        SocketAddr::new(destination, u16::from_be_bytes([ports[2], ports[3]])),
        flags.is_some_and(|flags| flags & SYN != 0),
    ))
}

/// Both addresses, where the transport's header begins, and the transport's number.
fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr, usize, u8)> {
    let v4 = |at: usize| Some(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?));
    let v6 = |at: usize| Some(Ipv6Addr::from(*packet.get(at..)?.first_chunk::<16>()?));
    match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet[0] & 0x0f) * 4;
            let fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]);
            // More fragments, or an offset.
            if header < V4_BYTES || fragment & 0x3fff != 0 {
                return None;
            }
            Some((v4(12)?.into(), v4(16)?.into(), header, *packet.get(9)?))
        }
        6 => Some((v6(8)?.into(), v6(24)?.into(), V6_BYTES, *packet.get(6)?)),
        _ => None,
    }
}

fn timestamps(mut options: &[u8]) -> Option<(u32, u32)> {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const TIMESTAMPS: u8 = 8;
    loop {
        match *options.first()? {
            END => return None,
            NOTHING => options = &options[1..],
            TIMESTAMPS => {
                let value = u32::from_be_bytes(*options.get(2..)?.first_chunk()?);
                let echo = u32::from_be_bytes(*options.get(6..)?.first_chunk()?);
                return Some((value, echo));
            }
            _ => {
                let length = usize::from(*options.get(1)?).max(2);
                options = options.get(length..)?;
            }
        }
    }
}

impl Segment {
    /// The number after its last: SYN and FIN count as a byte each.
    pub(super) fn end(&self) -> u32 {
        let flags = u32::from(self.flags & SYN != 0) + u32::from(self.flags & FIN != 0);
        self.sequence.wrapping_add(self.payload).wrapping_add(flags)
    }

    /// The reset by which its receiver refuses it (RFC 9293, section 3.10.7.1).
    pub(crate) fn refused(&self) -> Vec<u8> {
        let acknowledges = self.flags & ACK != 0;
        let sequence = if acknowledges { self.acknowledged } else { 0 };
        Made {
            sequence,
            acknowledged: self.end(),
            flags: RST | ACK,
            ..Made::between(self.destination, self.source)
        }
        .packet()
    }

    /// The reset that its sender would send in its place.
    pub(super) fn given_up(&self) -> Vec<u8> {
        Made {
            sequence: self.sequence,
            acknowledged: self.acknowledged,
            flags: RST | ACK,
            ..Made::between(self.source, self.destination)
        }
        .packet()
    }

    /// This packet without FIN and with its checksum right, and a packet with FIN and without data that comes after it.
    /// `None` where the packet is not whole.
    pub(super) fn split(&self, packet: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let whole = self.data_at + usize::try_from(self.payload).ok()?;
        let mut first = packet.get(..whole)?.to_vec();
        first[self.tcp_at + 13] &= !FIN;
        self.seal(&mut first)?;
        let mut last = packet.get(..self.data_at)?.to_vec();
        let next = self.sequence.wrapping_add(self.payload);
        last[self.tcp_at + 4..self.tcp_at + 8].copy_from_slice(&next.to_be_bytes());
        self.seal(&mut last)?;
        Some((first, last))
    }

    /// Sets the lengths and the checksums of a packet whose headers are this one's.
    fn seal(&self, packet: &mut [u8]) -> Option<()> {
        let length = u16::try_from(packet.len()).ok()?;
        let tcp_bytes = u16::try_from(packet.len() - self.tcp_at).ok()?;
        let ends = if self.source.is_ipv4() {
            packet[2..4].copy_from_slice(&length.to_be_bytes());
            packet[10..12].fill(0);
            let sum = checksum(&[&packet[..self.tcp_at]]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            12..20
        } else {
            packet[4..6].copy_from_slice(&tcp_bytes.to_be_bytes());
            8..40
        };
        let at = self.tcp_at + 16;
        packet[at..at + 2].fill(0);
        let [high, low] = tcp_bytes.to_be_bytes();
        let sum = checksum(&[&packet[ends], &[0, TCP, high, low], &packet[self.tcp_at..]]);
        packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        Some(())
    }
}

/// A segment without data, to be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made {
    /// From where.
    pub(super) source: SocketAddr,
    /// To where: of the same IP version.
    pub(super) destination: SocketAddr,
    /// Its number.
    pub(super) sequence: u32,
    /// What it acknowledges.
    pub(super) acknowledged: u32,
    /// Its flags.
    pub(super) flags: u8,
    /// Its timestamps, if it has any.
    pub(super) timestamps: Option<(u32, u32)>,
}

impl Made {
    /// All zero but for its ends. Its window is closed.
    pub(super) fn between(source: SocketAddr, destination: SocketAddr) -> Self {
        Self {
            source,
            destination,
            sequence: 0,
            acknowledged: 0,
            flags: ACK,
            timestamps: None,
        }
    }

    /// The whole packet.
    pub(super) fn packet(&self) -> Vec<u8> {
        let mut tcp = Vec::with_capacity(TCP_BYTES + 12);
        tcp.extend(self.source.port().to_be_bytes());
        tcp.extend(self.destination.port().to_be_bytes());
        tcp.extend(self.sequence.to_be_bytes());
        tcp.extend(self.acknowledged.to_be_bytes());
        let words = if self.timestamps.is_some() { 8 } else { 5 };
        tcp.extend([words << 4, self.flags, 0, 0, 0, 0, 0, 0]);
        if let Some((value, echo)) = self.timestamps {
            tcp.extend([1, 1, 8, 10]);
            tcp.extend(value.to_be_bytes());
            tcp.extend(echo.to_be_bytes());
        }
        let mut packet = Vec::with_capacity(V6_BYTES + tcp.len());
        let tcp_at = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                // Not to be fragmented; lengths and checksums come last.
                packet.extend([0x45, 0, 0, 0, 0, 0, 0x40, 0, HOPS, TCP, 0, 0]);
                packet.extend(from.octets());
                packet.extend(to.octets());
                V4_BYTES
            }
            (from, to) => {
                let six = |address: IpAddr| match address {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                };
                packet.extend([0x60, 0, 0, 0, 0, 0, TCP, HOPS]);
                packet.extend(six(from).octets());
                packet.extend(six(to).octets());
                V6_BYTES
            }
        };
        packet.append(&mut tcp);
        if let Some(own) = parse(&packet, u32::try_from(packet.len()).unwrap_or(0)) {
            debug_assert_eq!(own.tcp_at, tcp_at);
            own.seal(&mut packet);
        }
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn read(packet: &[u8]) -> Segment {
        parse(packet, u32::try_from(packet.len()).expect("short")).expect("a segment")
    }

    fn sums_up(packet: &[u8]) -> bool {
        let s = read(packet);
        let ends = if s.source.is_ipv4() { 12..20 } else { 8..40 };
        let length = u16::try_from(packet.len() - s.tcp_at).expect("short");
        let [high, low] = length.to_be_bytes();
        let tcp = checksum(&[&packet[ends], &[0, TCP, high, low], &packet[s.tcp_at..]]);
        tcp == 0 && (!s.source.is_ipv4() || checksum(&[&packet[..s.tcp_at]]) == 0)
    }

    /// A segment of three bytes with FIN.
    fn last_words(from: &str, to: &str) -> Vec<u8> {
        let made = Made {
            sequence: u32::MAX,
            acknowledged: 7,
            flags: ACK | FIN,
            timestamps: Some((11, 22)),
            ..Made::between(at(from), at(to))
        };
        let mut packet = made.packet();
        packet.extend(b"abc");
        let own = read(&packet);
        own.seal(&mut packet).expect("short");
        packet
    }

    #[test]
    fn what_is_made_is_read_back_and_sums_up() {
        for (from, to) in [
            ("10.0.0.1:4000", "10.0.0.2:80"),
            ("[fd00::1]:4000", "[fd00::2]:80"),
        ] {
            let packet = last_words(from, to);
            let s = read(&packet);
            assert_eq!((s.source, s.destination), (at(from), at(to)));
            assert_eq!((s.payload, s.end()), (3, 3), "numbers wrap around");
            assert_eq!(s.timestamps, Some((11, 22)));
            let refused = s.refused();
            let back = read(&refused);
            assert_eq!((back.source, back.destination), (at(to), at(from)));
            assert_eq!((back.sequence, back.acknowledged), (7, 3));
            assert!(sums_up(&packet) && sums_up(&refused) && sums_up(&s.given_up()));
        }
    }

    #[test]
    fn a_fin_is_split_from_its_data() {
        for (from, to) in [
            ("10.0.0.1:4000", "10.0.0.2:80"),
            ("[fd00::1]:4000", "[fd00::2]:80"),
        ] {
            let packet = last_words(from, to);
            let (first, last) = read(&packet).split(&packet).expect("whole");
            let (a, b) = (read(&first), read(&last));
            assert_eq!((a.flags, a.payload, a.end()), (ACK, 3, 2));
            assert_eq!((b.flags, b.payload, b.sequence), (ACK | FIN, 0, 2));
            assert!(first.ends_with(b"abc") && sums_up(&first) && sums_up(&last));
        }
    }

    #[test]
    fn a_syn_is_refused_by_its_number() {
        let syn = Made {
            sequence: 41,
            flags: SYN,
            ..Made::between(at("10.0.0.1:4000"), at("10.0.0.2:80"))
        };
        let refused = read(&read(&syn.packet()).refused());
        assert_eq!((refused.sequence, refused.acknowledged), (0, 42));
        assert_eq!(refused.flags, RST | ACK);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(packet in prop::collection::vec(any::<u8>(), 0..120), length in any::<u32>()) {
            if let Some(segment) = parse(&packet, length) {
                segment.split(&packet);
                segment.refused();
            }
        }
    }
}
