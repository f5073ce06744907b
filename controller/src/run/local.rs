//! What probes may use of the controller's own machine. Pure.
//!
//! A file that comes over the API is written by somebody who may start runs, not by whoever owns the controller: it must not run programs
//! there, read its files, or send its secrets anywhere, unless the controller's configuration says so.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use squall_experiments::experiment::Experiment;
use squall_experiments::probe::{Lines, Probe};
use std::path::{Component, Path, PathBuf};

/// What is allowed: nothing, where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Local {
    /// Whether `command` probes may run programs.
    pub commands: bool,
    /// Files at or below these may be read: by `log` probes, and as secrets.
    pub files: Vec<PathBuf>,
    /// These environment variables may be secrets.
    pub variables: Vec<String>,
}

impl Local {
    /// What of it an experiment uses and may not, a sentence each.
    #[must_use]
    pub fn refuses(&self, experiment: &Experiment) -> Vec<String> {
        let mut why = Vec::new();
        for steady in &experiment.steady_state {
            for probe in [Some(&steady.probe), steady.compare.as_ref()]
                .into_iter()
                .flatten()
            {
                let mut used = Vec::new();
                self.probe(probe, &mut used);
                self.secrets(&serde_json::json!(probe), &mut used);
                why.extend(used.iter().map(|what| {
                    format!("steady state `{}` {what}: the controller's configuration does not allow it (`local`)", steady.name)
                }));
            }
        }
        why.dedup();
        why
    }

    fn probe(&self, probe: &Probe, used: &mut Vec<String>) {
        match probe {
            Probe::Command(_) if !self.commands => {
                used.push("runs a program on the controller".into());
            }
            Probe::Log(log) => match &log.of {
                Lines::File(path) if !self.may_read(path.as_ref()) => {
                    used.push(format!("reads the controller's file `{path}`"));
                }
                Lines::Journal { .. } if !self.commands => {
                    used.push("reads the controller's journal".into());
                }
                _ => {}
            },
            _ => {}
        }
    }

    /// A secret is an object of one field, wherever it stands.
    fn secrets(&self, value: &Value, used: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                let only = |name| fields.get(name).filter(|_| fields.len() == 1)?.as_str();
                if let Some(path) = only("file").filter(|path| !self.may_read(path.as_ref())) {
                    used.push(format!("sends what is in the controller's file `{path}`"));
                }
                let known = |name: &&str| self.variables.iter().any(|one| one == name);
                if let Some(name) = only("env").filter(|name| !known(name)) {
                    used.push(format!(
                        "sends the controller's environment variable `{name}`"
                    ));
                }
                fields.values().for_each(|value| self.secrets(value, used));
            }
            Value::Array(all) => all.iter().for_each(|value| self.secrets(value, used)),
            _ => {}
        }
    }

    fn may_read(&self, path: &Path) -> bool {
        let plain = path.components().all(|part| part != Component::ParentDir);
        plain && self.files.iter().any(|allowed| path.starts_with(allowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_experiments::language::read;

    fn refused(local: &Local, probe: &str) -> usize {
        let text = format!(
            "apiVersion: squall/v1\nkind: Experiment\nmetadata: {{ name: x }}\nhypothesis: h\n\
             steadyState: [ {{ name: a, probe: {probe}, expect: success >= 90% }} ]\n\
             method: [ {{ fault: {{ cpu: 10% }}, on: {{ host: {{}} }}, hold: 10s }} ]\n"
        );
        let reading = read("x.yaml", &text);
        let experiment = reading.experiment.clone();
        let experiment = experiment.unwrap_or_else(|| panic!("{:?}", reading.diagnostics));
        local.refuses(&experiment).len()
    }

    #[test]
    fn what_is_the_controllers_stays_its_own() {
        let command = "{ command: { argv: [ id ] } }";
        let log = "{ log: { file: /var/log/app/x.log, pattern: E } }";
        let file = "{ http: { url: \"http://a/\", headers: { authorization: { file: /var/log/app/../../lib/squall/admin.token } } } }";
        let variable =
            "{ http: { url: \"http://a/\", headers: { authorization: { env: TOKEN } } } }";
        let nothing = Local::default();
        for probe in [command, log, file, variable] {
            assert_eq!(refused(&nothing, probe), 1, "{probe}");
        }
        assert_eq!(refused(&nothing, "{ http: { url: \"http://a/\" } }"), 0);
        let some = Local {
            commands: true,
            files: vec!["/var/log/app".into()],
            variables: vec!["TOKEN".into()],
        };
        assert_eq!(
            [command, log, file, variable].map(|probe| refused(&some, probe)),
            [0, 0, 1, 0]
        );
    }
}
