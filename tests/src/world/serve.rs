//! A `squall serve` that a test has started.

use super::Result;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

/// How long a connection and an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Waits until it says that it serves; its standard error is a pipe. What it says afterwards is for nobody, but must go somewhere.
///
/// # Errors
/// It ends without having said so; with what it said instead.
pub fn until_it_serves(child: &mut Child) -> Result<()> {
    let said = child.stderr.take().ok_or("its standard error is no pipe")?;
    let mut said = BufReader::new(said);
    let mut all = String::new();
    let mut line = String::new();
    while said.read_line(&mut line)? > 0 {
        if line.contains("serving on") {
            std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
            return Ok(());
        }
        all.push_str(&line);
        line.clear();
    }
    Err(format!("it does not serve: {all}").into())
}

/// What a controller whose data is in this folder answers to a GET of a path: head and body.
///
/// # Errors
/// It is not there, or another one.
pub fn get(at: SocketAddr, data: &Path, path: &str, headers: &str) -> Result<String> {
    exchange(at, data, "GET", path, headers, "")
}

/// The same to any request; each of its headers has its line break.
///
/// # Errors
/// It is not there, or another one.
pub fn exchange(
    at: SocketAddr,
    data: &Path,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Result<String> {
    let mut stream = reach(at, data)?;
    ask(&mut stream, at, method, path, headers, body)?;
    answer(&mut stream)
}

/// A connection to it.
pub type Connection = StreamOwned<ClientConnection, TcpStream>;

/// Connects to a controller whose data is in this folder.
///
/// # Errors
/// It is not there, or another one.
pub fn reach(at: SocketAddr, data: &Path) -> Result<Connection> {
    let pem = fs::read(data.join("authority.pem"))?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(at.ip().to_string())?;
    let mut stream = TcpStream::connect_timeout(&at, ANSWER_LIMIT)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let mut tls = ClientConnection::new(Arc::new(tls), name)?;
    tls.complete_io(&mut stream)?;
    Ok(StreamOwned::new(tls, stream))
}

/// Sends a request, after which the connection is to be closed; each of its headers has its line break.
///
/// # Errors
/// It is gone.
pub fn ask(
    stream: &mut Connection,
    at: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Result<()> {
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {at}\r\n{headers}Connection: close\r\n\r\n{body}"
    )?;
    Ok(stream.flush()?)
}

/// The whole answer: head and body.
///
/// # Errors
/// It is no text.
pub fn answer(stream: &mut Connection) -> Result<String> {
    let mut answer = Vec::new();
    // An end without TLS's own farewell is an end.
    let _unkind = stream.read_to_end(&mut answer);
    Ok(String::from_utf8(answer)?)
}
