//! A connection to a service, in plain text or over TLS, and where it stays until the next attempt.

use super::{ProbeError, stage, tls};
use rustls::pki_types::ServerName;
use squall_experiments::probe::{Connection, Tls};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Bytes both ways.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection of either kind.
pub(super) type Stream = Box<dyn Duplex>;

/// Where to connect, and how.
pub(super) struct Dialing {
    address: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// What is spoken inside TLS, where both sides have to agree on it (RFC 7301).
    protocol: Option<&'static [u8]>,
}

impl Dialing {
    /// Makes ready: reads the certificates that are named.
    pub(super) fn new(
        probe: &str,
        address: &str,
        settings: Option<&Tls>,
        protocol: Option<&'static [u8]>,
    ) -> Result<Self, ProbeError> {
        let connector = |settings: &Tls| {
            let mut config = tls::config(probe, Some(settings))?;
            config.alpn_protocols = protocol.map(<[u8]>::to_vec).into_iter().collect();
            let name = settings.server_name.as_deref().unwrap_or(host(address));
            let name = ServerName::try_from(name.to_owned());
            let name = name.map_err(|source| ProbeError::Address {
                probe: probe.to_owned(),
                address: address.to_owned(),
                source,
            })?;
            Ok((TlsConnector::from(Arc::new(config)), name))
        };
        Ok(Self {
            address: address.to_owned(),
            tls: settings.map(connector).transpose()?,
            protocol,
        })
    }

    pub(super) const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Connects, and speaks TLS at once where TLS is spoken.
    pub(super) async fn connect(&self) -> io::Result<Stream> {
        let tcp = self.connect_plain().await?;
        self.secure(tcp).await
    }

    /// Connects and says nothing yet.
    pub(super) async fn connect_plain(&self) -> io::Result<TcpStream> {
        let tcp = TcpStream::connect(&self.address).await?;
        tcp.set_nodelay(true)?;
        Ok(tcp)
    }

    /// Speaks TLS on a connection, where TLS is spoken.
    pub(super) async fn secure(&self, tcp: TcpStream) -> io::Result<Stream> {
        let Some((connector, name)) = &self.tls else {
            return Ok(Box::new(tcp));
        };
        let stream = stage::handshake(connector.connect(name.clone(), tcp)).await?;
        if let Some(protocol) = self.protocol
            && stream.get_ref().1.alpn_protocol() != Some(protocol)
        {
            let protocol = String::from_utf8_lossy(protocol);
            return Err(io::Error::other(format!(
                "the server does not agree to speak {protocol} over TLS"
            )));
        }
        Ok(Box::new(stream))
    }
}

/// `host` of `host:port`, without the brackets of an IPv6 address.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// One connection that waits for the next attempt. An attempt takes it out and puts it back when it is through; one that is given up
/// takes its connection along, so that no later attempt waits for its answer. Attempts that overlap have connections of their own.
pub(super) struct Kept<C> {
    /// Nothing for a probe whose every attempt connects anew.
    slot: Option<Mutex<Option<C>>>,
}

impl<C> Kept<C> {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            slot: (connection == Connection::Kept).then(Mutex::default),
        }
    }

    pub(super) fn take(&self) -> Option<C> {
        let slot = self.slot.as_ref()?;
        slot.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn put(&self, connection: C) {
        if let Some(slot) = &self.slot {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_an_address() {
        assert_eq!(host("db.shop:5432"), "db.shop");
        assert_eq!(host("[fd00::2]:5432"), "fd00::2");
    }

    #[test]
    fn a_connection_is_kept_only_where_it_should_be() {
        let kept = Kept::new(Connection::Kept);
        assert_eq!(kept.take(), None);
        kept.put(1);
        assert_eq!((kept.take(), kept.take()), (Some(1), None));
        let new = Kept::new(Connection::New);
        new.put(1);
        assert_eq!(new.take(), None);
    }
}
