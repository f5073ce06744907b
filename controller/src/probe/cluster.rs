//! Where a Kubernetes API server is, and how one proves who one is there.

use super::client::{Client, Http};
use super::secret::Secret;
use super::tls::{self, Inline};
use super::{ProbeError, base64};
use serde_json::Value;
use squall_experiments::language;
use squall_experiments::probe::{Api, Auth, Cluster, Source, Tls};
use squall_experiments::secret::SecretRef;
use squall_experiments::units::Timeout;
use std::path::Path;

/// Where every pod finds its service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// An API server, with what a kubeconfig holds itself.
struct Found {
    api: Api,
    inline: Inline,
    token: Option<Secret>,
}

impl From<Api> for Found {
    fn from(api: Api) -> Self {
        Self {
            api,
            inline: Inline::default(),
            token: None,
        }
    }
}

/// The server that a probe asks, ready to be asked.
pub(super) fn client(
    probe: &str,
    cluster: Option<&Cluster>,
    timeout: Timeout,
) -> Result<Client, ProbeError> {
    let bad = |from: String, why: String| ProbeError::Cluster {
        probe: probe.to_owned(),
        from,
        why,
    };
    let found: Found = match cluster {
        Some(Cluster::Api(api)) => api.clone().into(),
        Some(Cluster::Kubeconfig(path)) => {
            kubeconfig(path).map_err(|why| bad(format!("the kubeconfig `{path}`"), why))?
        }
        None => in_cluster(|name| std::env::var(name).ok())
            .ok_or_else(|| bad("the service account".into(), OUTSIDE.into()))?
            .into(),
    };
    let mut source = Source::bare(found.api.url);
    source.auth = found.api.auth;
    source.timeout = timeout;
    source.tls = found.api.tls;
    let config = if source.url.starts_with("https:") {
        let default = Tls::default();
        let from = source.tls.as_ref().unwrap_or(&default);
        let inline = tls::read(probe, from, found.inline)?;
        Some(tls::inline_config(probe, &inline, from)?)
    } else {
        None
    };
    let mut client = Client::with(probe, &source, Http::One, config)?;
    if let Some(token) = found.token {
        client.bear(probe, token)?;
    }
    Ok(client)
}

/// Where there is no service account.
const OUTSIDE: &str = "the controller does not run in a cluster; say `kubeconfig: FILE`, or `url` with `auth` and `tls`";

fn in_cluster(variable: impl Fn(&str) -> Option<String>) -> Option<Api> {
    let host = variable("KUBERNETES_SERVICE_HOST")?;
    let port = variable("KUBERNETES_SERVICE_PORT")?;
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host
    };
    Some(Api {
        url: format!("https://{host}:{port}"),
        auth: Some(Auth::Bearer(SecretRef::File(format!("{ACCOUNT}/token")))),
        tls: Some(Tls {
            ca: Some(format!("{ACCOUNT}/ca.crt")),
            ..Tls::default()
        }),
    })
}

/// What a kubeconfig's current context says. Files that it names are looked for beside it.
fn kubeconfig(path: &str) -> Result<Found, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let config = language::as_json(&text).ok_or("it is not YAML")?;
    let context = text_of(&config, "current-context").ok_or("it has no current-context")?;
    let context = named(&config, "contexts", context, "context")?;
    let cluster = text_of(context, "cluster").ok_or("its context names no cluster")?;
    let cluster = named(&config, "clusters", cluster, "cluster")?;
    let user = text_of(context, "user").ok_or("its context names no user")?;
    let user = named(&config, "users", user, "user")?;
    let refused = ["exec", "auth-provider", "username"];
    if let Some(field) = refused.iter().find(|field| user.get(field).is_some()) {
        return Err(format!(
            "its user proves itself with `{field}`, and only tokens and client certificates are spoken here, as no program is started: make a service account's token for Squall"
        ));
    }
    let beside = |of: &Value, field: &str| {
        let name = text_of(of, field)?;
        let folder = Path::new(path).parent().unwrap_or(Path::new("."));
        Some(folder.join(name).display().to_string())
    };
    let data = |of: &Value, field: &str| {
        let decoded = text_of(of, field).map(|text| base64::read(text).filter(|b| !b.is_empty()));
        match decoded {
            None => Ok(None),
            Some(None) => Err(format!("its `{field}` is not base64")),
            Some(bytes) => Ok(bytes),
        }
    };
    // As kubectl does: what is in the file itself goes before what it names.
    let token = text_of(user, "token").map(Secret::at_hand);
    let token_file = beside(user, "tokenFile").filter(|_| token.is_none());
    Ok(Found {
        inline: Inline {
            ca: data(cluster, "certificate-authority-data")?,
            cert: data(user, "client-certificate-data")?,
            key: data(user, "client-key-data")?,
        },
        token,
        api: Api {
            url: text_of(cluster, "server")
                .ok_or("its cluster has no server")?
                .to_owned(),
            auth: token_file.map(|file| Auth::Bearer(SecretRef::File(file))),
            tls: Some(Tls {
                ca: beside(cluster, "certificate-authority"),
                cert: beside(user, "client-certificate"),
                key: beside(user, "client-key"),
                server_name: text_of(cluster, "tls-server-name").map(str::to_owned),
            }),
        },
    })
}

fn text_of<'v>(of: &'v Value, field: &str) -> Option<&'v str> {
    of.get(field)?.as_str()
}

fn named<'v>(config: &'v Value, list: &str, name: &str, what: &str) -> Result<&'v Value, String> {
    let all = config.get(list).and_then(Value::as_array);
    let found = all
        .into_iter()
        .flatten()
        .find(|entry| text_of(entry, "name") == Some(name));
    found
        .and_then(|entry| entry.get(what))
        .ok_or_else(|| format!("it has no {what} `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "apiVersion: v1
kind: Config
current-context: shop
contexts: [ { name: shop, context: { cluster: c, user: u } } ]
clusters: [ { name: c, cluster: { server: \"https://10.0.0.1:6443\", certificate-authority: ca.crt } } ]
users: [ { name: u, user: { tokenFile: /run/token } } ]
";

    fn read(text: &str) -> Result<Found, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(&path, text).unwrap();
        let mut found = kubeconfig(&path.display().to_string())?;
        let folder = folder.path().display().to_string();
        let tls = found.api.tls.take().unwrap();
        assert_eq!(tls.ca, Some(format!("{folder}/ca.crt")));
        Ok(found)
    }

    #[test]
    fn a_kubeconfig_is_read_in_its_current_context() {
        let found = read(CONFIG).unwrap();
        assert_eq!(found.api.url, "https://10.0.0.1:6443");
        let token = SecretRef::File("/run/token".into());
        assert_eq!(found.api.auth, Some(Auth::Bearer(token)));
        let inline = CONFIG.replace(
            "tokenFile: /run/token",
            "token: hunter2, client-certificate-data: Zm9v, client-key-data: YmFy",
        );
        let found = read(&inline).unwrap();
        assert_eq!(found.token, Some(Secret::at_hand("hunter2")));
        assert_eq!(found.inline.cert.as_deref(), Some(&b"foo"[..]));
        assert_eq!(found.inline.key.as_deref(), Some(&b"bar"[..]));
    }

    #[test]
    fn a_kubeconfig_that_cannot_be_used_says_why() {
        let why = |old: &str, new: &str| read(&CONFIG.replace(old, new)).err().unwrap();
        let missing = why("current-context: shop", "current-context: prod");
        assert_eq!(missing, "it has no context `prod`");
        let exec = why("tokenFile: /run/token", "exec: { command: aws }");
        assert!(exec.contains("`exec`"), "{exec}");
        let data = why("tokenFile: /run/token", "client-key-data: \"?\"");
        assert!(data.contains("`client-key-data` is not base64"), "{data}");
    }

    #[test]
    fn a_pod_uses_its_service_account() {
        let variable = |name: &str| match name {
            "KUBERNETES_SERVICE_HOST" => Some("fd00::1".to_owned()),
            "KUBERNETES_SERVICE_PORT" => Some("443".to_owned()),
            _ => None,
        };
        let api = in_cluster(variable).unwrap();
        assert_eq!(api.url, "https://[fd00::1]:443");
        assert!(
            matches!(api.auth, Some(Auth::Bearer(SecretRef::File(path))) if path.ends_with("/token"))
        );
        assert!(in_cluster(|_| None).is_none());
    }
}
