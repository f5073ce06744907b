//! Connections that stand still: their sender has been told that the other side's window is closed.
//!
//! The window is closed by the kernel's own rule, in what the other side sends; this keeps the connections able to go on.
//! A sender with a closed window before it asks every now and then whether it is open, each time after twice as long, up
//! to two minutes (RFC 9293, section 3.8.6.1): left alone, a connection that stood still for a minute would do so for up to
//! another after the fault. Every word from the other side starts that wait anew, so the other side's last word is said
//! again, with the window closed, before the first question is due. With the holder these words end, the first question
//! is asked within the wait (0.2 s, or the time of a round trip where that is longer), and its answer shows the true window.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::segment::{Made, Segment};

/// Less than the shortest wait of Linux before its first question (`TCP_RTO_MIN`, 200 ms), and of others, which is longer.
pub(super) const SAID_AGAIN_NS: u64 = 80_000_000;
/// Connections whose sender is kept waiting so: 25,000 packets a second. Of more the senders ask ever more seldom.
const KEPT_MAX: usize = 2_000;
/// A connection of which neither end is here, and which nothing is heard of for so long, is over.
const SILENT_NS: u64 = 600_000_000_000;

/// The last word of the side whose window is closed.
#[derive(Debug)]
struct Word {
    next: u32,
    acknowledged: u32,
    timestamps: Option<(u32, u32)>,
    heard_ns: u64,
    /// Whether an end of it was seen among this namespace's own.
    own: bool,
}

/// The connections that stand still, by who has closed the window and to whom.
#[derive(Debug, Default)]
pub(super) struct Standing {
    words: HashMap<(SocketAddr, SocketAddr), Word>,
    /// When the words are said again.
    pub(super) due_ns: Option<u64>,
    /// Connections that were too many to be kept.
    pub(super) beyond: u64,
}

impl Standing {
    /// Something that the side with the closed window has sent.
    pub(super) fn hear(&mut self, segment: &Segment, now_ns: u64) {
        let key = (segment.source, segment.destination);
        if !self.words.contains_key(&key) && self.words.len() >= KEPT_MAX {
            self.beyond += 1;
            return;
        }
        let word = self.words.entry(key).or_insert_with(|| Word {
            next: segment.end(),
            acknowledged: segment.acknowledged,
            timestamps: segment.timestamps,
            heard_ns: now_ns,
            own: false,
        });
        // What is sent again is no news: a number lies before another if it is less than half the circle behind.
        if segment.end().wrapping_sub(word.next) < 1 << 31 {
            word.next = segment.end();
            word.acknowledged = segment.acknowledged;
            word.timestamps = segment.timestamps;
        }
        word.heard_ns = now_ns;
        self.due_ns.get_or_insert(now_ns + SAID_AGAIN_NS);
    }

    /// The words that are to be said again now.
    pub(super) fn say(&mut self, now_ns: u64) -> Vec<Vec<u8>> {
        if self.due_ns.is_none_or(|due| due > now_ns) {
            return Vec::new();
        }
        self.due_ns = (!self.words.is_empty()).then_some(now_ns + SAID_AGAIN_NS);
        let again = |((from, to), word): (&(SocketAddr, SocketAddr), &Word)| {
            Made {
                sequence: word.next,
                acknowledged: word.acknowledged,
                timestamps: word.timestamps,
                ..Made::between(*from, *to)
            }
            .packet()
        };
        self.words.iter().map(again).collect()
    }

    /// Questions in the senders' name: each is answered with the true window.
    pub(super) fn questions(&self) -> Vec<Vec<u8>> {
        let question = |((from, to), word): (&(SocketAddr, SocketAddr), &Word)| {
            Made {
                // A byte that has been acknowledged already: nothing of it is taken, and it is answered.
                sequence: word.acknowledged.wrapping_sub(1),
                acknowledged: word.next,
                timestamps: word.timestamps.map(|(value, echo)| (echo, value)),
                ..Made::between(*to, *from)
            }
            .packet()
        };
        self.words.iter().map(question).collect()
    }

    /// Lets go of connections that are over: those of this namespace's that it has no longer, and those long silent.
    pub(super) fn prune(&mut self, is_here: impl Fn(SocketAddr, SocketAddr) -> bool, now_ns: u64) {
        self.words.retain(|(from, to), word| {
            let here = is_here(*from, *to);
            let over = word.own && !here;
            word.own |= here;
            !over && (here || now_ns.saturating_sub(word.heard_ns) < SILENT_NS)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::segment::{ACK, parse};
    use super::*;

    fn said(sequence: u32, acknowledged: u32) -> Segment {
        let at = |text: &str| text.parse().expect("an address");
        let made = Made {
            sequence,
            acknowledged,
            flags: ACK,
            timestamps: Some((5, 6)),
            ..Made::between(at("10.0.0.2:80"), at("10.0.0.1:4000"))
        };
        read(&made.packet())
    }

    fn read(packet: &[u8]) -> Segment {
        parse(packet, u32::try_from(packet.len()).expect("short")).expect("a segment")
    }

    #[test]
    fn the_last_word_is_said_again_and_the_question_is_the_senders() {
        let mut standing = Standing::default();
        standing.hear(&said(100, 50), 0);
        standing.hear(&said(90, 40), 1);
        assert!(standing.say(SAID_AGAIN_NS - 1).is_empty());
        let again = standing.say(SAID_AGAIN_NS);
        let word = read(&again[0]);
        assert_eq!((word.sequence, word.acknowledged), (100, 50));
        let question = read(&standing.questions()[0]);
        assert_eq!((question.sequence, question.acknowledged), (49, 100));
        assert_eq!(question.timestamps, Some((6, 5)));
        assert_eq!(question.source, word.destination);
    }

    #[test]
    fn what_is_over_is_let_go() {
        let mut standing = Standing::default();
        standing.hear(&said(100, 50), 0);
        standing.prune(|_, _| false, 1);
        assert_eq!(standing.words.len(), 1, "of others, until it is silent");
        standing.prune(|_, _| true, 1);
        standing.prune(|_, _| false, 1);
        assert!(standing.words.is_empty());
        assert!(standing.say(SAID_AGAIN_NS).is_empty() && standing.due_ns.is_none());
    }
}
