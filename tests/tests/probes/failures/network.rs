//! What is asked over the network and is no web server: gRPC, DNS, and bare connections.

use super::Failure;
use super::cell::{Case, Cell};
use super::servers::Servers;
use crate::certificates::Certificates;
use crate::grpc::Real;
use crate::peer;
use lab::world::Result;
use lab::world::stub::Stub;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn};
use nix::sys::socket::{bind, getsockname, listen, socket};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

const GRPC: &str = "gRPC's server";
const DNSMASQ: &str = "dnsmasq";
const PEER: &str = "a peer";
const NOT_INSTALLED: &str = "the server is not installed here";

pub(super) fn grpc(failure: Failure, servers: &Servers) -> Result<Cell> {
    let Some(real) = &servers.grpc else {
        return Ok(Cell::Senseless(NOT_INSTALLED));
    };
    let peer = |address: SocketAddr| format!("address: \"{address}\"");
    let at = |port: usize, more: &str| grpc_at(real, port, more);
    Ok(Cell::Runs(match failure {
        Failure::Down => vec![Case::new("nobody", peer(servers.nobody), &["refused"])],
        Failure::Slow => {
            let case = Case::new(PEER, peer(servers.silent), &["no answer within 300ms"]);
            vec![case.in_vain()]
        }
        Failure::Tls => grpc_tls(real, servers),
        Failure::Auth => {
            let wrong = format!(
                ", service: guarded, auth: {{ bearer: {{ file: {} }} }}",
                servers.path("wrong")
            );
            vec![
                Case::new(
                    GRPC,
                    at(0, ", service: guarded"),
                    &["UNAUTHENTICATED", "no token"],
                ),
                Case::new(GRPC, at(0, &wrong), &["UNAUTHENTICATED", "•••"]),
            ]
        }
        Failure::Garbage => vec![
            Case::new(PEER, peer(servers.rubbish), &["not HTTP/2"]),
            Case::new(
                PEER,
                peer(Stub::saying(200, "<html>")?.address),
                &["not HTTP/2"],
            ),
        ],
        Failure::Empty => vec![
            Case::new(PEER, peer(servers.mute), &["connection closed"]),
            Case::new(GRPC, at(1, ""), &["UNIMPLEMENTED", "no health service"]),
        ],
    }))
}

fn grpc_at(real: &Real, port: usize, more: &str) -> String {
    let port = real.ports[port];
    format!("address: \"localhost:{port}\"{more}")
}

fn grpc_tls(real: &Real, servers: &Servers) -> Vec<Case> {
    let at = |port: usize, more: &str| grpc_at(real, port, more);
    let ca =
        |of: &Certificates, more: &str| format!(", tls: {{ ca: {}{more} }}", of.ca().display());
    let own = ca(&real.certificates, "");
    let other_name = ca(&real.certificates, ", serverName: orders.shop");
    vec![
        Case::new(
            GRPC,
            at(2, &ca(&servers.foreign, "")),
            &["invalid peer certificate"],
        ),
        Case::new(
            GRPC,
            at(2, &other_name),
            &["certificate not valid for name"],
        ),
        Case::new(GRPC, at(3, &own), &["ertificate"]),
        Case::new(GRPC, at(0, &own), &["does not speak TLS"]),
        Case::new(GRPC, at(2, ""), &["connection closed"]),
    ]
}

pub(super) fn dns(failure: Failure, servers: &Servers) -> Result<Cell> {
    let Some(real) = servers.dns() else {
        return Ok(Cell::Senseless(NOT_INSTALLED));
    };
    let at = |server: SocketAddr, more: &str| format!("server: \"{server}\", {more}");
    let known = "name: orders.shop";
    Ok(Cell::Runs(match failure {
        Failure::Down => vec![
            Case::new("nobody", at(servers.nobody, known), &["refused"]),
            Case::new(
                "nobody",
                at(servers.nobody, "name: orders.shop, transport: tcp"),
                &["refused"],
            ),
        ],
        Failure::Slow => vec![
            Case::new(
                DNSMASQ,
                at(real, "name: nobody.example"),
                &["no answer within 300ms"],
            )
            .in_vain(),
        ],
        Failure::Tls => return Ok(Cell::Senseless("it is spoken to without TLS")),
        // Names have no password; there are servers that do not answer everybody.
        Failure::Auth => vec![Case::new(
            DNSMASQ,
            at(real, "name: elsewhere.example"),
            &["REFUSED"],
        )],
        Failure::Garbage => vec![Case::new(
            PEER,
            at(peer::packets(|_| b"hello".to_vec())?, known),
            &["not a DNS message"],
        )],
        Failure::Empty => vec![
            Case::new(
                PEER,
                at(peer::packets(|_| Vec::new())?, known),
                &["not a DNS message"],
            ),
            Case::new(
                PEER,
                at(servers.mute, "name: orders.shop, transport: tcp"),
                &["closed the connection"],
            ),
            Case::new(
                DNSMASQ,
                at(real, "name: orders.shop, type: MX"),
                &["NOERROR", "no MX record"],
            ),
        ],
    }))
}

pub(super) fn tcp(failure: Failure, servers: &Servers) -> Result<Cell> {
    let reads_nothing = "a completed handshake is all that it asks for: it reads nothing";
    Ok(match failure {
        Failure::Down => Cell::Runs(vec![Case::new(
            "nobody",
            format!("address: \"{}\"", servers.nobody),
            &["refused"],
        )]),
        Failure::Slow => {
            let address = full()?;
            let fields = format!("address: \"{address}\"");
            let case = Case::new("the kernel", fields, &["no answer within 300ms"]);
            Cell::Runs(vec![case.in_vain()])
        }
        Failure::Tls | Failure::Auth | Failure::Garbage | Failure::Empty => {
            Cell::Senseless(reads_nothing)
        }
    })
}

/// An address whose listener has as many connections waiting as it takes: the kernel neither takes nor refuses a further one.
fn full() -> Result<SocketAddr> {
    const CONNECTIONS_MAX: usize = 16;
    let listener = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    bind(listener.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0))?;
    listen(&listener, Backlog::new(1)?)?;
    let bound: SockaddrIn = getsockname(listener.as_raw_fd())?;
    let address = SocketAddr::from((bound.ip(), bound.port()));
    for _ in 0..CONNECTIONS_MAX {
        match TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            // They wait as long as this program runs.
            Ok(stream) => std::mem::forget(stream),
            Err(_) => {
                std::mem::forget(listener);
                return Ok(address);
            }
        }
    }
    Err("a listener with room for one took sixteen".into())
}
