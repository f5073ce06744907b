//! PostgreSQL and Redis.

use super::Failure;
use super::cell::{Case, Cell};
use super::servers::Servers;
use crate::certificates::Certificates;
use crate::peer;
use crate::postgres::Real;
use crate::secret;
use lab::world::Result;
use std::net::SocketAddr;

const POSTGRES: &str = "PostgreSQL";
const REDIS: &str = "Redis";
const PEER: &str = "a peer";
const NOT_INSTALLED: &str = "the server is not installed here";

/// How the `postgres` probe asks the real server.
struct Asking<'a> {
    real: &'a Real,
    password: String,
}

impl Asking<'_> {
    fn of(&self, host: &str, more: &str) -> String {
        let (port, password) = (self.real.address.port(), &self.password);
        let database = match more.contains("database:") {
            true => "",
            false => ", database: postgres",
        };
        format!("address: \"{host}:{port}\", user: squall, {password}{database}{more}")
    }

    fn tls(&self, servers: &Servers) -> Result<Vec<Case>> {
        let own = trusting(&self.real.certificates);
        let foreign = trusting(&servers.foreign);
        let demanding = self.of("localhost", &format!("{own}, database: template1"));
        let no_tls = format!("{}{own}", somebody(peer::saying(b"N")?));
        Ok(vec![
            Case::new(
                POSTGRES,
                self.of("localhost", &foreign),
                &["invalid peer certificate"],
            ),
            Case::new(
                POSTGRES,
                self.of("127.0.0.1", &own),
                &["certificate not valid for name"],
            ),
            Case::new(
                POSTGRES,
                demanding,
                &["SQLSTATE 28000", "client certificate"],
            ),
            Case::new(PEER, no_tls, &["does not speak TLS"]),
        ])
    }

    fn auth(&self, servers: &Servers) -> Vec<Case> {
        let right = self.of("127.0.0.1", "");
        let wrong = format!("password: {{ file: {} }}", servers.path("wrong"));
        let wrong = right.replace(&self.password, &wrong);
        let without = right.replace(&format!(", {}", self.password), "");
        let nobody = right.replace("user: squall", "user: nobody");
        let words: &[&str] = &["SQLSTATE 28P01", "password"];
        vec![
            Case::new(POSTGRES, wrong, words),
            Case::new(POSTGRES, without, &["password missing"]),
            Case::new(POSTGRES, nobody, words),
        ]
    }
}

fn trusting(authority: &Certificates) -> String {
    format!(", tls: {{ ca: {} }}", authority.ca().display())
}

/// A probe of somebody who is no PostgreSQL.
fn somebody(address: SocketAddr) -> String {
    format!("address: \"{address}\", user: squall")
}

pub(super) fn postgres(failure: Failure, servers: &Servers) -> Result<Cell> {
    let Some(real) = &servers.postgres else {
        return Ok(Cell::Senseless(NOT_INSTALLED));
    };
    let password = secret(real.secrets.path(), "password", crate::postgres::PASSWORD)?;
    let asking = Asking { real, password };
    let of = |more: &str| asking.of("127.0.0.1", more);
    Ok(Cell::Runs(match failure {
        Failure::Down => vec![Case::new("nobody", somebody(servers.nobody), &["refused"])],
        Failure::Slow => {
            let asleep = of(", query: select pg_sleep(60), connection: new");
            let silent = somebody(servers.silent);
            vec![
                Case::new(PEER, silent, &["no answer within 300ms"]).in_vain(),
                // The server gives up as soon as the probe does: on a busy machine its own words may be there first.
                Case::new(POSTGRES, asleep, &[]).in_vain(),
            ]
        }
        Failure::Tls => asking.tls(servers)?,
        Failure::Auth => asking.auth(servers),
        Failure::Garbage => vec![
            Case::new(PEER, somebody(servers.rubbish), &["not PostgreSQL's"]),
            Case::new(
                POSTGRES,
                of(", query: select nothing"),
                &["SQLSTATE 42703", "nothing"],
            ),
        ],
        Failure::Empty => {
            let nothing = Case::new(POSTGRES, of(", query: select 1 where false"), &["no value"]);
            vec![
                Case::new(PEER, somebody(servers.mute), &["closed"]),
                nothing.seen_by("value >= 1"),
            ]
        }
    }))
}

pub(super) fn redis(failure: Failure, servers: &Servers) -> Result<Cell> {
    let Some(real) = &servers.redis else {
        return Ok(Cell::Senseless(NOT_INSTALLED));
    };
    let password = secret(real.secrets.path(), "password", crate::redis::PASSWORD)?;
    let peer = |address: SocketAddr| format!("address: \"{address}\"");
    let plain = |more: &str| format!("address: \"{}\"{more}", real.plain);
    let tls = |host: &str, more: &str| {
        let port = real.tls.port();
        format!("address: \"{host}:{port}\", {password}{more}")
    };
    Ok(Cell::Runs(match failure {
        Failure::Down => vec![Case::new("nobody", peer(servers.nobody), &["refused"])],
        Failure::Slow => {
            let case = Case::new(PEER, peer(servers.silent), &["no answer within 300ms"]);
            vec![case.in_vain()]
        }
        Failure::Tls => {
            let own = trusting(&real.certificates);
            let no_tls = plain(&format!(", {password}{own}")).replace("127.0.0.1", "localhost");
            vec![
                Case::new(
                    REDIS,
                    tls("localhost", &trusting(&servers.foreign)),
                    &["invalid peer certificate"],
                ),
                Case::new(
                    REDIS,
                    tls("127.0.0.1", &own),
                    &["certificate not valid for name"],
                ),
                // It waits for the end of a command that never comes.
                Case::new(
                    REDIS,
                    no_tls,
                    &["no answer within 300ms", "does the other side speak TLS?"],
                )
                .in_vain(),
                Case::new(REDIS, tls("localhost", ""), &["onnection"]),
            ]
        }
        Failure::Auth => {
            let wrong = format!(", password: {{ file: {} }}", servers.path("wrong"));
            vec![
                Case::new(REDIS, plain(""), &["NOAUTH"]),
                Case::new(REDIS, plain(&wrong), &["the login failed", "password"]),
            ]
        }
        Failure::Garbage => vec![Case::new(
            PEER,
            peer(servers.rubbish),
            &["not in Redis' protocol"],
        )],
        Failure::Empty => vec![
            Case::new(PEER, peer(servers.mute), &["closed the connection"]),
            Case::new(
                REDIS,
                plain(&format!(", {password}, command: [ GET, nothing ]")),
                &["nil", "no such key"],
            ),
        ],
    }))
}
