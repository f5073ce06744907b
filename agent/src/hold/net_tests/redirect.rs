//! Which connections a redirect takes: those that are named and not spared, as they are named now.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use super::world::run_all;
use crate::hold::network;
use crate::kernel::net::netns::{Netns, in_scratch};
use squall_experiments::capability::Means;
use squall_experiments::dose::Dose;
use squall_experiments::filter::{Direction, Ports, ResolvedEndpoint, ResolvedFilter};

/// Longer than an answer takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// A service that answers one request on each connection; it ends with the tests.
fn service() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    port
}

/// The status that a request to that port is answered with.
fn status(port: u16) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    String::from_utf8_lossy(&head[9..]).into_owned()
}

fn at(ports: &[u16]) -> ResolvedEndpoint {
    let single = |port: &u16| Ports {
        first: *port,
        last: *port,
    };
    ResolvedEndpoint {
        ports: ports.iter().map(single).collect(),
        ..ResolvedEndpoint::default()
    }
}

#[test]
fn what_is_spared_goes_straight_and_an_update_is_followed() {
    let namespace = match in_scratch(Netns::current) {
        Ok(namespace) => namespace,
        Err(error) => {
            eprintln!("skipped: {error}");
            return;
        }
    };
    run_all(&namespace, &["link set lo up".to_owned()]);
    let fault = serde_json::from_str(r#"{"http": {"effect": {"abort": 503}}}"#).unwrap();
    namespace
        .inside(|| {
            let ports = [service(), service(), service()];
            let spared = ResolvedFilter {
                to: Some(at(&ports[..2])),
                direction: Direction::Egress,
                spare: vec![at(&ports[1..2])],
                ..ResolvedFilter::default()
            };
            let (mut held, _) = network::arm_fault(&fault, Means::Redirect, &spared, 1).unwrap();
            assert_eq!(ports.map(status), ["503", "200", "200"]);
            let other = ResolvedFilter {
                to: Some(at(&ports[2..])),
                ..spared
            };
            held.update(&other).unwrap();
            assert_eq!(ports.map(status), ["200", "200", "503"]);
            let Dose::Http(dose) = held.release().unwrap() else {
                panic!("not a dose of requests");
            };
            assert_eq!((dose.connections, dose.aborted), (2, 2));
            assert_eq!(ports.map(status), ["200", "200", "200"]);
            Ok(())
        })
        .unwrap();
}

#[test]
fn requests_to_no_port_in_particular_are_refused_in_words() {
    let fault = serde_json::from_str(r#"{"http": {"effect": "reset"}}"#).unwrap();
    let everything = ResolvedFilter::default();
    let refused = network::arm_fault(&fault, Means::Redirect, &everything, 1).err();
    let reason = refused.map(|e| e.to_string()).unwrap_or_default();
    assert!(reason.contains("`to: { port: 8080 }`"), "{reason}");
}
