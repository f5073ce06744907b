//! The proxy between a real client and a real service, over loopback: what passes passes as it is, and what is hit is
//! hit. How connections get here is tested with namespaces.

use super::proxy;
use super::rule::Rule;
use crate::hold::redirect::Meeting;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, client, server};
use hyper_util::rt::{TokioExecutor, TokioIo};
use squall_experiments::dose::HttpDose;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client's end of a proxied connection, and the rule that is applied to it.
struct Between {
    client: TcpStream,
    rule: Arc<Rule>,
    stop: watch::Sender<bool>,
}

impl Between {
    /// Puts a fault between a new client and `service`. None without the rights that the proxy needs.
    async fn new(fault: &str, service: &TcpListener) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let rule = Arc::new(Rule::new(&serde_json::from_str(fault).unwrap(), 7).unwrap());
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(door.local_addr().unwrap())
            .await
            .unwrap();
        let (stop, stopped) = watch::channel(false);
        let meeting = Meeting {
            client: door.accept().await.unwrap().0,
            to: service.local_addr().unwrap(),
            stop: stopped,
        };
        tokio::spawn(proxy::serve(Arc::clone(&rule), meeting));
        Some(Self { client, rule, stop })
    }

    fn dose(&self) -> HttpDose {
        self.rule.dose(1)
    }

    /// Sends bytes, and reads until `end` has come or the connection has ended.
    async fn say(&mut self, said: &str, end: &str) -> io::Result<String> {
        self.client.write_all(said.as_bytes()).await?;
        let mut heard = Vec::new();
        while !String::from_utf8_lossy(&heard).ends_with(end) {
            let more = tokio::time::timeout(PATIENCE, self.client.read_buf(&mut heard));
            if more.await.expect("an answer in time")? == 0 {
                break;
            }
        }
        Ok(String::from_utf8_lossy(&heard).into_owned())
    }
}

/// A service that reads each request's head and answers with these bytes, on every connection.
async fn service(answer: &'static str) -> TcpListener {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    // Two handles of one listener: one serves, the other tells where.
    let named = TcpListener::from_std(listener.try_clone().unwrap()).unwrap();
    let serving = TcpListener::from_std(listener).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = serving.accept().await {
            tokio::spawn(async move {
                let mut heard = Vec::new();
                while stream.read_buf(&mut heard).await.is_ok_and(|n| n > 0) {
                    if heard.ends_with(b"\r\n\r\n") || heard.ends_with(b"!") {
                        let echoed = answer.replace("ECHO", &String::from_utf8_lossy(&heard));
                        let _ = stream.write_all(echoed.as_bytes()).await;
                        heard.clear();
                    }
                }
            });
        }
    });
    named
}

const OK: &str = "HTTP/1.1 200 OK\r\nX-Case: Kept\r\nContent-Length: 10\r\n\r\n0123456789";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: orders.shop\r\nX-Odd-Case: 1\r\n\r\n")
}

#[tokio::test]
async fn what_is_not_hit_passes_as_it_is_and_what_is_hit_is_aborted() {
    let service = service(OK).await;
    let fault = r#"{"effect": {"abort": 503}, "requests": {"paths": ["/orders/*"]}}"#;
    let Some(mut between) = Between::new(fault, &service).await else {
        return;
    };
    let passed = between.say(&get("/carts"), "0123456789").await.unwrap();
    assert_eq!(
        passed, OK,
        "nothing added, nothing lost, letters as they were"
    );
    let aborted = between.say(&get("/orders/1"), "Squall\n").await.unwrap();
    assert!(aborted.starts_with("HTTP/1.1 503 "), "{aborted}");
    // The same connection goes on.
    let passed = between.say(&get("/carts"), "0123456789").await.unwrap();
    assert_eq!(passed, OK);
    let dose = between.dose();
    assert_eq!((dose.requests, dose.matched, dose.aborted), (3, 1, 1));
}

#[tokio::test]
async fn an_answer_is_cut_after_so_many_bytes_and_a_short_one_is_not() {
    let service = service(OK).await;
    let fault = r#"{"effect": {"truncate": "4B"}, "requests": {"methods": ["GET"]}}"#;
    let Some(mut between) = Between::new(fault, &service).await else {
        return;
    };
    let cut = between.say(&get("/"), "never").await.unwrap_or_default();
    assert!(cut.ends_with("\r\n\r\n0123"), "{cut:?}");
    assert!(cut.contains("Content-Length: 10"), "{cut:?}");
    assert_eq!(between.dose().truncated, 1);
    let fault = r#"{"effect": {"truncate": "10B"}}"#;
    let mut between = Between::new(fault, &service).await.unwrap();
    let whole = between.say(&get("/"), "0123456789").await.unwrap();
    assert_eq!((whole.as_str(), between.dose().truncated), (OK, 0));
}

#[tokio::test]
async fn a_reset_is_a_reset_and_no_orderly_end() {
    let service = service(OK).await;
    let Some(mut between) = Between::new(r#"{"effect": "reset"}"#, &service).await else {
        return;
    };
    let error = between.say(&get("/"), "never").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(between.dose().reset, 1);
}

#[tokio::test]
async fn headers_are_replaced_both_ways() {
    let service = service("HTTP/1.1 200 OK\r\nserver: a\r\nconnection: close\r\n\r\nECHO").await;
    let fault = r#"{"effect": {"replace": {"request": {"x-user": "nobody"}, "response": {"server": "b"}}}}"#;
    let Some(mut between) = Between::new(fault, &service).await else {
        return;
    };
    let request = "GET / HTTP/1.1\r\nhost: a\r\nx-user: me\r\n\r\n";
    let echoed = between.say(request, "\r\n\r\n\r\n").await;
    let echoed = echoed.unwrap();
    assert!(
        echoed.contains("server: b") && !echoed.contains("server: a"),
        "{echoed}"
    );
    assert!(
        echoed.contains("x-user: nobody") && !echoed.contains("x-user: me"),
        "{echoed}"
    );
}

#[tokio::test]
async fn a_delayed_request_is_late_by_the_delay() {
    let service = service(OK).await;
    let Some(mut between) = Between::new(r#"{"effect": {"delay": "150ms"}}"#, &service).await
    else {
        return;
    };
    let begun = std::time::Instant::now();
    between.say(&get("/"), "0123456789").await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(150));
    assert_eq!(between.dose().delayed, 1);
}

#[tokio::test]
async fn tls_and_other_protocols_pass_byte_by_byte() {
    let service = service("ECHO").await;
    let Some(mut tls) = Between::new(r#"{"effect": {"abort": 503}}"#, &service).await else {
        return;
    };
    let hello = "\u{16}\u{3}\u{1}hello!";
    assert_eq!(tls.say(hello, "!").await.unwrap(), hello);
    assert_eq!((tls.dose().tls_passed, tls.dose().requests), (1, 0));
    let mut other = Between::new(r#"{"effect": {"abort": 503}}"#, &service)
        .await
        .unwrap();
    assert_eq!(other.say("*1 PING!", "!").await.unwrap(), "*1 PING!");
    assert_eq!((other.dose().other_passed, other.dose().requests), (1, 0));
}

#[tokio::test]
async fn after_an_upgrade_the_bytes_are_nobodys_business() {
    const SWITCH: &str =
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let fault = r#"{"effect": {"replace": {"response": {"x-seen": "1"}}}}"#;
    let Some(mut between) = Between::new(fault, &listener).await else {
        return;
    };
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut heard).await.unwrap();
        }
        stream.write_all(SWITCH.as_bytes()).await.unwrap();
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.unwrap();
        stream.write_all(&word).await.unwrap();
    });
    let ask = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let switched = between.say(ask, "\r\n\r\n").await.unwrap();
    assert!(switched.starts_with("HTTP/1.1 101 "), "{switched}");
    assert!(switched.contains("x-seen: 1"), "{switched}");
    assert_eq!(between.say("\u{1}wo!", "!").await.unwrap(), "\u{1}wo!");
}

/// A stream of `count` pieces of 64 KiB, each made when it is asked for.
fn pieces(count: usize) -> impl hyper::body::Body<Data = Bytes, Error = Infallible> {
    let each = futures_util::stream::iter(0..count);
    StreamBody::new(futures_util::StreamExt::map(each, |_| {
        Ok(Frame::data(Bytes::from(vec![b'x'; 64 << 10])))
    }))
}

#[tokio::test]
async fn http2_without_tls_is_read_and_its_bodies_stream() {
    const PIECES: usize = 200;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let fault = r#"{"effect": {"abort": 503}, "requests": {"paths": ["/orders/*"], "hosts": ["orders.shop"]}}"#;
    let Some(between) = Between::new(fault, &listener).await else {
        return;
    };
    let Between {
        client,
        rule,
        stop: _stop,
    } = between;
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let answer = service_fn(|_: Request<Incoming>| async {
            Ok::<_, Infallible>(Response::new(pieces(PIECES)))
        });
        let _ = server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), answer)
            .await;
    });
    let (mut sender, connection) =
        client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client))
            .await
            .unwrap();
    tokio::spawn(connection);
    let mut ask = async |path: &str| {
        let uri = format!("http://orders.shop{path}");
        let request = Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
        let answer = tokio::time::timeout(PATIENCE, sender.send_request(request));
        answer.await.expect("an answer in time").unwrap()
    };
    assert_eq!(ask("/orders/1").await.status(), 503);
    let passed = ask("/carts").await;
    assert_eq!(passed.status(), 200);
    let body = tokio::time::timeout(PATIENCE, passed.into_body().collect());
    let body = body.await.expect("a body in time").unwrap().to_bytes();
    assert_eq!(body.len(), PIECES * (64 << 10));
    let dose = rule.dose(1);
    assert_eq!((dose.requests, dose.aborted), (2, 1));
}

#[tokio::test]
async fn a_stop_ends_an_idle_connection_in_order() {
    let service = service(OK).await;
    let Some(mut between) = Between::new(r#"{"effect": "reset", "share": "1%"}"#, &service).await
    else {
        return;
    };
    between.say(&get("/"), "0123456789").await.unwrap();
    between.stop.send(true).unwrap();
    // The end of the stream, and no reset.
    assert_eq!(between.say("", "never").await.unwrap(), "");
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_connection_to_the_service_along() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let Some(mut between) = Between::new(r#"{"effect": "reset", "share": "1%"}"#, &listener).await
    else {
        return;
    };
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut heard).await.unwrap();
        }
        stream.write_all(OK.as_bytes()).await.unwrap();
        stream.read(&mut [0; 1]).await.unwrap_or(0)
    });
    between.say(&get("/"), "0123456789").await.unwrap();
    drop(between.client);
    let left = tokio::time::timeout(PATIENCE, served).await;
    assert_eq!(left.expect("an end in time").unwrap(), 0);
}

#[tokio::test]
async fn a_client_that_has_said_all_still_gets_its_answer() {
    let service = service(OK).await;
    let Some(mut between) = Between::new(r#"{"effect": {"delay": "100ms"}}"#, &service).await
    else {
        return;
    };
    between.client.write_all(get("/").as_bytes()).await.unwrap();
    between.client.shutdown().await.unwrap();
    assert_eq!(between.say("", "0123456789").await.unwrap(), OK);
}
