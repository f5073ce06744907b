//! One question to one name server.

mod message;

use super::{ProbeError, Seen};
use crate::judge::Outcome;
use message::Answer;
use squall_experiments::probe::{Dns, DnsTransport, RecordType};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, lookup_host};

/// Where the system says whom to ask.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Where name servers listen.
const PORT: u16 = 53;

/// The longest message there is.
const MESSAGE_BYTES_MAX: usize = u16::MAX as usize;

/// A question, ready to be asked again and again.
#[derive(Debug, Clone)]
pub(super) struct Asking {
    server: String,
    name: String,
    kind: RecordType,
    transport: DnsTransport,
}

impl Asking {
    pub(super) fn new(probe: &str, dns: &Dns) -> Result<Self, ProbeError> {
        let server = match &dns.server {
            Some(server) => server.clone(),
            None => of_this_machine(probe)?,
        };
        Ok(Self {
            server,
            name: dns.name.clone(),
            kind: dns.kind,
            transport: dns.transport,
        })
    }

    pub(super) async fn ask(&self) -> Seen {
        // A number that cannot be guessed, as for any resolver: somebody else's answer must not count as the server's.
        let question = message::question(rand::random(), &self.name, self.kind);
        let answer = match self.answer(&question).await {
            Ok(answer) => answer,
            Err(error) => {
                let reason = format!("{}: {error}", self.server);
                return Seen::only(Outcome::Unanswered(reason));
            }
        };
        match answer {
            Ok(answer) => Seen {
                value: records(answer),
                ..Seen::only(outcome(answer, self.kind))
            },
            Err(garbage) => Seen::only(Outcome::Failed(garbage.to_string())),
        }
    }

    async fn answer(&self, question: &[u8]) -> io::Result<Result<Answer, message::Garbage>> {
        let nowhere = || io::Error::other("the name server's own name has no address");
        let server = lookup_host(&self.server).await?.next();
        let server = server.ok_or_else(nowhere)?;
        let read = |bytes: Vec<u8>| message::read(&bytes, question, self.kind);
        if self.transport == DnsTransport::Udp {
            let answer = read(over_udp(server, question).await?);
            if !answer.is_ok_and(|answer| answer.truncated) {
                return Ok(answer);
            }
        }
        Ok(read(over_tcp(server, question).await?))
    }
}

/// What was seen of the records, as a number: none where the server says that there are none, nothing where it could not say.
fn records(answer: Answer) -> Option<f64> {
    match (answer.code, answer.truncated) {
        (0, false) => Some(f64::from(answer.records)),
        (NO_SUCH_NAME, _) => Some(0.0),
        _ => None,
    }
}

/// The response code for a name that does not exist.
const NO_SUCH_NAME: u16 = 3;

fn outcome(answer: Answer, kind: RecordType) -> Outcome {
    let kind = kind.word();
    Outcome::Failed(match answer.code {
        // Over UDP it has been asked for again.
        0 if answer.truncated => "the answer is truncated, even over TCP".to_owned(),
        0 if answer.records > 0 => return Outcome::Success,
        0 if answer.others > 0 => format!("no {kind} record in the answer, only other types"),
        0 => format!("NOERROR, but no {kind} record: the name exists without one"),
        1 => "FORMERR: the server did not understand the question".to_owned(),
        2 => "SERVFAIL: the server could not find it out".to_owned(),
        NO_SUCH_NAME => "NXDOMAIN: the name does not exist".to_owned(),
        4 => "NOTIMP: the server does not answer such questions".to_owned(),
        5 => "REFUSED: the server does not answer this question for us".to_owned(),
        code => format!("response code {code}"),
    })
}

/// One packet there and one back. Connected, so that the kernel takes packets from the server alone, and says so when nobody listens.
async fn over_udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut message = vec![0; MESSAGE_BYTES_MAX];
    let length = socket.recv(&mut message).await?;
    message.truncate(length);
    Ok(message)
}

/// One connection; each message follows its length (RFC 1035, section 4.2.2).
async fn over_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    // In one piece: some servers do not wait for the second.
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    let framed = [&length.to_be_bytes(), question].concat();
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await.map_err(ended)?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await.map_err(ended)?;
    Ok(message)
}

fn ended(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(
            error.kind(),
            "the server closed the connection before its answer was whole",
        ),
        _ => error,
    }
}

fn of_this_machine(probe: &str) -> Result<String, ProbeError> {
    let error = |source| ProbeError::NameServer {
        probe: probe.to_owned(),
        file: RESOLV_CONF,
        source,
    };
    let text = std::fs::read_to_string(RESOLV_CONF).map_err(error)?;
    let none = || error(io::Error::other("it names no name server"));
    first_name_server(&text).ok_or_else(none)
}

/// The address and port of the first `nameserver` line that has an address (resolv.conf(5)).
fn first_name_server(text: &str) -> Option<String> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let word = words.next().filter(|word| *word == "nameserver");
        let address: IpAddr = word.and(words.next())?.parse().ok()?;
        Some(SocketAddr::new(address, PORT).to_string())
    };
    text.lines().find_map(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_server_is_asked() {
        let first = |text| first_name_server(text);
        let text =
            "# nameserver 9.9.9.9\nsearch shop\nnameserver 10.0.0.53\nnameserver 10.0.0.54\n";
        assert_eq!(first(text).as_deref(), Some("10.0.0.53:53"));
        assert_eq!(
            first("nameserver\tfd00::53").as_deref(),
            Some("[fd00::53]:53")
        );
        assert_eq!(first("options ndots:5\nnameserver"), None);
    }

    #[test]
    fn a_code_has_its_name_and_only_a_statement_has_a_value() {
        let answer = |code, records, others| Answer {
            code,
            truncated: false,
            records,
            others,
        };
        let said = |answer| match outcome(answer, RecordType::Aaaa) {
            Outcome::Failed(reason) => reason,
            other => format!("{other:?}"),
        };
        assert_eq!(said(answer(0, 1, 1)), "Success");
        assert!(said(answer(0, 0, 1)).contains("no AAAA record"));
        assert!(said(answer(2, 0, 0)).contains("SERVFAIL"));
        assert!(said(answer(11, 0, 0)).contains("code 11"));
        assert_eq!(records(answer(3, 0, 0)), Some(0.0));
        assert_eq!(records(answer(2, 0, 0)), None);
    }
}
