//! Which packets a network fault touches. In a file the filter's fields stand beside the fault's own.

use super::cluster;
use crate::filter::{Direction, Endpoint, Filter, Host, Ports, Protocol};
use crate::language::reader::{Cx, Fields, kind};
use crate::language::suggest::quoted;
use crate::language::tree::{Entry, Node, Value};
use std::rc::Rc;

/// The fields that every network fault has.
pub(super) const FIELDS: [&str; 4] = ["to", "from", "protocol", "direction"];

/// Reads the filter's fields among those of its fault.
pub(super) fn filter(cx: &mut Cx<'_, '_>, fields: &Fields<'_>) -> Option<Filter> {
    let to = fields.option("to", |e| endpoint(cx, e));
    let from = fields.option("from", |e| endpoint(cx, e));
    let protocol = fields.option("protocol", |e| {
        let words = [
            ("tcp", Protocol::Tcp),
            ("udp", Protocol::Udp),
            ("icmp", Protocol::Icmp),
        ];
        cx.word(&e.node, "a protocol", &words)
    });
    let direction = fields.or("direction", Direction::default(), |e| {
        let words = [
            ("egress", Direction::Egress),
            ("ingress", Direction::Ingress),
            ("both", Direction::Both),
        ];
        cx.word(&e.node, "a direction", &words)
    });
    let filter = Filter {
        to: to?,
        from: from?,
        protocol: protocol?,
        direction: direction?,
    };
    sensible(cx, fields, &filter).then_some(filter)
}

fn sensible(cx: &mut Cx<'_, '_>, fields: &Fields<'_>, filter: &Filter) -> bool {
    let ends = [
        (fields.get("to"), &filter.to),
        (fields.get("from"), &filter.from),
    ];
    if filter.protocol == Some(Protocol::Icmp) {
        for (entry, end) in &ends {
            if let (Some(entry), Some(end)) = (entry, end)
                && !end.ports.is_empty()
            {
                cx.error(entry.node.at, "ICMP has no ports")
                    .label("these are never found")
                    .mend("remove the ports, or say `protocol: tcp` or `udp`");
                return false;
            }
        }
    }
    if let [(Some(to_entry), Some(to)), (Some(from_entry), Some(from))] = &ends
        && let (Some(to), Some(from)) = (family(to), family(from))
        && to != from
    {
        cx.error(to_entry.node.at, "no packet goes from IPv4 to IPv6 or back")
            .related(from_entry.node.at, "the other family")
            .mend("give both ends addresses of one family");
        return false;
    }
    true
}

/// Whether all hosts are IPv4 (or IPv6), where that can be known.
fn family(end: &Endpoint) -> Option<bool> {
    let mut families = end.hosts.iter().map(|h| match h {
        Host::Network(network) => Some(network.address.is_ipv4()),
        Host::Name(_) | Host::Cluster(_) => None,
    });
    let first = families.next()??;
    families.all(|f| f == Some(first)).then_some(first)
}

/// `{ port: 9090 }`, `{ hosts: [ … ], ports: [ … ] }`, `db.shop`, `10.0.0.2:8080`, `[ a, b ]`.
fn endpoint(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Endpoint> {
    let node = &entry.node;
    match &node.value {
        Value::Scalar { .. } => short(cx, node),
        Value::List(_) => {
            let hosts = many(cx, node, "a list of hosts", "`[ 10.0.0.2, db.shop ]`", host)?;
            Some(Endpoint {
                hosts,
                ports: Vec::new(),
            })
        }
        Value::Map(_) => {
            let known = ["host", "hosts", "port", "ports", "service", "pod"];
            let fields = Fields::open(cx, entry.key_at, node, "an end of a conversation", &known)?;
            let hosts = either(
                cx,
                &fields,
                "host",
                "hosts",
                "`[ 10.0.0.2, db.shop ]`",
                host,
            );
            let ports = either(cx, &fields, "port", "ports", "`[ 8080, 9000-9099 ]`", port);
            let service = fields.option("service", |e| cluster::service(cx, e));
            let pods = fields.option("pod", |e| cluster::pods(cx, e));
            let mut hosts = hosts?;
            hosts.extend([service?, pods?].into_iter().flatten());
            hosts.sort();
            let end = Endpoint {
                hosts,
                ports: ports?,
            };
            if end.hosts.is_empty()
                && end.ports.is_empty()
                && known.iter().all(|k| fields.get(k).is_none())
            {
                cx.error(
                    node.at,
                    format!("`{}` names neither a host nor a port", entry.key),
                )
                .mend(format!(
                    "remove `{}` to match everything, or write `{}: {{ port: 9090 }}`",
                    entry.key, entry.key
                ));
                return None;
            }
            Some(end)
        }
    }
}

pub(super) type ReadOne<T> = fn(&mut Cx<'_, '_>, &Node) -> Option<T>;

/// `host: x` or `hosts: [ x, y ]`, nothing where neither is said.
fn either<T: Ord>(
    cx: &mut Cx<'_, '_>,
    fields: &Fields<'_>,
    one: &str,
    several: &str,
    example: &str,
    read: ReadOne<T>,
) -> Option<Vec<T>> {
    match (fields.get(one), fields.get(several)) {
        (Some(a), Some(b)) => {
            cx.error(
                b.key_at,
                format!("`{one}` and `{several}` say the same thing"),
            )
            .related(a.key_at, "the other")
            .mend(format!("put them all into `{several}`"));
            None
        }
        (Some(entry), None) => {
            if let Value::List(_) = entry.node.value {
                cx.error(
                    entry.key_at,
                    format!("`{one}` is one, and this is {}", kind(&entry.node)),
                )
                .mend(format!("call it `{several}`"));
                return None;
            }
            read(cx, &entry.node).map(|v| vec![v])
        }
        (None, Some(entry)) => many(cx, &entry.node, "a list", example, read),
        (None, None) => Some(Vec::new()),
    }
}

/// A list, sorted and each once: their order means nothing.
pub(super) fn many<T: Ord>(
    cx: &mut Cx<'_, '_>,
    node: &Rc<Node>,
    what: &str,
    example: &str,
    read: ReadOne<T>,
) -> Option<Vec<T>> {
    let single = [Rc::clone(node)];
    let items = match &node.value {
        Value::Scalar { .. } if !node.is_null() => &single[..],
        _ => cx.list(node, what, example)?,
    };
    let all: Vec<Option<T>> = items.iter().map(|item| read(cx, item)).collect();
    let mut all = all.into_iter().collect::<Option<Vec<T>>>()?;
    all.sort();
    all.dedup();
    Some(all)
}

fn host(cx: &mut Cx<'_, '_>, node: &Node) -> Option<Host> {
    let text = cx.words(node, "a host", "`10.0.0.2`, `10.0.0.0/8` or `db.shop`")?;
    match text.parse() {
        Ok(host) => Some(host),
        Err(_) => {
            let with_port = split_port(&text)
                .is_some_and(|(h, p)| h.parse::<Host>().is_ok() && p.parse::<Ports>().is_ok());
            let mend = match (with_port, text.split_once("://")) {
                (_, Some((_, rest))) => format!("write `{}`, without scheme and path", rest.split(['/', ':']).next().unwrap_or_default()),
                (true, _) => "say the port apart: `{ host: db.shop, port: 5432 }`".to_owned(),
                _ => "write an address (`10.0.0.2`), a CIDR block (`10.0.0.0/8`) or a DNS name (`db.shop`)".to_owned(),
            };
            cx.error(node.at, format!("{} is not a host", quoted(&text)))
                .mend(mend);
            None
        }
    }
}

fn port(cx: &mut Cx<'_, '_>, node: &Node) -> Option<Ports> {
    let text = cx.words(node, "a port", "`9090` or `8000-8099`")?;
    if let Ok(ports) = text.parse() {
        return Some(ports);
    }
    let backwards = text.split_once('-').and_then(|(a, b)| {
        let (a, b) = (a.trim().parse::<u16>().ok()?, b.trim().parse::<u16>().ok()?);
        (a > b && b > 0).then_some(format!("write `{b}-{a}`"))
    });
    let named = match text.as_str() {
        "http" => Some("80"),
        "https" => Some("443"),
        "ssh" => Some("22"),
        "dns" | "domain" => Some("53"),
        "postgres" | "postgresql" => Some("5432"),
        "mysql" => Some("3306"),
        "redis" => Some("6379"),
        _ => None,
    };
    let mend = backwards
        .or_else(|| named.map(|n| format!("write the number: `{n}`")))
        .unwrap_or_else(|| {
            "write a number from 1 to 65535, or a range such as `8000-8099`".to_owned()
        });
    cx.error(node.at, format!("{} is not a port", quoted(&text)))
        .mend(mend);
    None
}

/// `host:port`, `[v6]:port` or `:port` to its two parts.
fn split_port(text: &str) -> Option<(&str, &str)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return Some((host, rest.strip_prefix(':')?));
    }
    let (host, port) = text.rsplit_once(':')?;
    (!host.contains(':')).then_some((host, port))
}

/// The short form of one host, one port or both.
fn short(cx: &mut Cx<'_, '_>, node: &Node) -> Option<Endpoint> {
    let text = cx.words(
        node,
        "an end of a conversation",
        "`10.0.0.2:8080`, `db.shop` or `{ port: 9090 }`",
    )?;
    if text.parse::<Ports>().is_ok() {
        cx.error(
            node.at,
            format!("it is not said whether {} is a port", quoted(&text)),
        )
        .mend(format!("write `{{ port: {text} }}`"));
        return None;
    }
    if let Some((host_text, port_text)) = split_port(&text)
        && let Ok(ports) = port_text.parse::<Ports>()
    {
        if host_text.is_empty() {
            return Some(Endpoint {
                hosts: Vec::new(),
                ports: vec![ports],
            });
        }
        if let Ok(host) = host_text.parse::<Host>() {
            return Some(Endpoint {
                hosts: vec![host],
                ports: vec![ports],
            });
        }
    }
    if let Some((host_text, port_text)) = split_port(&text)
        && host_text.parse::<Host>().is_ok()
    {
        cx.error(node.at, format!("{} is not a port", quoted(port_text)))
            .mend(format!(
                "write `{host_text}:8080`, with a number from 1 to 65535"
            ));
        return None;
    }
    host(cx, node).map(|host| Endpoint {
        hosts: vec![host],
        ports: Vec::new(),
    })
}
