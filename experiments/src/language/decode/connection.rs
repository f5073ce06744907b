//! What every probe that asks over the network can say: secrets by reference, TLS, proof of who it is, tries.

use crate::language::reader::{Cx, Fields};
use crate::language::source::At;
use crate::language::suggest::quoted;
use crate::language::tree::{Entry, Node, Value};
use crate::probe::{Auth, Basic, OnError, Tls, Trouble};
use crate::secret::SecretRef;

/// How a secret is written, for messages.
pub(super) const REFERENCE: &str = "`{ env: NAME }` or `{ file: PATH }`";

/// A secret: where it is, and never what it is. `what` has its article: `a password`.
pub(super) fn secret(
    cx: &mut Cx<'_, '_>,
    owner: At,
    node: &Node,
    what: &'static str,
) -> Option<SecretRef> {
    if matches!(node.value, Value::Scalar { .. }) && !node.is_null() {
        cx.error(node.at, format!("{what} does not stand in a file"))
            .label("it would stand in reports and in the database")
            .mend(format!("write {REFERENCE}: it is read when the run starts"));
        return None;
    }
    let fields = Fields::open(cx, owner, node, what, &["env", "file"])?;
    let (env, file) = (fields.get("env"), fields.get("file"));
    match (env, file) {
        (Some(env), None) => name(cx, env).map(SecretRef::Env),
        (None, Some(file)) => path(cx, file).map(SecretRef::File),
        (None, None) => {
            cx.error(fields.owner, format!("it is not said where {what} is"))
                .mend(format!("write {REFERENCE}"))
                .missing();
            None
        }
        (Some(env), Some(file)) => {
            cx.error(file.key_at, format!("{what} is in one place, not in two"))
                .related(env.key_at, "the first")
                .mend("remove one of them");
            None
        }
    }
}

fn name(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<String> {
    let name = cx.words(&entry.node, "a variable's name", "`ORDERS_TOKEN`")?;
    if name.contains(['=', '\0', '$', '{']) {
        let plain = name.trim_matches(['$', '{', '}']);
        cx.error(
            entry.node.at,
            format!("{} is not a variable's name", quoted(&name)),
        )
        .mend(format!("write the name alone: `{{ env: {plain} }}`"));
        return None;
    }
    Some(name)
}

fn path(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<String> {
    cx.words(&entry.node, "a file", "`/run/secrets/orders-token`")
}

/// `auth:`, where there is one.
pub(super) fn auth(cx: &mut Cx<'_, '_>, fields: &Fields<'_>) -> Option<Option<Auth>> {
    fields.option("auth", |entry| {
        let known = ["bearer", "basic"];
        let several = "a request proves who sends it in one way";
        let variant = crate::language::reader::Variant::read(
            cx,
            entry.key_at,
            &entry.node,
            "an `auth`",
            &known,
            several,
        )?;
        let Some(node) = variant.node else {
            cx.error(variant.at, format!("`{}` needs a secret", variant.word))
                .mend("write `auth: { bearer: { env: ORDERS_TOKEN } }`");
            return None;
        };
        match variant.word {
            "bearer" => secret(cx, variant.at, node, "a token").map(Auth::Bearer),
            _ => basic(cx, variant.at, node).map(Auth::Basic),
        }
    })
}

fn basic(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Basic> {
    let fields = Fields::open(cx, owner, node, "a `basic` auth", &["user", "password"])?;
    let user = fields.need(cx, "user", "user: squall").and_then(|entry| {
        let user = cx.words(&entry.node, "a user", "`squall`")?;
        if user.contains(':') {
            cx.error(entry.node.at, "a user's name has no `:` (RFC 7617)")
                .mend("write the user alone, and the password as a reference of its own");
            return None;
        }
        Some(user)
    });
    let password = fields
        .need(cx, "password", "password: { env: ORDERS_PASSWORD }")
        .and_then(|entry| secret(cx, entry.key_at, &entry.node, "a password"));
    Some(Basic {
        user: user?,
        password: password?,
    })
}

/// `tls:`, where there is one. `plain` is where it says that TLS is not spoken at all.
pub(super) fn tls(
    cx: &mut Cx<'_, '_>,
    fields: &Fields<'_>,
    plain: Option<At>,
) -> Option<Option<Tls>> {
    fields.option("tls", |entry| {
        let known = ["ca", "cert", "key", "serverName"];
        let of = Fields::open(cx, entry.key_at, &entry.node, "a `tls`", &known)?;
        let mut file = |name: &str| {
            of.option(name, |e| {
                let text = cx.words(&e.node, "a PEM file", "`/etc/squall/ca.pem`")?;
                if text.contains("-----BEGIN") {
                    cx.error(e.node.at, "a certificate or key does not stand in a file")
                        .mend(format!("write `{name}: PATH`, the file it is in"));
                    return None;
                }
                Some(text)
            })
        };
        let (ca, cert, key) = (file("ca"), file("cert"), file("key"));
        let server_name = of.option("serverName", |e| server_name(cx, e));
        let (cert_at, key_at) = (of.get("cert"), of.get("key"));
        if let (Some(one), None) | (None, Some(one)) = (cert_at, key_at) {
            let other = if cert_at.is_some() { "key" } else { "cert" };
            cx.error(
                one.key_at,
                format!("a client's `{}` needs its `{other}`", one.key),
            )
            .mend(format!("add `{other}: client-{other}.pem`"));
            return None;
        }
        if let Some(plain) = plain {
            cx.error(
                entry.key_at,
                "http is not TLS, and these settings are for TLS",
            )
            .related(plain, "asked in plain text")
            .mend("write `https://…`, or remove `tls`");
            return None;
        }
        Some(Tls {
            ca: ca?,
            cert: cert?,
            key: key?,
            server_name: server_name?,
        })
    })
}

fn server_name(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<String> {
    let name = cx.words(&entry.node, "a host's name", "`orders.shop`")?;
    if name.parse::<crate::filter::Host>().is_err() || name.contains('/') {
        cx.error(
            entry.node.at,
            format!("{} is neither a name nor an address", quoted(&name)),
        )
        .mend("write the name that stands in the other side's certificate, such as `orders.shop`");
        return None;
    }
    Some(name)
}

/// `retries:` and `onError:`.
pub(super) fn trouble(cx: &mut Cx<'_, '_>, fields: &Fields<'_>) -> Option<Trouble> {
    let retries = fields.or("retries", 0, |e| {
        cx.whole(
            &e.node,
            "a number of further tries",
            0..=Trouble::RETRIES_MAX,
        )
    });
    let words = [
        ("violation", OnError::Violation),
        ("ignore", OnError::Ignore),
    ];
    let on_error = fields.or("onError", OnError::Violation, |e| {
        cx.word(&e.node, "what an attempt without an answer is", &words)
    });
    Some(Trouble {
        retries: retries?,
        on_error: on_error?,
    })
}
