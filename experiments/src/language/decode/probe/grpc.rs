//! A health check over gRPC.

use super::super::connection::{tls, trouble};
use super::super::request::credentials;
use super::{address, every, is_text, timeout};
use crate::language::reader::{Cx, Fields};
use crate::language::source::At;
use crate::language::suggest::quoted;
use crate::language::tree::{Entry, Node};
use crate::probe::{Grpc, Trouble, every_default, timeout_default};
use std::collections::BTreeMap;

/// A service's full name in gRPC, `package.Service`, is far shorter.
const SERVICE_LETTERS_MOST: usize = 255;

pub(super) fn grpc(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Grpc> {
    if is_text(node) {
        return Some(Grpc {
            address: address(cx, node, "orders.shop", 9090)?,
            service: String::new(),
            headers: BTreeMap::new(),
            auth: None,
            tls: None,
            timeout: timeout_default(),
            every: every_default(),
            trouble: Trouble::default(),
        });
    }
    let known = [
        "address", "service", "headers", "auth", "tls", "timeout", "every", "retries", "onError",
    ];
    let fields = Fields::open(cx, owner, node, "a `grpc` probe", &known)?;
    let address = fields
        .need(cx, "address", "address: orders.shop:9090")
        .and_then(|e| address(cx, &e.node, "orders.shop", 9090));
    let service = fields.or("service", String::new(), |e| service(cx, e));
    let credentials = credentials(cx, &fields);
    let tls = tls(cx, &fields, None);
    let timeout = timeout(cx, &fields);
    let every = every(cx, &fields);
    let trouble = trouble(cx, &fields);
    let (headers, auth) = credentials?;
    Some(Grpc {
        address: address?,
        service: service?,
        headers,
        auth,
        tls: tls?,
        timeout: timeout?,
        every: every?,
        trouble: trouble?,
    })
}

fn service(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<String> {
    let name = cx.words(&entry.node, "a service's name", "`shop.v1.Orders`")?;
    let problem = if name.len() > SERVICE_LETTERS_MOST {
        "it is longer than 255 letters"
    } else if name.contains('/') {
        "a method of it stands there, or a path"
    } else if name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        "it contains a blank"
    } else {
        return Some(name);
    };
    cx.error(
        entry.node.at,
        format!("{} is not a service's name: {problem}", quoted(&name)),
    )
    .mend("write the name alone, such as `shop.v1.Orders`");
    None
}
