//! DNS messages (RFC 1035, section 4): the question of a query, and answers to it. Nothing else is read.

use std::net::IpAddr;

/// The fixed part.
const HEADER_BYTES: usize = 12;
/// A name on the wire, its last zero included (RFC 1035, section 3.1).
const NAME_BYTES_MAX: usize = 255;
const LABEL_BYTES_MAX: usize = 63;
/// Class IN.
const INTERNET: u16 = 1;
/// Class ANY.
const ANY_CLASS: u16 = 255;
pub(super) const TYPE_A: u16 = 1;
pub(super) const TYPE_AAAA: u16 = 28;
const NXDOMAIN: u8 = 3;
const SERVFAIL: u8 = 2;
/// A pointer to the name behind the header.
const SAME_NAME: [u8; 2] = [0xc0, HEADER_BYTES as u8];
/// A false answer must not outlive the fault in somebody's cache.
const LIFE_S: u32 = 0;

/// The one question of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// The name, without its last dot; bytes that are not ASCII letters as they are escaped in files: `\DDD`.
    pub(super) name: String,
    /// The record type's number.
    pub(super) kind: u16,
    /// Where the question ends in the message.
    end: usize,
}

/// What a query is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    /// No such name. Without an SOA record, so that nobody keeps it (RFC 2308, section 5).
    Nxdomain,
    /// The resolver failed.
    Servfail,
    /// Those of the addresses that are of the asked type; none of them is an empty answer.
    Addresses(&'a [IpAddr]),
}

/// The question, where this is an ordinary query with exactly one; `None` for everything else.
pub(super) fn question(message: &[u8]) -> Option<Question> {
    let header = message.get(..HEADER_BYTES)?;
    // Answers (QR), and operations other than QUERY, are none of ours.
    let is_query = header[2] & 0xf8 == 0;
    let count = u16::from_be_bytes([header[4], header[5]]);
    if !is_query || count != 1 {
        return None;
    }
    let (name, after) = name(message)?;
    let fixed = message.get(after..after + 4)?;
    let class = u16::from_be_bytes([fixed[2], fixed[3]]);
    (class == INTERNET || class == ANY_CLASS).then_some(Question {
        name,
        kind: u16::from_be_bytes([fixed[0], fixed[1]]),
        end: after + 4,
    })
}

/// The name behind the header, and where it ends. A question's name is never compressed: there is nothing before it.
fn name(message: &[u8]) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut at = HEADER_BYTES;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((text, at));
        }
        if length > LABEL_BYTES_MAX || at + length - HEADER_BYTES >= NAME_BYTES_MAX {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        for byte in message.get(at..at + length)? {
            if byte.is_ascii_graphic() && !matches!(byte, b'.' | b'\\') {
                text.push(char::from(*byte));
            } else {
                text.push_str(&format!("\\{byte:03}"));
            }
        }
        at += length;
    }
}

/// The answer to a query that has been read.
pub(super) fn answer(message: &[u8], question: &Question, answer: Answer<'_>) -> Vec<u8> {
    let mut out = message.get(..question.end).unwrap_or(message).to_vec();
    let records: Vec<Vec<u8>> = match answer {
        Answer::Nxdomain | Answer::Servfail => Vec::new(),
        Answer::Addresses(addresses) => addresses
            .iter()
            .filter_map(|address| record(question.kind, *address))
            .collect(),
    };
    let code = match answer {
        Answer::Nxdomain => NXDOMAIN,
        Answer::Servfail => SERVFAIL,
        Answer::Addresses(_) => 0,
    };
    let count = u16::try_from(records.len()).unwrap_or(0).to_be_bytes();
    if let Some(header) = out.get_mut(..HEADER_BYTES) {
        // QR; RD as it was asked. RA: what a resolver that could would say.
        header[2] = 0x80 | (header[2] & 0x01);
        header[3] = 0x80 | code;
        header[6..8].copy_from_slice(&count);
        // No authorities, and of additional records not even the EDNS one: it is never wrong to leave it out.
        header[8..12].fill(0);
    }
    out.extend(records.into_iter().flatten());
    out
}

fn record(kind: u16, address: IpAddr) -> Option<Vec<u8>> {
    let (of, data) = match address {
        IpAddr::V4(a) => (TYPE_A, a.octets().to_vec()),
        IpAddr::V6(a) => (TYPE_AAAA, a.octets().to_vec()),
    };
    if of != kind {
        return None;
    }
    let mut record = SAME_NAME.to_vec();
    record.extend(of.to_be_bytes());
    record.extend(INTERNET.to_be_bytes());
    record.extend(LIFE_S.to_be_bytes());
    record.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
    record.extend(data);
    Some(record)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A query as resolvers send it, with an EDNS record behind it.
    pub(in crate::hold::dns) fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 1];
        for label in name.split('.').filter(|l| !l.is_empty()) {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend(label.bytes());
        }
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend(INTERNET.to_be_bytes());
        message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        message
    }

    #[test]
    fn a_query_is_read_and_anything_else_is_not() {
        let message = query("db.Payment.svc", TYPE_A);
        let asked = question(&message).unwrap();
        assert_eq!(
            (asked.name.as_str(), asked.kind),
            ("db.Payment.svc", TYPE_A)
        );
        assert_eq!(question(&query("", TYPE_A)).unwrap().name, "");
        let mut answer = message.clone();
        answer[2] |= 0x80;
        assert_eq!(question(&answer), None, "an answer");
        let mut two = message.clone();
        two[5] = 2;
        assert_eq!(question(&two), None, "two questions");
        for end in 0..message.len() - 11 {
            assert_eq!(question(&message[..end]), None, "cut at {end}");
        }
    }

    #[test]
    fn an_answer_repeats_the_question_and_nothing_keeps_it() {
        let message = query("db.shop", TYPE_AAAA);
        let asked = question(&message).unwrap();
        let none = answer(&message, &asked, Answer::Nxdomain);
        assert_eq!(none[..8], [0x12, 0x34, 0x81, 0x83, 0, 1, 0, 0]);
        assert_eq!(none.len(), asked.end, "no SOA: no negative cache");
        let addresses = ["10.0.0.9".parse().unwrap(), "fd00::9".parse().unwrap()];
        let false_one = answer(&message, &asked, Answer::Addresses(&addresses));
        assert_eq!(false_one[6..8], [0, 1], "the IPv6 address alone");
        assert_eq!(false_one[asked.end + 6..asked.end + 10], [0; 4], "its life");
        assert_eq!(*false_one.last().unwrap(), 9);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(message in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Some(asked) = question(&message) {
                prop_assert!(asked.end <= message.len());
                let said = answer(&message, &asked, Answer::Servfail);
                prop_assert_eq!(question(&said), None, "an answer is no query");
            }
        }

        #[test]
        fn damaged_queries_do_not_either(at in 0usize..40, byte in any::<u8>()) {
            let mut message = query("a.long.enough.name.shop", TYPE_A);
            message[at] = byte;
            if let Some(asked) = question(&message) {
                let all = ["10.0.0.9".parse().unwrap()];
                answer(&message, &asked, Answer::Addresses(&all));
            }
        }
    }
}
