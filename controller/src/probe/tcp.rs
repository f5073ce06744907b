//! One connection.

use super::Seen;
use crate::judge::Outcome;
use squall_experiments::probe::Tcp;
use tokio::net::TcpStream;

/// Where to connect.
#[derive(Debug, Clone)]
pub(super) struct Connecting {
    address: String,
}

impl Connecting {
    pub(super) fn new(tcp: &Tcp) -> Self {
        Self {
            address: tcp.address.clone(),
        }
    }

    pub(super) async fn connect(&self) -> Seen {
        Seen::only(match TcpStream::connect(&self.address).await {
            Ok(_stream) => Outcome::Success,
            Err(error) => Outcome::Unanswered(super::client::reason(&error)),
        })
    }
}
