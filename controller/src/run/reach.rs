//! What an experiment that comes from outside may use of the controller's own machine. Pure.
//!
//! On a laptop a file is run by who wrote it. A controller that serves runs files of others as itself: a `command` probe would be a
//! shell on it, and a secret named as `file: /var/lib/squall/authority.key` would be sent to whatever URL the same file names.
//! So nothing of it may be used but what its configuration lists.

use serde::{Deserialize, Serialize};
use squall_experiments::experiment::Experiment;
use squall_experiments::probe::{Cluster, Local, Probe};
use std::path::{Component, Path, PathBuf};

/// What may be used; nothing where nothing is said. Whoever may start runs can have all of it sent anywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Reach {
    /// Programs that `command` probes may run, by their absolute paths.
    pub programs: Vec<PathBuf>,
    /// Folders of which everything may be read: secrets, certificates, kubeconfigs, logs.
    pub folders: Vec<PathBuf>,
    /// Variables of the environment that hold secrets.
    pub variables: Vec<String>,
    /// Units whose messages in systemd's journal may be counted.
    pub units: Vec<String>,
}

impl Reach {
    /// Every reason why an experiment may not run here.
    #[must_use]
    pub fn refuses(&self, experiment: &Experiment) -> Vec<String> {
        let steady = experiment.steady_state.iter();
        let used = steady.flat_map(|one| {
            let probes = std::iter::once(&one.probe).chain(&one.compare);
            let locals = probes.flat_map(Probe::locals);
            locals.map(move |local| (format!("probe `{}`", one.name), local))
        });
        let cluster = experiment.cluster.iter().flat_map(Cluster::locals);
        let used = used.chain(cluster.map(|local| ("`cluster`".to_owned(), local)));
        let refused = used.filter(|(_, local)| !self.has(*local));
        refused
            .map(|(who, local)| {
                let list = list(local);
                format!(
                    "{who} would use {local} of the controller, whose configuration does not list it under `reach: {list}`"
                )
            })
            .collect()
    }

    fn has(&self, local: Local<'_>) -> bool {
        match local {
            Local::Program(path) => self.programs.iter().any(|one| one == Path::new(path)),
            Local::File(path) => self
                .folders
                .iter()
                .any(|folder| is_below(Path::new(path), folder)),
            Local::Variable(name) => self.variables.iter().any(|one| one == name),
            Local::Journal(unit) => self.units.iter().any(|one| one == unit),
        }
    }
}

/// As it is written: where a link in such a folder leads is for the folder's owner to say.
fn is_below(path: &Path, folder: &Path) -> bool {
    let climbs = path.components().any(|part| part == Component::ParentDir);
    path.is_absolute() && !climbs && path.starts_with(folder)
}

const fn list(local: Local<'_>) -> &'static str {
    match local {
        Local::Program(_) => "programs",
        Local::File(_) => "folders",
        Local::Variable(_) => "variables",
        Local::Journal(_) => "units",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_experiments::language;

    /// One probe of each way to use something of the controller's machine.
    const EVERYTHING: &str = r#"
apiVersion: squall/v1
kind: Experiment
metadata: { name: curious, owner: nobody }
hypothesis: It may not.
steadyState:
  - { name: program, probe: { command: { argv: [ /usr/bin/id ] } }, expect: [ success >= 99% ] }
  - { name: header, probe: { http: { url: "http://a.example/", headers: { X-Key: { file: /var/lib/squall/key } } } }, expect: [ success >= 99% ] }
  - { name: variable, probe: { prometheus: { url: "http://a.example/", query: up, auth: { bearer: { env: TOKEN } } } }, expect: [ value >= 1 ] }
  - { name: log, probe: { log: { file: /var/log/app.log, pattern: error } }, expect: [ value <= 1 ] }
  - { name: journal, probe: { log: { journal: app.service, pattern: error } }, expect: [ value <= 1 ] }
  - { name: data, probe: { load: { url: "http://a.example/", method: POST, rate: 5/s, csv: /etc/passwd, body: "{{csv.a}}" } }, expect: [ success >= 99% ] }
  - { name: cluster, probe: { kubernetes: { deployment: { namespace: a, name: b }, kubeconfig: /root/.kube/config } }, expect: [ success >= 99% ] }
  - { name: control, probe: { http: { url: "http://a.example/" } }, compare: { url: "http://b.example/", auth: { bearer: { file: /run/secrets/b } } }, expect: [ canary ] }
method:
  - { fault: { cpu: { load: 10% } }, on: { process: { name: x } }, hold: 5s }
baseline: 5s
recovery: 5s
cluster: { url: "https://a.example/", auth: { bearer: { file: /run/secrets/token } } }
"#;

    fn everything() -> Experiment {
        let reading = language::read("curious.yaml", EVERYTHING);
        reading
            .experiment
            .unwrap_or_else(|| panic!("{:#?}", reading.diagnostics))
    }

    #[test]
    fn nothing_of_the_controller_may_be_used_where_nothing_is_said() {
        let refused = Reach::default().refuses(&everything());
        let named = [
            "program", "header", "variable", "log", "journal", "data", "cluster", "control",
        ];
        for name in named {
            let found = refused
                .iter()
                .filter(|one| one.starts_with(&format!("probe `{name}`")));
            assert_eq!(found.count(), 1, "{name}: {refused:#?}");
        }
        let of_ends = refused.iter().filter(|one| one.starts_with("`cluster`"));
        assert_eq!(of_ends.count(), 1, "{refused:#?}");
    }

    #[test]
    fn what_is_listed_may_be_used() {
        let reach: Reach = serde_json::from_value(serde_json::json!({
            "programs": [ "/usr/bin/id" ],
            "folders": [ "/var", "/etc", "/root/.kube", "/run/secrets/" ],
            "variables": [ "TOKEN" ],
            "units": [ "app.service" ],
        }))
        .unwrap();
        assert_eq!(reach.refuses(&everything()), Vec::<String>::new());
    }

    #[test]
    fn a_path_cannot_leave_its_folder() {
        let below = |path| is_below(Path::new(path), Path::new("/run/secrets"));
        assert!(below("/run/secrets/a"));
        assert!(!below("/run/secrets/../squall/key"));
        assert!(!below("/run/secrets-of-others/a"));
        assert!(!below("run/secrets/a"));
    }
}
