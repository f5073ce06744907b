//! The order service, the payment service and the links between them.

use super::DemoError;
use super::http::Client;
use super::net::Net;
use super::sandbox::SELF;
use super::service::{APART, Link, SERVING, Setup, Stats, Version};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// The order service's address as the experiment file names it.
const ORDERS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 77, 1, 2)), 8080);
/// Payment's, likewise.
const PAYMENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 77, 2, 2)), 9090);
const DEMO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 1, 1));
const ORDERS_TO_PAYMENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 2, 1));
/// Two ends and their network: what a veth needs.
const PREFIX: u8 = 30;
/// A service answers its first requests late: its pages are read, its connections made. The run is about slow
/// payment, so orders are sent before it, one after another, until so many in a row were answered within so long; on
/// a machine that never gets there the run's own baseline says so.
/// As many as payment answers at a time.
const WARM_LANES: usize = 4;
const WARM_ORDERS: u32 = 40;
const WARM_MS_MAX: u128 = 50;
const WARM_UP_S_MAX: u64 = 20;
/// A service starts in some milliseconds; a machine that compiles meanwhile takes its time.
const READY_S_MAX: u64 = 20;

/// Both services, running. Dropping it kills them, and with them their namespaces and links.
pub(super) struct World {
    orders: Service,
    payment: Service,
    client: Client,
    /// What the order service had counted when the run began.
    before: Stats,
}

struct Service {
    name: &'static str,
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl World {
    /// Starts both and waits until they serve. Fails where links of an earlier world are still on their way out;
    /// [`World::end`] waits for that.
    pub(super) async fn start(net: &Net, version: Version) -> Result<Self, DemoError> {
        let mut orders = Service::start("orders").await?;
        let mut payment = Service::start("payment").await?;
        net.pair("to-orders", "front").await?;
        net.pair("to-payment", "service").await?;
        net.give("front", orders.pid()?).await?;
        net.give("to-payment", orders.pid()?).await?;
        net.give("service", payment.pid()?).await?;
        net.address("to-orders", DEMO_ADDRESS, PREFIX).await?;
        payment
            .set_up(Setup {
                links: vec![link("service", PAYMENT.ip())],
                listen: PAYMENT,
                payment: None,
                version,
            })
            .await?;
        orders
            .set_up(Setup {
                links: vec![
                    link("front", ORDERS.ip()),
                    link("to-payment", ORDERS_TO_PAYMENT),
                ],
                listen: ORDERS,
                payment: Some(PAYMENT),
                version,
            })
            .await?;
        let mut world = Self {
            orders,
            payment,
            client: Client::new(1),
            before: Stats::default(),
        };
        world.warm_up().await;
        world.before = world.stats().await?;
        Ok(world)
    }

    async fn warm_up(&self) {
        let limit = Duration::from_secs(WARM_UP_S_MAX);
        // Side by side, so that the order service's own connections to payment are warm, too.
        let lanes = (0..WARM_LANES).map(|_| self.quick_orders());
        // Not warm within the limit: the run's baseline is the judge of that.
        let _ = tokio::time::timeout(limit, futures_util::future::join_all(lanes)).await;
    }

    /// Returns after so many quick answers in a row.
    async fn quick_orders(&self) {
        let url = format!("http://{ORDERS}/orders");
        let mut quick = 0;
        while quick < WARM_ORDERS {
            let sent = Instant::now();
            let answer = self.client.post(&url, ("warm-up", "yes")).await;
            let in_time = sent.elapsed().as_millis() <= WARM_MS_MAX;
            quick = if answer.is_ok() && in_time {
                quick + 1
            } else {
                0
            };
        }
    }

    /// What the order service counted since the world began.
    pub(super) async fn stats(&self) -> Result<Stats, DemoError> {
        let url = format!("http://{ORDERS}/stats");
        let body = self.client.get(&url).await?;
        let counted: Stats = serde_json::from_slice(&body).map_err(|error| DemoError::Http {
            url,
            problem: error.to_string(),
        })?;
        Ok(counted.since(&self.before))
    }

    /// Ends both services and waits until their link is gone.
    pub(super) async fn end(self, net: &Net) -> Result<(), DemoError> {
        self.orders.end().await?;
        self.payment.end().await?;
        // A namespace is taken apart after its last process; the link's near end goes with it.
        net.gone("to-orders").await
    }
}

fn link(name: &str, address: IpAddr) -> Link {
    Link {
        name: name.to_owned(),
        address,
        prefix: PREFIX,
    }
}

impl Service {
    async fn start(name: &'static str) -> Result<Self, DemoError> {
        let mut child = Command::new(SELF)
            .arg0("squall")
            .args(["demo-service", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(DemoError::io(format!("starting the {name} service")))?;
        let missing = || DemoError::Usage(format!("the {name} service has no pipe"));
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        let mut service = Self {
            name,
            child,
            input,
            output: BufReader::new(output).lines(),
        };
        service.hear(APART).await?;
        Ok(service)
    }

    fn pid(&self) -> Result<u32, DemoError> {
        let ended = || DemoError::Usage(format!("the {} service ended early", self.name));
        self.child.id().ok_or_else(ended)
    }

    async fn set_up(&mut self, setup: Setup) -> Result<(), DemoError> {
        let mut line =
            serde_json::to_string(&setup).map_err(|error| DemoError::Usage(error.to_string()))?;
        line.push('\n');
        self.input
            .write_all(line.as_bytes())
            .await
            .map_err(DemoError::io(format!(
                "telling the {} service what it is",
                self.name
            )))?;
        self.hear(SERVING).await
    }

    async fn hear(&mut self, expected: &'static str) -> Result<(), DemoError> {
        let limit = Duration::from_secs(READY_S_MAX);
        let said = tokio::time::timeout(limit, self.output.next_line()).await;
        let said = said.ok().and_then(Result::ok).flatten();
        if said.as_deref() == Some(expected) {
            return Ok(());
        }
        Err(DemoError::NotReady {
            service: self.name,
            expected,
            said: said.unwrap_or_default(),
            seconds: READY_S_MAX,
        })
    }

    async fn end(mut self) -> Result<(), DemoError> {
        self.child
            .kill()
            .await
            .map_err(DemoError::io(format!("ending the {} service", self.name)))
    }
}
