//! PostgreSQL in a pod: what its clients see of a fault, and that nothing they had stored is lost by it.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use lab::world::pods::{Container, ContainerPlan, Mount, Node, Pod};
use lab::world::{Result, output, postgres, until};
use libtest_mimic::{Completion, Failed, Trial};
use serde_json::json;

use super::{LATE, LIMIT, Scene, delay, on_the_node, pod_named, shell};

/// The user that the image has for it: it refuses to be root.
const POSTGRES: i64 = 70;

/// Its data is on the pod's shared memory, the one place where this user may write: segments of 1 MiB, or it would not fit.
const SERVER: &str = "set -e
initdb -D /dev/shm/data -U squall --auth=trust --no-sync --no-locale --wal-segsize=1
echo 'host all all 0.0.0.0/0 trust' >> /dev/shm/data/pg_hba.conf
exec postgres -D /dev/shm/data -h 0.0.0.0 -c unix_socket_directories= -c max_wal_size=8MB -c min_wal_size=2MB";

/// What is stored before anything is done to it.
const ROWS: &str = "1000";

/// So long a query takes that is still there when a fault comes.
const LONG: &str = "select pg_sleep(100)";

pub(super) fn trial() -> Trial {
    const NAME: &str = "pods::a_database_is_late_stands_still_and_loses_connections_but_no_rows";
    let Some(programs) = postgres::programs() else {
        let why = "needs postgresql: apt-get install postgresql";
        return Trial::ignorable_test(NAME, move || Ok::<_, Failed>(Completion::ignored_with(why)));
    };
    on_the_node(NAME, move |scene| {
        let (pod, container) = server(scene, &programs.display().to_string())?;
        late(scene, &pod)?;
        stands_still(scene, &pod)?;
        loses_connections(scene, &pod, &container)?;
        scene.node.remove_pod(&pod)
    })
}

/// Debian's server, with this machine's programs, and rows in it.
fn server(scene: &mut Scene, programs: &str) -> Result<(Pod, Container)> {
    let usr = Mount {
        inside: "/usr".to_owned(),
        outside: "/usr".to_owned(),
        read_only: true,
    };
    let plan = ContainerPlan {
        user: POSTGRES,
        env: vec![("PATH".to_owned(), format!("/bin:{programs}"))],
        mounts: vec![usr],
        ..shell(SERVER)
    };
    let (pod, container) = scene.pod_with("orders-db", &plan)?;
    let rows = format!("create table orders as select generate_series(1, {ROWS})");
    let stored = || ask(&scene.node, &pod, &rows).ok();
    until("rows in the database", LIMIT, stored)
        .map_err(|error| format!("{error}: {}", scene.node.log("orders-db")))?;
    Ok((pod, container))
}

/// What the server answers to a query over a connection of its own.
fn ask(node: &Node, pod: &Pod, query: &str) -> Result<String> {
    let address = pod.address.ok_or("the pod has no address")?.to_string();
    let mut psql = Command::new("psql");
    psql.args(["--no-psqlrc", "-h", &address, "-U", "squall", "-d"])
        .args(["postgres", "-Atc", query]);
    node.enter(|| output(&mut psql).map(|rows| rows.trim().to_owned()))
}

/// How long it takes to count the rows, which are all there.
fn counted(node: &Node, pod: &Pod) -> Result<Duration> {
    let begun = Instant::now();
    let rows = ask(node, pod, "select count(*) from orders")?;
    if rows == ROWS {
        return Ok(begun.elapsed());
    }
    Err(format!("{rows} rows are there, not {ROWS}").into())
}

/// A client has to wait for the server's part of the handshake, of the login and of the query.
fn late(scene: &mut Scene, pod: &Pod) -> Result<()> {
    let before = counted(&scene.node, pod)?;
    let fault = scene.inject(pod_named("orders-db"), delay())?;
    let now = counted(&scene.node, pod)?;
    scene.agent.stop(&fault)?;
    if now < LATE * 3 {
        return Err(format!(
            "counted in {now:?} under a delay of {LATE:?} a packet, and in {before:?} without"
        )
        .into());
    }
    counted(&scene.node, pod).map(drop)
}

/// A query that is asked meanwhile is answered afterwards.
fn stands_still(scene: &mut Scene, pod: &Pod) -> Result<()> {
    const STILL: Duration = Duration::from_secs(1);
    let fault = scene.inject(pod_named("orders-db"), json!({ "pause": {} }))?;
    let (node, agent) = (&scene.node, &mut scene.agent);
    let took = thread::scope(|scope| {
        let asked = scope.spawn(|| counted(node, pod));
        thread::sleep(STILL);
        let stopped = agent.stop(&fault);
        let took = asked.join().map_err(|_| "the client panicked")?;
        stopped.and(took)
    })?;
    if took >= STILL {
        return Ok(());
    }
    Err(format!("answered after {took:?}, while every process of it stood still").into())
}

/// A client in the middle of a query is told that its connection is over; the server goes on, for those who come afterwards.
fn loses_connections(scene: &mut Scene, pod: &Pod, container: &Container) -> Result<()> {
    let (node, agent) = (&scene.node, &mut scene.agent);
    let said = thread::scope(|scope| {
        let asked = scope.spawn(|| ask(node, pod, LONG));
        let runs = format!("select count(*) from pg_stat_activity where query = '{LONG}'");
        until("a query under way", LIMIT, || {
            (ask(node, pod, &runs).ok()? == "1").then_some(())
        })?;
        let target = super::written(pod_named("orders-db"));
        let reset = super::written(
            json!({ "tcp": { "effect": "reset", "filter": { "direction": "ingress" } } }),
        );
        let lease = super::written(json!(crate::dose::LEASE));
        let armed = agent.inject(&target, &reset, lease, None)?;
        let answer = asked.join().map_err(|_| "the client panicked")?;
        agent.stop(&armed.id)?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(answer)
    })?;
    match said {
        Err(error) if error.to_string().contains("connection") => {}
        other => {
            return Err(format!("the client was told {other:?} of its connection's end").into());
        }
    }
    counted(node, pod)?;
    if node.runs(container)? {
        return Ok(());
    }
    Err("the server itself has ended".into())
}
