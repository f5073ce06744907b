//! PostgreSQL and Redis.

use super::Failure;
use super::cell::{Case, Cell};
use super::servers::Servers;
use crate::peer;
use crate::service::secret;
use lab::world::Result;
use std::net::SocketAddr;

const POSTGRES: &str = "PostgreSQL";
const REDIS: &str = "Redis";
const PEER: &str = "a peer";
const NOT_INSTALLED: &str = "the server is not installed here";

pub(super) fn postgres(failure: Failure, servers: &Servers) -> Result<Cell> {
    let Some(real) = &servers.postgres else {
        return Ok(Cell::Senseless(NOT_INSTALLED));
    };
    let password = secret(real.secrets.path(), "password", crate::postgres::PASSWORD)?;
    let of = |host: &str, more: &str| {
        let port = real.address.port();
        let database = match more.contains("database:") {
            true => "",
            false => ", database: postgres",
        };
        format!("address: \"{host}:{port}\", user: squall, {password}{database}{more}")
    };
    let peer = |address: SocketAddr| format!("address: \"{address}\", user: squall");
    Ok(Cell::Runs(match failure {
        Failure::Down => vec![Case::new("nobody", peer(servers.nobody), &["refused"])],
        Failure::Slow => {
            let asleep = of("127.0.0.1", ", query: select pg_sleep(60), connection: new");
            let words: &[&str] = &["no answer within 300ms"];
            vec![
                Case::new(PEER, peer(servers.silent), words).in_vain(),
                // The server gives up as soon as the probe does: on a busy machine its own words may be there first.
                Case::new(POSTGRES, asleep, &[]).in_vain(),
            ]
        }
        Failure::Tls => {
            let ca = |of: &crate::certificates::Certificates| {
                format!(", tls: {{ ca: {} }}", of.ca().display())
            };
            let own = ca(&real.certificates);
            let no_tls = format!("{}{own}", peer(peer::saying(b"N")?));
            let demanding = of("localhost", &format!("{own}, database: template1"));
            vec![
                Case::new(
                    POSTGRES,
                    of("localhost", &ca(&servers.foreign)),
                    &["invalid peer certificate"],
                ),
                Case::new(
                    POSTGRES,
                    of("127.0.0.1", &own),
                    &["certificate not valid for name"],
                ),
                Case::new(
                    POSTGRES,
                    demanding,
                    &["SQLSTATE 28000", "client certificate"],
                ),
                Case::new(PEER, no_tls, &["does not speak TLS"]),
            ]
        }
        Failure::Auth => {
            let wrong = format!("password: {{ file: {} }}", servers.path("wrong"));
            let right = of("127.0.0.1", "");
            let wrong = right.replace(&password, &wrong);
            let words: &[&str] = &["SQLSTATE 28P01", "password"];
            let without = right.replace(&format!(", {password}"), "");
            vec![
                Case::new(POSTGRES, wrong, words),
                Case::new(POSTGRES, without, &["password missing"]),
                Case::new(
                    POSTGRES,
                    right.replace("user: squall", "user: nobody"),
                    words,
                ),
            ]
        }
        Failure::Garbage => vec![
            Case::new(PEER, peer(servers.rubbish), &["not PostgreSQL's"]),
            Case::new(
                POSTGRES,
                of("127.0.0.1", ", query: select nothing"),
                &["SQLSTATE 42703", "nothing"],
            ),
        ],
        Failure::Empty => vec![
            Case::new(PEER, peer(servers.mute), &["closed"]),
            Case::new(
                POSTGRES,
                of("127.0.0.1", ", query: select 1 where false"),
                &["no value"],
            )
            .seen_by("value >= 1"),
        ],
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
            let ca = |of: &crate::certificates::Certificates| {
                format!(", tls: {{ ca: {} }}", of.ca().display())
            };
            let own = ca(&real.certificates);
            let no_tls = plain(&format!(", {password}{own}")).replace("127.0.0.1", "localhost");
            vec![
                Case::new(
                    REDIS,
                    tls("localhost", &ca(&servers.foreign)),
                    &["invalid peer certificate"],
                ),
                Case::new(
                    REDIS,
                    tls("127.0.0.1", &own),
                    &["certificate not valid for name"],
                ),
                // It waits for the end of a command that never comes.
                Case::new(REDIS, no_tls, &["no answer within 300ms"]).in_vain(),
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
