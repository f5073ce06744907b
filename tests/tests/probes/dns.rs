//! The `dns` probe against dnsmasq.

use crate::ask::{failed, once, unanswered, value};
use crate::{daemon, peer, test};
use lab::world::Result;
use lab::world::service::{Service, folder, needing, unprivileged};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use std::net::SocketAddr;
use std::path::Path;

pub(crate) fn trials() -> Vec<Trial> {
    let dnsmasq = lab::vm::on_path("dnsmasq");
    vec![
        needing(
            dnsmasq,
            "dnsmasq-base",
            "dns::a_real_server_is_understood",
            real,
        ),
        test("dns::down_and_garbage_are_told", || {
            down()?;
            garbage()?;
            truncated()
        }),
    ]
}

/// A server that knows `shop` and nobody else; for `nobody.example` it asks one that does not answer.
pub(crate) fn start(program: &Path, address: SocketAddr) -> Result<Service> {
    let long = "x".repeat(200);
    let folder = folder()?;
    let mut command = unprivileged(program, Signal::SIGKILL);
    command.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
        "--pid-file=",
        "--listen-address=127.0.0.1",
        "--local=/shop/",
        "--server=/nobody.example/127.0.0.1#1",
        "--host-record=orders.shop,10.0.0.1,fd00::1",
        "--host-record=orders.shop,10.0.0.2",
        "--cname=alias.shop,orders.shop",
        "--mx-host=shop,orders.shop,10",
        "--srv-host=_http._tcp.shop,orders.shop,80",
    ]);
    command.arg(format!("--port={}", address.port()));
    // Four of these do not fit into a packet.
    command.arg(format!(
        "--txt-record=long.shop,{long},{long},{long},{long}"
    ));
    Service::start(command, Signal::SIGKILL, folder, &[address])
}

fn real(program: &Path) -> Result<()> {
    let address = daemon::free()?;
    let server = start(program, address)?;
    let ask = |name: &str, more: &str| {
        format!("{{ dns: {{ server: \"{address}\", name: {name}, every: 100ms{more} }} }}")
    };
    value(&ask("orders.shop", ""), 2.0)?;
    value(&ask("ORDERS.shop.", ", transport: tcp"), 2.0)?;
    value(&ask("orders.shop", ", type: AAAA"), 1.0)?;
    value(&ask("alias.shop", ""), 2.0)?;
    value(&ask("alias.shop", ", type: CNAME"), 1.0)?;
    value(&ask("shop", ", type: MX"), 1.0)?;
    value(&ask("_http._tcp.shop", ", type: SRV"), 1.0)?;
    // Truncated over UDP: found only by asking again over TCP.
    value(&ask("long.shop", ", type: TXT"), 1.0)?;
    failed(&ask("gone.shop", ""), &["NXDOMAIN"])?;
    failed(&ask("gone.shop", ", transport: tcp"), &["NXDOMAIN"])?;
    failed(&ask("orders.shop", ", type: MX"), &["no MX record"])?;
    failed(&ask("alias.shop", ", type: MX"), &["only other types"])?;
    failed(&ask("elsewhere.example", ""), &["REFUSED"])?;
    let gone = once(&ask("gone.shop", ""))?;
    assert_eq!(gone.value, Some(0.0), "{gone:?}");
    let slow = [", timeout: 300ms", ", timeout: 300ms, transport: tcp"];
    unanswered(&ask("nobody.example", slow[0]), &["300ms"])?;
    server.stopped(|| {
        unanswered(&ask("orders.shop", slow[0]), &["300ms"])?;
        unanswered(&ask("orders.shop", slow[1]), &["300ms"])
    })?;
    value(&ask("orders.shop", ""), 2.0)
}

fn at(address: SocketAddr) -> String {
    format!("{{ dns: {{ server: \"{address}\", name: orders.shop }} }}")
}

fn down() -> Result<()> {
    let address = daemon::free()?;
    unanswered(&at(address), &[&address.to_string(), "refused"])?;
    let tcp = at(address).replace("name:", "transport: tcp, name:");
    unanswered(&tcp, &["refused"])
}

/// The question as an answer with these flags and these counts.
fn answered(question: &[u8], flags: [u8; 2]) -> Vec<u8> {
    let mut answer = question.to_vec();
    answer[2..4].copy_from_slice(&flags);
    answer
}

fn garbage() -> Result<()> {
    let told =
        |answer: fn(&[u8]) -> Vec<u8>, why: &str| failed(&at(peer::packets(answer)?), &[why]);
    told(|_| b"hello".to_vec(), "not a DNS message")?;
    told(|_| Vec::new(), "not a DNS message")?;
    told(<[u8]>::to_vec, "a question itself")?;
    told(|q| answered(q, [0x81, 0x82]), "SERVFAIL")?;
    told(|q| answered(q, [0x81, 0x84]), "NOTIMP")?;
    let other_id = |q: &[u8]| {
        let mut answer = answered(q, [0x81, 0x80]);
        answer[0] ^= 0xff;
        answer
    };
    told(other_id, "another question's id")?;
    let other_name = |q: &[u8]| {
        let mut answer = answered(q, [0x81, 0x80]);
        answer[13] ^= 1;
        answer
    };
    told(other_name, "another question")?;
    // It promises a record that is not there.
    let promise = |q: &[u8]| {
        let mut answer = answered(q, [0x81, 0x80]);
        answer[7] = 1;
        answer
    };
    told(promise, "ends in the middle")
}

fn truncated() -> Result<()> {
    // Nobody listens for the same question over TCP.
    let address = peer::packets(|question| answered(question, [0x83, 0x80]))?;
    unanswered(&at(address), &["refused"])?;
    let tcp = |bytes: &'static [u8]| -> Result<String> {
        let address = peer::saying(bytes)?;
        Ok(at(address).replace("name:", "transport: tcp, name:"))
    };
    unanswered(&tcp(b"")?, &["closed the connection"])?;
    // Fewer bytes than it says.
    unanswered(&tcp(b"\0\x40hello")?, &["closed the connection"])?;
    failed(&tcp(b"\0\x05hello")?, &["not a DNS message"])
}
