//! The one probe for packets: a numbered volley of datagrams to an echo server, and what came back.
//!
//! Times are taken in user space on both ways. `ping` would use the kernel's receive time stamp, which
//! a delay in INPUT does not reach.

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::Result;
use super::wire::waiting;

/// What a volley is made of.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How many datagrams.
    pub count: u32,
    /// From one to the next.
    pub gap: Duration,
    /// How long answers are waited for after the last.
    pub patience: Duration,
    /// Bytes of payload, at least [`HEAD_BYTES`].
    pub size: usize,
}

/// The sequence number and its complement.
pub const HEAD_BYTES: usize = 8;

/// One datagram's fate.
#[derive(Clone, Debug)]
pub struct Shot {
    /// When it was sent.
    pub sent: Instant,
    /// How long after that each of its answers came; normally one.
    pub answers: Vec<Duration>,
    /// Whether the kernel refused to send it.
    pub refused: bool,
}

/// A volley's fate.
#[derive(Clone, Debug)]
pub struct Volley {
    /// Every datagram, in the order of sending.
    pub shots: Vec<Shot>,
    /// Sequence numbers in the order in which their first answers came.
    pub order: Vec<u32>,
    /// Answers whose payload was not what had been sent.
    pub damaged: u32,
}

impl Volley {
    /// Fires at the echo server `socket` is connected to.
    ///
    /// # Errors
    /// When the socket fails for another reason than a fault would give.
    pub fn fire(socket: &UdpSocket, pace: &Pace) -> Result<Self> {
        drain(socket)?;
        let mut volley = Self {
            shots: Vec::new(),
            order: Vec::new(),
            damaged: 0,
        };
        let begun = Instant::now();
        for number in 0..pace.count {
            let due = begun + pace.gap * number;
            while Instant::now() < due {
                volley.listen(socket, pace.size, due)?;
            }
            let sent = Instant::now();
            let refused = socket.send(&payload(number, pace.size)).is_err();
            volley.shots.push(Shot {
                sent,
                answers: Vec::new(),
                refused,
            });
        }
        let end = Instant::now() + pace.patience;
        // Once everything is back there is nothing more to wait for but duplicates, which follow at once.
        while Instant::now() < end {
            let all = volley.order.len() == volley.shots.len();
            let grace = end.min(Instant::now() + DUPLICATES_WITHIN);
            let heard = volley.listen(socket, pace.size, grace)?;
            if all && !heard {
                break;
            }
        }
        Ok(volley)
    }

    /// Hears one answer, or none until `due`.
    fn listen(&mut self, socket: &UdpSocket, size: usize, due: Instant) -> Result<bool> {
        // Not the socket's own time limit: that counts in jiffies, of up to 10 ms.
        let wait = TimeSpec::from_duration(due.saturating_duration_since(Instant::now()));
        let mut readable = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut readable, Some(wait), None) {
            Ok(0) | Err(Errno::EINTR) => return Ok(false),
            Ok(_) => {}
            Err(errno) => return Err(format!("cannot wait for answers: {errno}").into()),
        }
        let mut datagram = [0; 2048];
        let length = match socket.recv(&mut datagram) {
            Ok(length) => length,
            // ICMP's "unreachable" of a reject arrives here: an unanswered datagram, no more.
            Err(error)
                if waiting(&error) || error.kind() == std::io::ErrorKind::ConnectionRefused =>
            {
                return Ok(false);
            }
            Err(error) if error.raw_os_error().is_some_and(unreachable) => return Ok(false),
            Err(error) => return Err(format!("cannot receive: {error}").into()),
        };
        let now = Instant::now();
        let number = u32::from_be_bytes([datagram[0], datagram[1], datagram[2], datagram[3]]);
        let shot = usize::try_from(number)
            .ok()
            .and_then(|at| self.shots.get_mut(at));
        match shot {
            Some(shot) if datagram[..length] == payload(number, size) => {
                if shot.answers.is_empty() {
                    self.order.push(number);
                }
                shot.answers.push(now - shot.sent);
            }
            _ => self.damaged += 1,
        }
        Ok(true)
    }

    /// The round-trip times of those that came back.
    pub fn times(&self) -> Vec<Duration> {
        self.shots
            .iter()
            .filter_map(|shot| shot.answers.first().copied())
            .collect()
    }

    /// The share that did not come back, from 0 to 1.
    pub fn loss(&self) -> f64 {
        self.share(|shot| shot.answers.is_empty())
    }

    /// The share that came back more than once, from 0 to 1.
    pub fn duplicates(&self) -> f64 {
        self.share(|shot| shot.answers.len() > 1)
    }

    /// The share of those that came back which were overtaken by a later one.
    pub fn overtaken(&self) -> f64 {
        let mut highest = None;
        let overtaken = self.order.iter().filter(|number| {
            let late = highest.is_some_and(|h| h > **number);
            highest = highest.max(Some(**number));
            late
        });
        ratio(overtaken.count(), self.order.len())
    }

    /// The mean number of datagrams lost in a row.
    pub fn burst_length(&self) -> f64 {
        let lost: Vec<bool> = self
            .shots
            .iter()
            .map(|shot| shot.answers.is_empty())
            .collect();
        let bursts = lost.chunk_by(|a, b| a == b).filter(|run| run[0]).count();
        ratio(lost.iter().filter(|lost| **lost).count(), bursts)
    }

    fn share(&self, which: impl Fn(&Shot) -> bool) -> f64 {
        ratio(
            self.shots.iter().filter(|shot| which(shot)).count(),
            self.shots.len(),
        )
    }
}

/// A duplicate follows its original within this.
const DUPLICATES_WITHIN: Duration = Duration::from_millis(30);

/// The value below which `share` (0 to 1) of `times` lie; zero of none.
pub fn quantile(times: &[Duration], share: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    let at = ((sorted.len() as f64) * share) as usize;
    sorted
        .get(at.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

fn payload(number: u32, size: usize) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend_from_slice(&(!number).to_be_bytes());
    bytes.resize(size.max(HEAD_BYTES), 0x5a);
    bytes
}

/// ENETUNREACH, EHOSTUNREACH, EPERM, EACCES: what ICMP and netfilter answer.
fn unreachable(errno: i32) -> bool {
    let answers = [
        Errno::ENETUNREACH,
        Errno::EHOSTUNREACH,
        Errno::EPERM,
        Errno::EACCES,
        Errno::ECONNREFUSED,
    ];
    answers.contains(&Errno::from_raw(errno))
}

/// Throws away what an earlier volley left in the socket, and leaves it non-blocking.
fn drain(socket: &UdpSocket) -> Result<()> {
    socket.set_nonblocking(true)?;
    let mut datagram = [0; 2048];
    while socket.recv(&mut datagram).is_ok() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volley(answers: &[&[u64]], order: &[u32]) -> Volley {
        let shot = |ms: &&[u64]| Shot {
            sent: Instant::now(),
            answers: ms.iter().map(|ms| Duration::from_millis(*ms)).collect(),
            refused: false,
        };
        Volley {
            shots: answers.iter().map(shot).collect(),
            order: order.to_vec(),
            damaged: 0,
        }
    }

    #[test]
    fn shares_are_counted() {
        let volley = volley(&[&[1], &[], &[], &[2, 2], &[3], &[]], &[0, 4, 3]);
        assert!((volley.loss() - 0.5).abs() < 1e-9);
        assert!((volley.duplicates() - 1.0 / 6.0).abs() < 1e-9);
        assert!((volley.burst_length() - 1.5).abs() < 1e-9);
        assert!((volley.overtaken() - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!(quantile(&volley.times(), 0.5), Duration::from_millis(2));
    }

    #[test]
    fn nothing_sent_is_nothing_lost() {
        let none = volley(&[], &[]);
        assert!(none.loss() == 0.0 && none.burst_length() == 0.0 && none.overtaken() == 0.0);
        assert_eq!(quantile(&[], 0.99), Duration::ZERO);
    }
}
