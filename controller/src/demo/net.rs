//! The demo's own links and addresses, by netlink. Each call concerns the network namespace of the calling process.

use super::DemoError;
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth};
use std::net::IpAddr;
use std::time::Duration;

/// A socket to the kernel's routing tables.
pub(super) struct Net(Handle);

/// How long a link may take to arrive from another namespace, and how often it is looked for.
const ARRIVAL_MS_MAX: u64 = 5_000;
const ARRIVAL_LOOK_MS: u64 = 5;

impl Net {
    /// Opens the socket; within a runtime.
    pub(super) fn open() -> Result<Self, DemoError> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(DemoError::io("opening a netlink socket"))?;
        tokio::spawn(connection);
        Ok(Self(handle))
    }

    /// Two links that are each other's other end.
    pub(super) async fn pair(&self, one: &str, other: &str) -> Result<(), DemoError> {
        let request = self.0.link().add(LinkVeth::new(one, other).build());
        request
            .execute()
            .await
            .map_err(failed(format!("adding the pair {one} and {other}")))
    }

    /// Moves a link into the network namespace of a process.
    pub(super) async fn give(&self, name: &str, pid: u32) -> Result<(), DemoError> {
        let index = self.index(name).await?;
        self.set(
            LinkUnspec::new_with_index(index).setns_by_pid(pid),
            format!("moving {name} to process {pid}"),
        )
        .await
    }

    /// Gives a link an address and takes it up.
    pub(super) async fn address(
        &self,
        name: &str,
        address: IpAddr,
        prefix: u8,
    ) -> Result<(), DemoError> {
        let index = self.index(name).await?;
        let request = self.0.address().add(index, address, prefix);
        request.execute().await.map_err(failed(format!(
            "giving {name} the address {address}/{prefix}"
        )))?;
        self.up(name).await
    }

    /// Takes a link up.
    pub(super) async fn up(&self, name: &str) -> Result<(), DemoError> {
        let index = self.index(name).await?;
        let message = LinkUnspec::new_with_index(index).up();
        self.set(message, format!("taking {name} up")).await
    }

    /// Waits until there is no link of that name.
    pub(super) async fn gone(&self, name: &str) -> Result<(), DemoError> {
        let mut waited_ms = 0;
        while self.find(name).await.is_ok() {
            if waited_ms >= ARRIVAL_MS_MAX {
                let why = rtnetlink::Error::RequestFailed;
                return Err(failed(format!("{name} is still there"))(why));
            }
            tokio::time::sleep(Duration::from_millis(ARRIVAL_LOOK_MS)).await;
            waited_ms += ARRIVAL_LOOK_MS;
        }
        Ok(())
    }

    async fn set(
        &self,
        message: LinkMessageBuilder<LinkUnspec>,
        operation: String,
    ) -> Result<(), DemoError> {
        let request = self.0.link().set(message.build());
        request.execute().await.map_err(failed(operation))
    }

    /// The index of a link, waiting for one that is on its way here.
    async fn index(&self, name: &str) -> Result<u32, DemoError> {
        let mut waited_ms = 0;
        loop {
            match self.find(name).await {
                Ok(link) => return Ok(link.header.index),
                Err(error) if waited_ms >= ARRIVAL_MS_MAX => {
                    return Err(failed(format!("looking for {name}"))(error));
                }
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(ARRIVAL_LOOK_MS)).await;
                    waited_ms += ARRIVAL_LOOK_MS;
                }
            }
        }
    }

    async fn find(&self, name: &str) -> Result<LinkMessage, rtnetlink::Error> {
        let mut found = self.0.link().get().match_name(name.to_owned()).execute();
        found
            .try_next()
            .await?
            .ok_or(rtnetlink::Error::RequestFailed)
    }
}

fn failed(operation: String) -> impl FnOnce(rtnetlink::Error) -> DemoError {
    |source| DemoError::Net { operation, source }
}
