//! A server that says what a test wants to hear: for failures that no real one can be made to show, and for answers that
//! were recorded elsewhere.

use super::Result;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// What it is asked, and how it answers.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET /path?query`.
    pub line: String,
    /// In lower case, `name: value`.
    pub headers: Vec<String>,
    /// All of it.
    pub body: String,
}

impl Asked {
    /// A header's value; its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut pairs = self.headers.iter().filter_map(|line| line.split_once(": "));
        pairs
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }
}

/// What it says.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// The status.
    pub status: u16,
    /// Header lines, each with its line break.
    pub head: String,
    /// What comes after.
    pub body: String,
}

impl Said {
    /// Without more headers.
    #[allow(clippy::unnecessary_wraps, reason = "what an answer is made of")]
    pub fn new(status: u16, body: impl Into<String>) -> Option<Self> {
        Some(Self {
            status,
            head: String::new(),
            body: body.into(),
        })
    }
}

/// A server on loopback; its threads end with the test program.
#[derive(Debug)]
pub struct Stub {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Stub {
    /// Answers each request with what `answer` makes of it: a status and a body, or nothing for a server that never says a word.
    ///
    /// # Errors
    /// There is no port for it.
    pub fn start(answer: impl Fn(&Asked) -> Option<Said> + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (answer, heard) = (Arc::new(answer), Arc::clone(&asked));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, heard) = (Arc::clone(&answer), Arc::clone(&heard));
                thread::spawn(move || serve(stream, &*answer, &heard));
            }
        });
        Ok(Self { address, asked })
    }

    /// Always the same.
    ///
    /// # Errors
    /// There is no port for it.
    pub fn saying(status: u16, body: &str) -> Result<Self> {
        let body = body.to_owned();
        Self::start(move |_| Said::new(status, body.clone()))
    }

    /// Accepts and never answers.
    ///
    /// # Errors
    /// There is no port for it.
    pub fn silent() -> Result<Self> {
        Self::start(|_| None)
    }

    /// Everything it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.clone()
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn serve(
    stream: TcpStream,
    answer: &(dyn Fn(&Asked) -> Option<Said> + Send + Sync),
    heard: &Mutex<Vec<Asked>>,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let asked = request(&mut reader)?;
        heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(asked.clone());
        let Some(Said { status, head, body }) = answer(&asked) else {
            // Until the other side has enough.
            let _rest = reader.read_to_end(&mut Vec::new());
            return None;
        };
        let length = body.len();
        let said =
            format!("HTTP/1.1 {status} Said\r\n{head}content-length: {length}\r\n\r\n{body}");
        writer.write_all(said.as_bytes()).ok()?;
    }
}

fn request(reader: &mut impl BufRead) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut headers = Vec::new();
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader
            .read_line(&mut header)
            .ok()
            .filter(|read| *read > 0)?;
        let Some((name, value)) = header.trim_end().split_once(':') else {
            break;
        };
        let (name, value) = (name.to_lowercase(), value.trim());
        if name == "content-length" {
            length = value.parse().ok()?;
        }
        headers.push(format!("{name}: {value}"));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked {
        line: line.trim_end().to_owned(),
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
