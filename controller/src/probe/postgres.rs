//! One query to PostgreSQL, or to what speaks as it does.

use super::client::{of_tls, reason};
use super::dial::{Dialing, Kept, Stream};
use super::secret::Secrets;
use super::{ProbeError, Seen};
use crate::judge::Outcome;
use futures_util::StreamExt;
use squall_experiments::probe::Postgres;
use std::error::Error as _;
use std::io;
use std::pin::pin;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, Error, NoTls, SimpleQueryMessage};

/// So many rows are stepped over; a probe that asks for more loads the database that it should only look at.
const ROWS_MAX: u32 = 1_000;

/// So much of a server's own words is passed on.
const WORDS_CHARS_MAX: usize = 300;

/// Asks for TLS (PostgreSQL's manual, "SSLRequest"): the length, and a version that is none.
const TLS_PLEASE: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A query, ready to be asked again and again.
pub(super) struct Querying {
    dialing: Dialing,
    login: Config,
    query: String,
    secrets: Secrets,
    kept: Kept<Session>,
}

/// A connection that is logged in; its task ends with it.
struct Session {
    client: Client,
    _task: JoinSet<()>,
}

/// Why there is no result.
enum Trouble {
    /// The server cannot be spoken to.
    Io(io::Error),
    /// It answered with an error, or its connection broke.
    Postgres(Error),
    /// What it answered is of no use.
    Said(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Postgres(error)
    }
}

impl Querying {
    /// Makes ready: reads the password and the certificates that are named.
    pub(super) fn new(probe: &str, postgres: &Postgres) -> Result<Self, ProbeError> {
        let mut secrets = Secrets::default();
        let mut login = Config::new();
        login
            .user(&postgres.user)
            .dbname(&postgres.database)
            .application_name("squall")
            // TLS is spoken below it, with the same settings as any other probe's.
            .ssl_mode(SslMode::Disable);
        if let Some(place) = &postgres.password {
            login.password(secrets.read(probe, place)?.reveal());
        }
        // In one message, and so in one transaction: it only reads, and ends on the server, too, when nobody waits for it any more.
        let query = format!(
            "set local statement_timeout = {}; set transaction read only; {}",
            postgres.timeout.duration().as_millis().max(1),
            postgres.query
        );
        Ok(Self {
            dialing: Dialing::new(probe, &postgres.address, postgres.tls.as_ref(), None)?,
            login,
            query,
            secrets,
            kept: Kept::new(postgres.connection),
        })
    }

    pub(super) async fn ask(&self) -> Seen {
        let first = match self.round_trip().await {
            Ok(first) => first,
            Err(trouble) => return Seen::only(self.outcome(trouble)),
        };
        let value = first.and_then(|text| text.trim().parse().ok());
        Seen {
            value: value.filter(|value: &f64| value.is_finite()),
            ..Seen::only(Outcome::Success)
        }
    }

    /// The first column of the first row, where there is one.
    async fn round_trip(&self) -> Result<Option<String>, Trouble> {
        if let Some(session) = self.kept.take()
            && !session.client.is_closed()
        {
            match self.query(&session).await {
                // Over since the last attempt: what a service's pool opens anew, and a query that only reads can be asked twice.
                Err(Trouble::Postgres(error)) if is_over(&error) => {}
                answer => return self.keep(session, answer),
            }
        }
        let session = self.connect().await?;
        let answer = self.query(&session).await;
        self.keep(session, answer)
    }

    /// An error of the query's own leaves the session as good as it was.
    fn keep<T>(&self, session: Session, answer: Result<T, Trouble>) -> Result<T, Trouble> {
        let usable = match &answer {
            Ok(_) => true,
            Err(Trouble::Postgres(error)) => error.as_db_error().is_some() && !is_over(error),
            Err(_) => false,
        };
        if usable && !session.client.is_closed() {
            self.kept.put(session);
        }
        answer
    }

    async fn connect(&self) -> Result<Session, Trouble> {
        let mut tcp = self.dialing.connect_plain().await?;
        if self.dialing.is_tls() {
            tcp.write_all(&TLS_PLEASE).await?;
            // One byte, and none of what follows: that is TLS already.
            match tcp.read_u8().await? {
                b'S' => {}
                b'N' => return Err(Trouble::Said("the server does not speak TLS".into())),
                _ => return Err(Trouble::Said("the answer is not PostgreSQL's".into())),
            }
        }
        let stream: Stream = self.dialing.secure(tcp).await?;
        let (client, connection) = self.login.connect_raw(stream, NoTls).await?;
        let mut task = JoinSet::new();
        task.spawn(async {
            // Its error is the client's next one.
            let _ended = connection.await;
        });
        Ok(Session {
            client,
            _task: task,
        })
    }

    async fn query(&self, session: &Session) -> Result<Option<String>, Trouble> {
        let mut messages = pin!(session.client.simple_query_raw(&self.query).await?);
        let (mut first, mut rows) = (None, 0);
        while let Some(message) = messages.next().await {
            if let SimpleQueryMessage::Row(row) = message? {
                rows += 1;
                if rows == 1 {
                    first = row.try_get(0).ok().flatten().map(str::to_owned);
                }
                if rows > ROWS_MAX {
                    let why = format!("more than {ROWS_MAX} rows; add `limit 1` to the query");
                    return Err(Trouble::Said(why));
                }
            }
        }
        Ok(first)
    }

    fn outcome(&self, trouble: Trouble) -> Outcome {
        let error = match trouble {
            Trouble::Io(error) => return Outcome::Unanswered(reason(&error)),
            Trouble::Said(why) => return Outcome::Failed(why),
            Trouble::Postgres(error) => error,
        };
        match error.as_db_error() {
            Some(said) => {
                let words = format!("SQLSTATE {}: {}", said.code().code(), said.message());
                let words = self.secrets.hide(words);
                Outcome::Failed(words.chars().take(WORDS_CHARS_MAX).collect())
            }
            // The connection, or what came over it.
            None if is_foreign(&error) => Outcome::Unanswered(format!(
                "the answer is not PostgreSQL's, or broke off: {}",
                reason(&error)
            )),
            None => Outcome::Unanswered(self.secrets.hide(reason(&error))),
        }
    }
}

/// Whether the session ended, rather than the query failed: the connection is gone, or the server said that it hangs up (class 57P:
/// shut down, crashed, idle for too long).
fn is_over(error: &Error) -> bool {
    let code = error.as_db_error().map(|said| said.code().code());
    error.is_closed() || code.is_some_and(|code| code.starts_with("57P"))
}

/// Whether the bytes that came make no sense, rather than that none came: the library then makes an I/O error that no system call gave.
fn is_foreign(error: &Error) -> bool {
    let io = error
        .source()
        .and_then(|error| error.downcast_ref::<io::Error>());
    let made = [
        io::ErrorKind::Other,
        io::ErrorKind::InvalidInput,
        io::ErrorKind::InvalidData,
    ];
    io.is_some_and(|error| {
        made.contains(&error.kind()) && error.raw_os_error().is_none() && of_tls(error).is_none()
    })
}
