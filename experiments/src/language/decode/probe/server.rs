//! What probes of name servers and databases have in common: a usual port, a login, a connection.

use super::super::connection::secret;
use super::super::request::authority;
use crate::language::reader::{Cx, Fields};
use crate::language::suggest::quoted;
use crate::language::tree::Node;
use crate::probe::Connection;
use crate::secret::SecretRef;

pub(super) fn connection(cx: &mut Cx<'_, '_>, fields: &Fields<'_>) -> Option<Connection> {
    let words = [("kept", Connection::Kept), ("new", Connection::New)];
    fields.or("connection", Connection::default(), |e| {
        cx.word(&e.node, "a way to connect", &words)
    })
}

pub(super) fn password(cx: &mut Cx<'_, '_>, fields: &Fields<'_>) -> Option<Option<SecretRef>> {
    fields.option("password", |e| secret(cx, e.key_at, &e.node, "a password"))
}

/// With its port: the usual one where nothing is said.
pub(super) fn server(cx: &mut Cx<'_, '_>, node: &Node, host: &str, port: u16) -> Option<String> {
    let text = cx.words(node, "an address", &format!("`{host}:{port}`"))?;
    match authority(&text) {
        Ok(Some(_)) => Some(text),
        Ok(None) => Some(format!("{text}:{port}")),
        Err(problem) => {
            // Not quoted: it may carry a password.
            if text.contains("://") || text.contains('@') {
                cx.error(node.at, "this is a URL, and an address belongs here")
                    .label("a password in it would stand in reports and in the database")
                    .mend(format!(
                        "write `{host}:{port}`; user, password and database are fields of their own"
                    ));
            } else {
                cx.error(
                    node.at,
                    format!("{} is not an address: {problem}", quoted(&text)),
                )
                .mend(format!(
                    "write `{host}`, `10.0.0.2:{port}` or `[fd00::2]:{port}`"
                ));
            }
            None
        }
    }
}

/// A text that a protocol can carry: not empty, and without the byte that ends texts.
pub(super) fn plain(cx: &mut Cx<'_, '_>, node: &Node, what: &str, example: &str) -> Option<String> {
    let text = cx.words(node, what, example)?;
    if text.contains('\0') {
        cx.error(node.at, format!("{what} cannot contain a NUL"))
            .mend("remove it");
        return None;
    }
    Some(text)
}
