//! One redirected connection: one of our own to the service, the same protocol on both, requests in between.
//!
//! Bodies are passed on piece by piece. When the service ends its connection, the client's ends too: a client finds
//! what it would have found without us, and tries again as it would have.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, client, server, upgrade};
use hyper_util::rt::{TokioExecutor, TokioIo};
use squall_experiments::fault::HttpEffect;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, watch};

use super::body::{Answer, Broken};
use super::rule::{Rule, add};
use super::speech::{self, Speech};
use crate::hold::redirect::{Meeting, upstream};
use crate::kernel::net::origin;

/// How long a client that has sent a part of its first word is waited for, and how often it is looked at.
const FIRST_WORD: Duration = Duration::from_secs(2);
const GLANCE: Duration = Duration::from_millis(5);
/// What one side of one HTTP/1 connection may hold of a message's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Headers of one message: services allow about as many, and we must not be the ones who refuse.
const HEADERS_MAX: usize = 256;
/// HTTP/2: what one stream, and one connection, may hold unread.
const STREAM_BYTES_MAX: u32 = 256 << 10;
const CONNECTION_BYTES_MAX: u32 = 1 << 20;

type Stop = watch::Receiver<bool>;

/// Serves one connection until it has ended.
pub(super) async fn serve(rule: Arc<Rule>, meeting: Meeting) {
    let Meeting { client, to, stop } = meeting;
    let Ok(service) = upstream(to).await else {
        // What the client would have met, as nearly as can be said now.
        origin::end_by_reset(&client);
        return;
    };
    // An error is the end of the connection, which is what both sides then see.
    match spoken(&client, &service).await {
        Speech::Http1 => {
            let _ = http1(rule, client, service, stop).await;
        }
        Speech::Http2 => {
            let _ = http2(rule, client, service, stop).await;
        }
        Speech::Tls => {
            add(&rule.tally.tls_passed);
            pass(client, service).await;
        }
        Speech::Other | Speech::Unclear => {
            add(&rule.tally.other_passed);
            pass(client, service).await;
        }
    }
}

/// What the client speaks; something else where the service speaks first.
async fn spoken(client: &TcpStream, service: &TcpStream) -> Speech {
    let (mut from_client, mut from_service) = ([0; speech::BYTES], [0; 1]);
    let begun = tokio::time::Instant::now();
    loop {
        let said = tokio::select! {
            biased;
            said = client.peek(&mut from_client) => said.unwrap_or(0),
            _ = service.peek(&mut from_service) => return Speech::Other,
        };
        match speech::tell(&from_client[..said]) {
            Speech::Unclear if said > 0 && begun.elapsed() < FIRST_WORD => {
                tokio::time::sleep(GLANCE).await;
            }
            told => return told,
        }
    }
}

async fn pass(mut client: TcpStream, mut service: TcpStream) {
    // Either end may break off: then both do.
    let _ = copy_bidirectional(&mut client, &mut service).await;
}

async fn http1(
    rule: Arc<Rule>,
    client: TcpStream,
    service: TcpStream,
    mut stop: Stop,
) -> Result<(), Broken> {
    // A twin, because the connection itself is given away: a reset is said to the socket. Without one it is an
    // ordinary end.
    let twin = Arc::new(origin::twin(&client));
    let (sender, upstream) = client::conn::http1::Builder::new()
        .preserve_header_case(true)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .handshake::<_, Incoming>(TokioIo::new(service))
        .await?;
    let mut upstream = tokio::spawn(upstream.with_upgrades());
    let sender = Arc::new(Mutex::new(sender));
    let each = {
        let twin = Arc::clone(&twin);
        service_fn(move |request: Request<Incoming>| {
            let (rule, sender, twin) = (Arc::clone(&rule), Arc::clone(&sender), Arc::clone(&twin));
            async move {
                let reset = || {
                    if let Some(twin) = &*twin {
                        origin::end_by_reset(twin);
                    }
                };
                exchange(&rule, request, reset, |request| async move {
                    // HTTP/1 has one request at a time.
                    sender.lock().await.send_request(request).await
                })
                .await
            }
        })
    };
    let connection = server::conn::http1::Builder::new()
        .preserve_header_case(true)
        .auto_date_header(false)
        // A client that has said all it will still waits for its answer.
        .half_close(true)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(client), each)
        .with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return Ok(ended?),
        _ = &mut upstream => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    Ok(connection.await?)
}

async fn http2(
    rule: Arc<Rule>,
    client: TcpStream,
    service: TcpStream,
    mut stop: Stop,
) -> Result<(), Broken> {
    let (sender, upstream) = client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_BYTES_MAX)
        .initial_connection_window_size(CONNECTION_BYTES_MAX)
        .handshake::<_, Incoming>(TokioIo::new(service))
        .await?;
    let mut upstream = tokio::spawn(upstream);
    let each = service_fn(move |request: Request<Incoming>| {
        let (rule, mut sender) = (Arc::clone(&rule), sender.clone());
        async move {
            // A stream ends by itself where its request has no answer.
            exchange(
                &rule,
                request,
                || (),
                |request| async move { sender.send_request(request).await },
            )
            .await
        }
    });
    let connection = server::conn::http2::Builder::new(TokioExecutor::new())
        .auto_date_header(false)
        .initial_stream_window_size(STREAM_BYTES_MAX)
        .initial_connection_window_size(CONNECTION_BYTES_MAX)
        .serve_connection(TokioIo::new(client), each);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return Ok(ended?),
        _ = &mut upstream => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    Ok(connection.await?)
}

/// One request and its answer, with what the fault does to them.
async fn exchange<F>(
    rule: &Arc<Rule>,
    mut request: Request<Incoming>,
    reset: impl FnOnce(),
    send: impl FnOnce(Request<Incoming>) -> F,
) -> Result<Response<Answer>, Broken>
where
    F: Future<Output = hyper::Result<Response<Incoming>>>,
{
    let hit = rule.hits(request.method(), request.uri(), request.headers());
    if hit {
        match &rule.effect {
            HttpEffect::Abort(status) => {
                add(&rule.tally.aborted);
                return Ok(aborted(status.get()));
            }
            HttpEffect::Reset => {
                add(&rule.tally.reset);
                reset();
                return Err(Broken::OnPurpose);
            }
            HttpEffect::Delay(time) => {
                add(&rule.tally.delayed);
                tokio::time::sleep(time.duration()).await;
            }
            HttpEffect::Replace(_) => {
                add(&rule.tally.replaced);
                set(request.headers_mut(), &rule.on_request);
            }
            HttpEffect::Truncate(_) => {}
        }
    }
    let is_tunnel = request.method() == Method::CONNECT;
    let from_client = upgrade::on(&mut request);
    let mut response = send(request).await?;
    let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS
        || is_tunnel && response.status().is_success();
    if upgraded {
        let from_service = upgrade::on(&mut response);
        tokio::spawn(join(from_client, from_service));
    }
    if hit {
        set(response.headers_mut(), &rule.on_response);
    }
    Ok(match &rule.effect {
        HttpEffect::Truncate(size) if hit && !upgraded => {
            response.map(|body| Answer::cut(body, size.get(), rule))
        }
        _ => response.map(Answer::Whole),
    })
}

/// After both ends have agreed on another protocol (a WebSocket), its bytes are none of ours.
async fn join(client: upgrade::OnUpgrade, service: upgrade::OnUpgrade) {
    let Ok((client, service)) = tokio::try_join!(client, service) else {
        return;
    };
    let (mut client, mut service) = (TokioIo::new(client), TokioIo::new(service));
    let _ = copy_bidirectional(&mut client, &mut service).await;
}

fn aborted(status: u16) -> Response<Answer> {
    let mut response = Response::new(Answer::said("aborted by a fault of Squall\n"));
    // A status of the file is from 200 to 599, and every such number is a status.
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    let plain = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

fn set(headers: &mut HeaderMap, to: &[(HeaderName, HeaderValue)]) {
    for (name, value) in to {
        headers.insert(name, value.clone());
    }
}
