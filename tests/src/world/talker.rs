//! Talkers: real processes that speak to services when they are told to, with sockets of their own. They are this very
//! program, started again, as victims are.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use super::netns::Netns;
use super::tcp::Echo;
use super::{Result, dns, http};

/// The first argument by which this program knows that it is to be a talker.
const ROLE: &str = "be-a-talker";
/// Longer than any connection takes to come about.
const PATIENCE: Duration = Duration::from_secs(5);

/// A process that talks.
#[derive(Debug)]
pub struct Talker {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

/// One of a talker's sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line(usize);

/// What came of a question: how long its answer took, or in which way none came.
pub type Told = std::result::Result<Duration, String>;

impl Talker {
    /// Starts one in a namespace, as a user where one is named, with `tag` in its command line.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(netns: &Netns, tag: &str, user: Option<u32>) -> Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.args([ROLE, tag]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(user) = user {
            command.uid(user);
        }
        let mut child = netns.enter(|| Ok(command.spawn()?))?;
        let answers = child.stdout.take().ok_or("a talker without a mouth")?;
        Ok(Self {
            child,
            answers: BufReader::new(answers),
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Opens a UDP socket towards `to`.
    ///
    /// # Errors
    /// When it cannot.
    pub fn udp(&mut self, to: SocketAddr) -> Result<Line> {
        self.open(&format!("udp {to}"))
    }

    /// Opens a TCP connection to `to`.
    ///
    /// # Errors
    /// When there is none, in the kernel's words.
    pub fn tcp(&mut self, to: SocketAddr) -> Result<Line> {
        self.open(&format!("tcp {to}"))
    }

    /// Serves what it is sent back, at an address of its own.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn serve(&mut self, at: SocketAddr) -> Result<()> {
        self.say(&format!("serve {at}"))?
            .map(drop)
            .map_err(Into::into)
    }

    /// Serves requests at an address of its own; all of them succeed.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn serve_web(&mut self, at: SocketAddr) -> Result<()> {
        self.say(&format!("web {at}"))?
            .map(drop)
            .map_err(Into::into)
    }

    /// Says something, and waits for it to come back.
    ///
    /// # Errors
    /// When the talker itself is gone.
    pub fn ask(&mut self, line: Line, patience: Duration) -> Result<Told> {
        let told = self.say(&format!("ask {} {}", line.0, patience.as_millis()))?;
        Ok(told.map(Duration::from_micros))
    }

    /// Asks a resolver for a name, over TCP or UDP, with a socket of its own; the response code, or why there is none.
    ///
    /// # Errors
    /// When the talker itself is gone.
    pub fn look_up(
        &mut self,
        at: IpAddr,
        over_tcp: bool,
    ) -> Result<std::result::Result<u64, String>> {
        let over = if over_tcp { "tcp" } else { "udp" };
        self.say(&format!("name {at} {over}"))
    }

    /// Asks a web service on a connection of its own; the status, or why there is none.
    ///
    /// # Errors
    /// When the talker itself is gone.
    pub fn get(&mut self, at: SocketAddr) -> Result<std::result::Result<u64, String>> {
        self.say(&format!("get {at}"))
    }

    /// Closes a socket.
    ///
    /// # Errors
    /// When the talker itself is gone.
    pub fn close(&mut self, line: Line) -> Result<()> {
        self.say(&format!("close {}", line.0))?
            .map(drop)
            .map_err(Into::into)
    }

    fn open(&mut self, what: &str) -> Result<Line> {
        let number = self.say(what)?.map_err(|why| format!("{what}: {why}"))?;
        Ok(Line(usize::try_from(number)?))
    }

    fn say(&mut self, what: &str) -> Result<std::result::Result<u64, String>> {
        let stdin = self.child.stdin.as_mut().ok_or("a talker without ears")?;
        writeln!(stdin, "{what}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        match answer.trim_end().split_once(' ') {
            Some(("ok", number)) => Ok(Ok(number.parse()?)),
            Some(("no", why)) => Ok(Err(why.to_owned())),
            _ => Err(format!("a talker answered {answer:?} to {what}").into()),
        }
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        // Dead already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Call this first in `main` of a program that starts talkers.
pub fn main_if_talker() -> Option<ExitCode> {
    if std::env::args().nth(1).as_deref() != Some(ROLE) {
        return None;
    }
    let mut talk = Talk::default();
    for told in std::io::stdin().lines() {
        let Ok(told) = told else { break };
        let answer = match talk.obey(&told) {
            Ok(number) => format!("ok {number}\n"),
            Err(error) => format!("no {error}\n"),
        };
        let mut out = std::io::stdout();
        if out
            .write_all(answer.as_bytes())
            .and_then(|()| out.flush())
            .is_err()
        {
            break;
        }
    }
    Some(ExitCode::SUCCESS)
}

#[derive(Default)]
struct Talk {
    lines: Vec<Option<Socket>>,
    services: Vec<Echo>,
    webs: Vec<http::Service>,
}

enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Talk {
    fn obey(&mut self, told: &str) -> Result<u64> {
        let words: Vec<&str> = told.split(' ').collect();
        match words[..] {
            ["udp", to] => {
                let to: SocketAddr = to.parse()?;
                let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any)?;
                socket.connect(to)?;
                Ok(self.add(Socket::Udp(socket)))
            }
            ["tcp", to] => {
                let stream = TcpStream::connect_timeout(&to.parse()?, PATIENCE)?;
                stream.set_nodelay(true)?;
                Ok(self.add(Socket::Tcp(stream)))
            }
            ["serve", at] => {
                self.services.push(Echo::start_here(at.parse()?)?);
                Ok(0)
            }
            ["web", at] => {
                self.webs.push(http::Service::here(at.parse()?)?);
                Ok(0)
            }
            ["ask", line, patience] => {
                let patience = Duration::from_millis(patience.parse()?);
                let line = self.lines.get_mut(line.parse::<usize>()?);
                let socket = line.and_then(Option::as_mut).ok_or("no such line")?;
                Ok(u64::try_from(ask(socket, patience)?.as_micros())?)
            }
            ["name", at, over] => {
                let mut client = dns::Client::here(at.parse()?)?;
                let told = match over {
                    "tcp" => client.ask_by_tcp_here("db.shop", dns::A, PATIENCE)?,
                    _ => client.ask("db.shop", dns::A, PATIENCE)?,
                };
                Ok(told.ok_or("no answer came")?.code.into())
            }
            ["get", at] => {
                let stream = TcpStream::connect_timeout(&at.parse()?, PATIENCE)?;
                Ok(http::get_on(&stream, "/", PATIENCE)?.status.into())
            }
            ["close", line] => {
                let line = self.lines.get_mut(line.parse::<usize>()?);
                *line.ok_or("no such line")? = None;
                Ok(0)
            }
            _ => Err(format!("a talker was told {told:?}").into()),
        }
    }

    fn add(&mut self, socket: Socket) -> u64 {
        self.lines.push(Some(socket));
        self.lines.len() as u64 - 1
    }
}

fn ask(socket: &mut Socket, patience: Duration) -> Result<Duration> {
    let begun = Instant::now();
    let words = question();
    let mut heard = [0; 8];
    match socket {
        Socket::Udp(socket) => {
            socket.send(&words)?;
            while heard != words {
                let left = patience.saturating_sub(begun.elapsed());
                if left.is_zero() {
                    return Err(std::io::Error::from(ErrorKind::TimedOut).into());
                }
                socket.set_read_timeout(Some(left))?;
                socket.recv(&mut heard)?;
            }
        }
        Socket::Tcp(stream) => {
            stream.set_read_timeout(Some(patience))?;
            stream.write_all(&words)?;
            stream.read_exact(&mut heard)?;
        }
    }
    Ok(begun.elapsed())
}

/// Eight bytes that no earlier question had: a late answer to one is not taken for one to this.
fn question() -> [u8; 8] {
    use std::sync::atomic::{AtomicU64, Ordering};
    static ASKED: AtomicU64 = AtomicU64::new(1);
    ASKED.fetch_add(1, Ordering::Relaxed).to_ne_bytes()
}
