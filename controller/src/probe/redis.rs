//! One command to Redis, or to what speaks as it does.

mod resp;

use super::client::reason;
use super::dial::{Dialing, Kept, Stream};
use super::secret::Secrets;
use super::{ProbeError, Seen};
use crate::judge::Outcome;
use resp::Reply;
use squall_experiments::probe::Redis;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// So much of a server's own words is passed on.
const WORDS_CHARS_MAX: usize = 200;

/// A command, ready to be sent again and again.
pub(super) struct Commanding {
    dialing: Dialing,
    /// What logs in and chooses the database, with what failed where it fails.
    greetings: Vec<(&'static str, Vec<u8>)>,
    command: Vec<u8>,
    secrets: Secrets,
    kept: Kept<Stream>,
}

/// Why there is no reply to judge.
enum Trouble {
    /// The connection does not work. A kept one may have been closed meanwhile.
    Io(io::Error),
    /// The server said no, or something else.
    Said(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Commanding {
    /// Makes ready: reads the password and the certificates that are named.
    pub(super) fn new(probe: &str, redis: &Redis) -> Result<Self, ProbeError> {
        let mut secrets = Secrets::default();
        let mut greetings = Vec::new();
        if let Some(place) = &redis.password {
            let password = secrets.read(probe, place)?;
            let mut words = vec!["AUTH"];
            words.extend(redis.user.as_deref());
            words.push(password.reveal());
            greetings.push(("the login", resp::command(words.into_iter())));
        }
        if redis.db != 0 {
            let number = redis.db.to_string();
            let select = resp::command(["SELECT", &number].into_iter());
            greetings.push(("the choice of the database", select));
        }
        Ok(Self {
            dialing: Dialing::new(probe, &redis.address, redis.tls.as_ref(), None)?,
            greetings,
            command: resp::command(redis.command.iter().map(String::as_str)),
            secrets,
            kept: Kept::new(redis.connection),
        })
    }

    pub(super) async fn send(&self) -> Seen {
        match self.round_trip().await {
            Ok(reply) => self.seen(reply),
            Err(Trouble::Io(error)) => Seen::only(Outcome::Unanswered(reason(&error))),
            Err(Trouble::Said(words)) => Seen::only(Outcome::Failed(words)),
        }
    }

    async fn round_trip(&self) -> Result<Reply, Trouble> {
        if let Some(mut stream) = self.kept.take() {
            match exchange(&mut stream, &self.command).await {
                Ok(reply) => return Ok(self.keep(stream, reply)),
                Err(Trouble::Said(words)) => return Err(Trouble::Said(words)),
                // Closed since the last attempt: what a service's pool opens anew, and commands here can be sent twice.
                Err(Trouble::Io(_)) => {}
            }
        }
        let mut stream = self.dialing.connect().await?;
        for (what, greeting) in &self.greetings {
            if let Reply::Error(words) = exchange(&mut stream, greeting).await? {
                return Err(Trouble::Said(
                    self.words(&format!("{what} failed: {words}")),
                ));
            }
        }
        let reply = exchange(&mut stream, &self.command).await?;
        Ok(self.keep(stream, reply))
    }

    fn keep(&self, stream: Stream, reply: Reply) -> Reply {
        self.kept.put(stream);
        reply
    }

    fn seen(&self, reply: Reply) -> Seen {
        let value = match &reply {
            #[expect(clippy::cast_precision_loss, reason = "exact to 2^53")]
            Reply::Number(number) => Some(*number as f64),
            Reply::Bulk(bytes) => std::str::from_utf8(bytes)
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .filter(|value: &f64| value.is_finite()),
            _ => None,
        };
        let outcome = match reply {
            Reply::Error(words) => Outcome::Failed(self.words(&words)),
            Reply::Nil => Outcome::Failed("nil: there is no such key".into()),
            _ => Outcome::Success,
        };
        Seen {
            value,
            ..Seen::only(outcome)
        }
    }

    /// What the server said, without secrets and not at length.
    fn words(&self, words: &str) -> String {
        let words = self.secrets.hide(words.to_owned());
        words.chars().take(WORDS_CHARS_MAX).collect()
    }
}

/// Sends a command and reads the reply to it. Whatever comes after the reply was not asked for, and breaks the connection.
async fn exchange(stream: &mut Stream, command: &[u8]) -> Result<Reply, Trouble> {
    stream.write_all(command).await?;
    stream.flush().await?;
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            let error = "the server closed the connection";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error).into());
        }
        match resp::reply(&bytes) {
            Ok(None) => {}
            Ok(Some((reply, length))) if length == bytes.len() => return Ok(reply),
            Ok(Some(_)) => return Err(Trouble::Said("the server said more than one reply".into())),
            Err(garbage) => return Err(Trouble::Said(garbage.to_string())),
        }
    }
}
