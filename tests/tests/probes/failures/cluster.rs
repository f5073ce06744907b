//! Kubernetes. There is no API server here, so that its answers are played back; see [`crate::kubernetes`].

use super::Failure;
use super::cell::{Case, Cell};
use super::servers::Servers;
use crate::kubernetes::answers;
use lab::world::Result;
use lab::world::stub::Stub;
use std::net::SocketAddr;

const PLAYED: &str = "recorded answers";
const PEER: &str = "a peer";
const DEPLOYMENT: &str = "deployment: { namespace: shop, name: payment }";

pub(super) fn kubernetes(failure: Failure, servers: &Servers) -> Result<Cell> {
    let at = |address: SocketAddr| format!("{DEPLOYMENT}, url: \"http://{address}\"");
    let played =
        |status: u16, body: &str| -> Result<String> { Ok(at(Stub::saying(status, body)?.address)) };
    Ok(Cell::Runs(match failure {
        Failure::Down => vec![Case::new("nobody", at(servers.nobody), &["refused"])],
        Failure::Slow => {
            let case = Case::new(PEER, at(servers.silent), &["no answer within 300ms"]);
            vec![case.in_vain()]
        }
        Failure::Tls => return Ok(tls(servers)),
        Failure::Auth => vec![
            Case::new(
                PLAYED,
                played(401, &answers::unauthorized())?,
                &["status 401", "Unauthorized"],
            ),
            Case::new(
                PLAYED,
                played(403, &answers::forbidden())?,
                &["status 403", "forbidden"],
            ),
        ],
        Failure::Garbage => vec![
            Case::new(
                PEER,
                played(200, "<html>")?,
                &["not an answer of Kubernetes"],
            ),
            Case::new(PEER, at(servers.rubbish), &["not HTTP"]),
        ],
        Failure::Empty => {
            let pods = "pods: { namespace: shop, selector: app=none }";
            let none = played(200, &answers::list("PodList", &[], None))?;
            vec![
                Case::new(PEER, played(200, "")?, &["it is empty"]),
                Case::new(PEER, at(servers.mute), &["closed"]),
                Case::new(PLAYED, none.replace(DEPLOYMENT, pods), &["no pod matches"]),
            ]
        }
    }))
}

/// TLS comes before anything that makes it Kubernetes: Prometheus speaks it, too.
fn tls(servers: &Servers) -> Cell {
    let Some(real) = &servers.prometheus else {
        return Cell::Senseless("Prometheus, whose TLS is used, is not installed here");
    };
    let of = |host: &str, port: u16, ca: std::path::PathBuf| {
        let ca = ca.display();
        format!("{DEPLOYMENT}, url: \"https://{host}:{port}\", tls: {{ ca: {ca} }}")
    };
    let (own, foreign) = (|| real.certificates.ca(), servers.foreign.ca());
    let (closed, mutual) = (real.closed.port(), real.mutual.port());
    Cell::Runs(vec![
        Case::new(
            "Prometheus",
            of("localhost", closed, foreign),
            &["invalid peer certificate"],
        ),
        Case::new(
            "Prometheus",
            of("127.0.0.1", closed, own()),
            &["certificate not valid for name"],
        ),
        Case::new(
            "Prometheus",
            of("localhost", mutual, own()),
            &["ertificate"],
        ),
    ])
}
