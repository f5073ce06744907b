//! What a kubelet makes of a pod's template: a manifest's words, turned into what the runtime is told. A word that is not known here is an
//! error, so that a manifest cannot say anything that a test of it leaves out.

use std::path::PathBuf;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::cri::{Capabilities, Profile};
use super::{ContainerPlan, ContainerSecurity, Mount, PERIOD_US, PodPlan, Resources, Result};

/// What the runtimes hide of /proc and /sys from whoever is not privileged, and what they let nobody write to
/// (kubernetes/pkg/securitycontext/util.go).
const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// How soon the kernel kills what asked for little memory and may have more (kubernetes/pkg/kubelet/qos/policy.go).
const BURSTABLE_OOM_SCORE: i64 = 999;

/// The pod of a workload, with its one container.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Template {
    #[serde(rename = "hostPID", default)]
    host_pid: bool,
    #[serde(default)]
    host_network: bool,
    containers: [Spec; 1],
    #[serde(default)]
    volumes: Vec<Volume>,
    /// Without one there is nothing more to mount.
    automount_service_account_token: bool,
    // What the API server and the scheduler make of it.
    #[serde(rename = "serviceAccountName")]
    _account: IgnoredAny,
    #[serde(rename = "enableServiceLinks")]
    _links: IgnoredAny,
    #[serde(rename = "priorityClassName")]
    _priority: IgnoredAny,
    #[serde(rename = "nodeSelector")]
    _nodes: IgnoredAny,
    #[serde(rename = "tolerations")]
    _tolerations: IgnoredAny,
    #[serde(rename = "terminationGracePeriodSeconds")]
    _grace: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    name: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<Variable>,
    resources: Amounts,
    security_context: SecurityContext,
    volume_mounts: Vec<VolumeMount>,
    // The image is made by the test.
    #[serde(rename = "image")]
    _image: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Variable {
    name: String,
    value_from: ValueFrom,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ValueFrom {
    field_ref: FieldRef,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FieldRef {
    field_path: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Amounts {
    requests: Amount,
    limits: Amount,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Amount {
    cpu: String,
    memory: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SecurityContext {
    privileged: bool,
    allow_privilege_escalation: bool,
    read_only_root_filesystem: bool,
    run_as_user: i64,
    capabilities: AddAndDrop,
    seccomp_profile: Kind,
    app_armor_profile: Kind,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddAndDrop {
    drop: Vec<String>,
    add: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kind {
    r#type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct VolumeMount {
    name: String,
    mount_path: String,
    #[serde(default)]
    read_only: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Volume {
    name: String,
    host_path: Option<HostPath>,
    // Their files are the test's.
    config_map: Option<IgnoredAny>,
    secret: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HostPath {
    path: String,
    r#type: String,
}

/// What a volume of a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// A folder of the node; one that may have to be made first.
    Folder {
        /// Where it is on the node.
        path: &'a str,
        /// It is made where there is none.
        make: bool,
    },
    /// A config map or a secret, by the volume's name.
    Files(&'a str),
}

impl Template {
    /// The one workload of this kind among a file's documents.
    ///
    /// # Errors
    /// When there is none, or it says what is not known here.
    pub fn of(documents: &str, kind: &str) -> Result<Self> {
        let documents: Vec<Value> = serde_saphyr::from_multiple(documents)?;
        let mut found = documents.into_iter().filter(|one| one["kind"] == kind);
        let mut found = found.next().ok_or_else(|| format!("no {kind}"))?;
        let spec = found["spec"]["template"]["spec"].take();
        let template: Self = serde_json::from_value(spec)
            .map_err(|error| format!("the {kind} says what the lab does not know: {error}"))?;
        if template.automount_service_account_token {
            return Err(format!("the {kind} mounts a service account's token").into());
        }
        Ok(template)
    }

    /// The pod.
    #[must_use]
    pub fn pod(&self) -> PodPlan {
        PodPlan {
            host_network: self.host_network,
            host_pid: self.host_pid,
            ..PodPlan::default()
        }
    }

    /// The container, on a node of this name. `outside` says where what a volume has is.
    ///
    /// # Errors
    /// When it says what is not known here; what `outside` says.
    pub fn container(
        &self,
        node: &str,
        outside: &dyn Fn(Source<'_>) -> Result<PathBuf>,
    ) -> Result<ContainerPlan> {
        let [spec] = &self.containers;
        let mut env = Vec::new();
        for variable in &spec.env {
            let field = &variable.value_from.field_ref.field_path;
            if field != "spec.nodeName" {
                return Err(format!("the lab does not know the field {field}").into());
            }
            env.push((variable.name.clone(), node.to_owned()));
        }
        let with_variables = |arg: &String| {
            let put = |arg: String, (name, value): &(String, String)| {
                arg.replace(&format!("$({name})"), value)
            };
            env.iter().fold(arg.clone(), put)
        };
        let mounts = spec.volume_mounts.iter();
        let mounts: Result<Vec<Mount>> = mounts.map(|mount| self.mount(mount, outside)).collect();
        Ok(ContainerPlan {
            args: spec.args.iter().map(with_variables).collect(),
            env,
            user: spec.security_context.run_as_user,
            mounts: mounts?,
            resources: spec.resources.told()?,
            security: spec.security_context.told()?,
            ..ContainerPlan::default()
        })
    }

    /// What the container is called.
    #[must_use]
    pub fn name(&self) -> &str {
        let [spec] = &self.containers;
        &spec.name
    }

    fn mount(
        &self,
        mount: &VolumeMount,
        outside: &dyn Fn(Source<'_>) -> Result<PathBuf>,
    ) -> Result<Mount> {
        let volume = self.volumes.iter().find(|one| one.name == mount.name);
        let volume = volume.ok_or_else(|| format!("no volume {}", mount.name))?;
        let source = match (&volume.host_path, &volume.config_map, &volume.secret) {
            (Some(host), None, None) => Source::Folder {
                path: &host.path,
                make: host.r#type == "DirectoryOrCreate",
            },
            (None, Some(_), None) | (None, None, Some(_)) => Source::Files(&volume.name),
            _ => return Err(format!("volume {} is none that the lab knows", mount.name).into()),
        };
        Ok(Mount {
            inside: mount.mount_path.clone(),
            outside: outside(source)?.display().to_string(),
            read_only: mount.read_only,
        })
    }
}

impl Amounts {
    fn told(&self) -> Result<Resources> {
        Ok(Resources {
            cpu_period: PERIOD_US,
            cpu_quota: milli(&self.limits.cpu)? * PERIOD_US / 1000,
            cpu_shares: milli(&self.requests.cpu)? * 1024 / 1000,
            memory_bytes: bytes(&self.limits.memory)?.max(bytes(&self.requests.memory)?),
            oom_score_adj: BURSTABLE_OOM_SCORE,
        })
    }
}

/// Thousandths of a core.
fn milli(amount: &str) -> Result<i64> {
    match amount.strip_suffix('m') {
        Some(milli) => Ok(milli.parse()?),
        None => Ok(amount.parse::<i64>()? * 1000),
    }
}

fn bytes(amount: &str) -> Result<i64> {
    let mebi = amount.strip_suffix("Mi");
    let mebi = mebi.ok_or_else(|| format!("the lab reads Mi alone, not {amount}"))?;
    Ok(mebi.parse::<i64>()? << 20)
}

impl SecurityContext {
    fn told(&self) -> Result<ContainerSecurity> {
        if self.privileged {
            return Err("a privileged container may do anything".into());
        }
        let all = |paths: &[&str]| paths.iter().map(|&path| path.to_owned()).collect();
        Ok(ContainerSecurity {
            capabilities: Some(Capabilities {
                add: self.capabilities.add.clone(),
                drop: self.capabilities.drop.clone(),
            }),
            read_only_root: self.read_only_root_filesystem,
            no_new_privs: !self.allow_privilege_escalation,
            masked: all(&MASKED),
            read_only: all(&READ_ONLY),
            seccomp: Some(self.seccomp_profile.told()?),
            app_armor: Some(self.app_armor_profile.told()?),
            ..ContainerSecurity::default()
        })
    }
}

impl Kind {
    fn told(&self) -> Result<Profile> {
        let kind = match self.r#type.as_str() {
            "RuntimeDefault" => 0,
            "Unconfined" => 1,
            other => return Err(format!("the lab knows no profile {other}").into()),
        };
        Ok(Profile { kind })
    }
}
