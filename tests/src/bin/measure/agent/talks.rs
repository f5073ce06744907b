//! Real services that are asked over a wire, each on one connection, and always the same: nginx, Redis, PostgreSQL.
//!
//! Each is there twice. Where both ends are on one processor, what a request takes is the work that is done for it, and that is how many
//! a busy machine can serve. Where each has its own, it is what a client waits, as between two machines with no distance between them.

use std::any::Any;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use lab::vm::on_path;
use lab::world::nginx::Nginx;
use lab::world::postgres::{Data, USER, programs};
use lab::world::service::{Service, folder, inside, unprivileged};
use lab::world::wire::{Ip, Wire, neighbour};
use lab::world::{Result, until};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::cores::Cores;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a server may take to start.
const START_LIMIT: Duration = Duration::from_secs(20);
/// The first port they listen on.
const PORT: u16 = 7100;
/// What every one of them is asked for.
const VALUE: &str = "served, and gladly";
/// How PostgreSQL ends an answer: ReadyForQuery, idle (its manual, "Message Formats").
const READY: [u8; 6] = [b'Z', 0, 0, 0, 5, b'I'];

/// A connection to a server, which ends with it.
pub(super) struct Talk {
    /// What one question is.
    pub(super) what: String,
    stream: TcpStream,
    question: Vec<u8>,
    end: Vec<u8>,
    _server: Box<dyn Any>,
}

/// Two with each server that this machine has, where it has a second processor; they are where nothing names them.
pub(super) fn all(wire: &Wire, cores: &Cores) -> Result<Vec<Talk>> {
    let mut talks = each(wire, "one processor", PORT)?;
    if cores.several() {
        cores.to_others()?;
        talks.extend(each(wire, "two processors", PORT + 10)?);
        cores.to_first()?;
    }
    Ok(talks)
}

/// One with each server, which is on the processor of whoever calls.
fn each(wire: &Wire, place: &str, port: u16) -> Result<Vec<Talk>> {
    let at = |more| SocketAddr::new(neighbour(Ip::V4), port + more);
    let nginx = on_path("nginx").map(|_| nginx(wire, at(0)));
    let redis = on_path("redis-check-rdb").map(|program| redis(wire, at(1), &program));
    let postgres = programs().map(|programs| postgres(wire, at(2), &programs));
    let talks = [nginx, redis, postgres].into_iter().flatten();
    talks
        .map(|talk| {
            talk.map(|talk| Talk {
                what: format!("{}, {place}", talk.what),
                ..talk
            })
        })
        .collect()
}

impl Talk {
    /// Asks once, and waits for the whole answer.
    pub(super) fn ask(&mut self) -> Result<()> {
        self.stream.write_all(&self.question)?;
        read_to(&mut self.stream, &self.end)
            .map(drop)
            .map_err(|error| format!("{}: {error}", self.what).into())
    }
}

fn nginx(wire: &Wire, at: SocketAddr) -> Result<Talk> {
    let home = TempDir::new()?;
    let long = "client_header_timeout 1h; keepalive_timeout 1h; keepalive_requests 1000000000;";
    let server = format!("{long} return 200 '{VALUE}';");
    let nginx = Nginx::start(&wire.peer, at, false, &server, home.path())?;
    Ok(Talk {
        what: "request to nginx".into(),
        stream: reach(wire, at)?,
        question: b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n".to_vec(),
        end: VALUE.into(),
        _server: Box::new((nginx, home)),
    })
}

/// The program is a server where it is called by that name.
fn redis(wire: &Wire, at: SocketAddr, program: &Path) -> Result<Talk> {
    let home = folder()?;
    let named = home.path().join("redis-server");
    symlink(program, &named)?;
    let mut command = unprivileged(named, Signal::SIGKILL);
    command.args(["--bind", &at.ip().to_string(), "--protected-mode", "no"]);
    command.args(["--port", &at.port().to_string(), "--save", ""]);
    let command = inside(&wire.peer, &command);
    let server = Service::start(command, Signal::SIGKILL, home, &[])?;
    let mut stream = reach(wire, at)?;
    write!(stream, "SET shop \"{VALUE}\"\r\n")?;
    read_to(&mut stream, b"+OK\r\n")?;
    Ok(Talk {
        what: "GET to Redis".into(),
        stream,
        question: b"*2\r\n$3\r\nGET\r\n$4\r\nshop\r\n".to_vec(),
        end: format!("{VALUE}\r\n").into(),
        _server: Box::new(server),
    })
}

fn postgres(wire: &Wire, at: SocketAddr, programs: &Path) -> Result<Talk> {
    let server = Data::new(programs, None)?.start_in(&wire.peer, at)?;
    // It listens before it lets anyone in.
    let greeted = || greeted(wire, at).ok();
    let mut stream = until("PostgreSQL lets us in", START_LIMIT, greeted)?;
    let rows = format!(
        "CREATE TABLE shops (id int PRIMARY KEY, says text);
         INSERT INTO shops SELECT id, '{VALUE}' FROM generate_series(1, 1000) id; ANALYZE shops"
    );
    stream.write_all(&query(&rows)?)?;
    read_to(&mut stream, &READY)?;
    let question = "SELECT says FROM shops WHERE id = 500";
    stream.write_all(&query(question)?)?;
    let answer = read_to(&mut stream, &READY)?;
    if !answer
        .windows(VALUE.len())
        .any(|some| some == VALUE.as_bytes())
    {
        return Err(format!("PostgreSQL: {}", String::from_utf8_lossy(&answer)).into());
    }
    Ok(Talk {
        what: "SELECT of a row to PostgreSQL".into(),
        stream,
        question: query(question)?,
        end: READY.to_vec(),
        _server: Box::new(server),
    })
}

/// A connection to PostgreSQL that has been let in.
fn greeted(wire: &Wire, at: SocketAddr) -> Result<TcpStream> {
    let mut stream = reach(wire, at)?;
    // StartupMessage: its length, protocol 3.0, and pairs of name and value.
    let who = format!("user\0{USER}\0database\0postgres\0\0");
    stream.write_all(&message(&[], &[&[0, 3, 0, 0], who.as_bytes()].concat())?)?;
    read_to(&mut stream, &READY)?;
    Ok(stream)
}

/// PostgreSQL's Query message.
fn query(text: &str) -> Result<Vec<u8>> {
    message(b"Q", format!("{text}\0").as_bytes())
}

/// One of PostgreSQL's messages: kind, length with its own four bytes, content.
fn message(kind: &[u8], content: &[u8]) -> Result<Vec<u8>> {
    let length = u32::try_from(content.len() + 4)?;
    Ok([kind, &length.to_be_bytes(), content].concat())
}

/// A connection from the victim's end, as soon as there is one.
fn reach(wire: &Wire, at: SocketAddr) -> Result<TcpStream> {
    let connect = || wire.victim.enter(|| Ok(TcpStream::connect(at)?)).ok();
    let stream = until(&format!("a server at {at}"), START_LIMIT, connect)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What comes until it ends so.
fn read_to(stream: &mut TcpStream, end: &[u8]) -> Result<Vec<u8>> {
    let (mut all, mut some) = (Vec::new(), [0; 1 << 12]);
    while !all.ends_with(end) {
        match stream.read(&mut some)? {
            0 => return Err(format!("over after {}", String::from_utf8_lossy(&all)).into()),
            more => all.extend_from_slice(&some[..more]),
        }
    }
    Ok(all)
}
