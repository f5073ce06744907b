//! What a probe uses of the machine that it runs on: the controller's.

use super::{Auth, Cluster, Lines, Probe, Source, Tls};
use crate::secret::{Said, SecretRef};
use std::fmt;

/// One thing of the controller's own machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local<'a> {
    /// A program that is run.
    Program(&'a str),
    /// A file or folder that is read.
    File(&'a str),
    /// A variable of the environment that is read.
    Variable(&'a str),
    /// A unit's messages in systemd's journal.
    Journal(&'a str),
}

impl fmt::Display for Local<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(path) => write!(f, "the program `{path}`"),
            Self::File(path) => write!(f, "the file `{path}`"),
            Self::Variable(name) => write!(f, "the environment variable `{name}`"),
            Self::Journal(unit) => write!(f, "the journal of `{unit}`"),
        }
    }
}

impl Probe {
    /// Everything of the controller's own machine that it uses. What it asks over the network is not among it.
    #[must_use]
    pub fn locals(&self) -> Vec<Local<'_>> {
        match self {
            Self::Http(p) => of_source(&p.request.source),
            Self::Load(p) => {
                let csv = p.csv.iter().map(|path| Local::File(path));
                csv.chain(of_source(&p.request.source)).collect()
            }
            Self::Tcp(_) | Self::Dns(_) => Vec::new(),
            Self::Command(p) => p
                .argv
                .first()
                .map(|one| Local::Program(one))
                .into_iter()
                .collect(),
            Self::Prometheus(p) => of_source(&p.source),
            Self::Webhook(p) => of_source(&p.source),
            Self::Grpc(p) => of_tls(p.tls.as_ref()).collect(),
            Self::Postgres(p) => of_secret(p.password.as_ref())
                .chain(of_tls(p.tls.as_ref()))
                .collect(),
            Self::Redis(p) => of_secret(p.password.as_ref())
                .chain(of_tls(p.tls.as_ref()))
                .collect(),
            Self::Log(p) => match &p.of {
                Lines::File(path) => vec![Local::File(path)],
                Lines::Journal { unit, folder } => {
                    let folder = folder.iter().map(|path| Local::File(path));
                    folder.chain([Local::Journal(unit)]).collect()
                }
            },
            Self::Kubernetes(p) => p.cluster.iter().flat_map(Cluster::locals).collect(),
        }
    }
}

impl Cluster {
    /// Everything of the controller's own machine that asking it uses.
    #[must_use]
    pub fn locals(&self) -> Vec<Local<'_>> {
        match self {
            Self::Kubeconfig(path) => vec![Local::File(path)],
            Self::Api(api) => of_auth(api.auth.as_ref())
                .chain(of_tls(api.tls.as_ref()))
                .collect(),
        }
    }
}

fn of_source(source: &Source) -> Vec<Local<'_>> {
    let headers = source.headers.values().filter_map(|said| match said {
        Said::Plain(_) => None,
        Said::Secret(place) => Some(at(place)),
    });
    headers
        .chain(of_auth(source.auth.as_ref()))
        .chain(of_tls(source.tls.as_ref()))
        .collect()
}

fn of_auth(auth: Option<&Auth>) -> impl Iterator<Item = Local<'_>> {
    auth.into_iter().map(|auth| match auth {
        Auth::Bearer(place) => at(place),
        Auth::Basic(basic) => at(&basic.password),
    })
}

fn of_tls(tls: Option<&Tls>) -> impl Iterator<Item = Local<'_>> {
    let files = tls
        .into_iter()
        .flat_map(|tls| [&tls.ca, &tls.cert, &tls.key]);
    files.flatten().map(|path| Local::File(path))
}

fn of_secret(place: Option<&SecretRef>) -> impl Iterator<Item = Local<'_>> {
    place.into_iter().map(at)
}

fn at(place: &SecretRef) -> Local<'_> {
    match place {
        SecretRef::Env(name) => Local::Variable(name),
        SecretRef::File(path) => Local::File(path),
    }
}
