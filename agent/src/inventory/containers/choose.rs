//! Which pods and containers are meant. Pure.

use super::{Container, Image, Match, Pairs, Pod};
use squall_experiments::target::{ContainerSelector, PodSelector};

/// The annotation by which a pod says which of its containers is the one that people mean
/// (<https://kubernetes.io/docs/reference/labels-annotations-taints/>).
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// Containers that are put beside others to serve them: never a pod's main one unless they are named.
const SIDECARS: [&str; 12] = [
    "cloud-sql-proxy",
    "consul-dataplane",
    "daprd",
    "envoy",
    "fluent-bit",
    "fluentd",
    "istio-proxy",
    "jaeger-agent",
    "kuma-sidecar",
    "linkerd-proxy",
    "otel-collector",
    "vault-agent",
];

/// Whether a pod is all that the selector says of pods.
pub(super) fn pod_matches(selector: &PodSelector, pod: &Pod) -> bool {
    pod.namespace == selector.namespace
        && selector.name.as_ref().is_none_or(|name| *name == pod.name)
        && has(&pod.labels, &selector.labels)
        && has(&pod.annotations, &selector.annotations)
}

/// Whether a container is all that the selector says, but for its image.
pub(super) fn container_matches(
    selector: &ContainerSelector,
    container: &Container,
    pod: Option<&Pod>,
) -> bool {
    let labelled = |(key, value): (&String, &String)| {
        let outer = pod.and_then(|pod| pod.labels.get(key));
        container.labels.get(key).or(outer) == Some(value)
    };
    let name = selector.name.as_ref();
    name.is_none_or(|name| *name == container.name) && selector.labels.iter().all(labelled)
}

fn has(all: &Pairs, wanted: &Pairs) -> bool {
    wanted
        .iter()
        .all(|(key, value)| all.get(key) == Some(value))
}

/// Whether one of the image's names is the wanted one, as it stands or without its registry, path, tag or digest.
pub(super) fn image_matches(selector: &ContainerSelector, images: &[Image]) -> bool {
    let Some(wanted) = &selector.image else {
        return true;
    };
    let ends = |name: &str| {
        name.strip_suffix(wanted.as_str())
            .is_some_and(|before| before.is_empty() || before.ends_with('/'))
    };
    images.iter().any(|image| {
        let (plain, _) = image.split_once('@').unwrap_or((image, ""));
        // A colon before the last `/` is that of the registry's port.
        let untagged = match plain.rsplit_once(':') {
            Some((before, tag)) if !tag.contains('/') => before,
            _ => plain,
        };
        [image.as_str(), plain, untagged].into_iter().any(ends)
    })
}

/// The container of a pod that is hit.
///
/// # Errors
/// A sentence: it is not there, or only sidecars are.
pub(super) fn main_of<'a>(
    named: Option<&str>,
    pod: &Pod,
    running: &[&'a Container],
) -> Result<&'a Container, String> {
    let find = |name: &str| {
        // One that is being replaced may be listed beside its successor.
        let same = running.iter().copied().filter(|c| c.name == name);
        same.max_by_key(|c| c.created)
    };
    let among = || {
        let mut names: Vec<&str> = running.iter().map(|c| c.name.as_str()).collect();
        names.sort_unstable();
        match names.as_slice() {
            [] => "none of its containers runs".to_owned(),
            names => format!("those that run are {}", names.join(", ")),
        }
    };
    if let Some(name) = named {
        return find(name).ok_or_else(|| format!("it has no container {name}: {}", among()));
    }
    if let Some(name) = pod.annotations.get(DEFAULT_CONTAINER) {
        return find(name).ok_or_else(|| {
            format!(
                "its default container {name} ({DEFAULT_CONTAINER}) does not run: {}",
                among()
            )
        });
    }
    let mains = running
        .iter()
        .copied()
        .filter(|c| !SIDECARS.contains(&c.name.as_str()));
    mains.min_by_key(|c| (c.created, &c.id)).ok_or_else(|| {
        format!(
            "it has no main container: {}; name one with `container`",
            among()
        )
    })
}

/// Of all that matched, what may have taken a killed container's place: itself again first, then what was not there beside it.
/// Where nobody knows what was (`siblings`), it is itself or nothing.
pub(super) fn successors<'a>(
    matches: &'a [Match],
    kin: &str,
    siblings: Option<&[String]>,
) -> Vec<&'a Match> {
    let (mut itself, others): (Vec<_>, Vec<_>) = matches.iter().partition(|m| m.kin == kin);
    let is_new = |m: &&Match| siblings.is_some_and(|all| !all.contains(&m.kin));
    itself.extend(others.into_iter().filter(is_new));
    itself
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_a_killed_containers_place_is_itself_or_new() {
        let matches = ["other/pay", "new/pay", "mine/pay"].map(|kin| Match {
            kin: kin.to_owned(),
            ..Match::default()
        });
        let all = |siblings: Option<&[String]>| -> Vec<&str> {
            let may = successors(&matches, "mine/pay", siblings);
            may.into_iter().map(|m| m.kin.as_str()).collect()
        };
        assert_eq!(
            all(Some(&["other/pay".to_owned()])),
            ["mine/pay", "new/pay"]
        );
        assert_eq!(all(None), ["mine/pay"]);
    }

    fn container(name: &str, created: i64) -> Container {
        Container {
            id: format!("id-{name}-{created}"),
            name: name.to_owned(),
            created,
            ..Container::default()
        }
    }

    #[test]
    fn the_main_container_is_the_first_that_is_no_sidecar() {
        let all = [
            container("istio-proxy", 1),
            container("payment", 2),
            container("logger", 3),
            container("logger", 4),
        ];
        let all: Vec<&Container> = all.iter().collect();
        let mut pod = Pod::default();
        assert_eq!(main_of(None, &pod, &all).unwrap().name, "payment");
        assert_eq!(main_of(Some("logger"), &pod, &all).unwrap().created, 4);
        assert_eq!(main_of(Some("istio-proxy"), &pod, &all).unwrap().created, 1);
        assert!(main_of(Some("nginx"), &pod, &all).is_err());
        assert!(main_of(None, &pod, &all[..1]).is_err());
        assert!(main_of(None, &pod, &[]).is_err());
        let (key, value) = (DEFAULT_CONTAINER.to_owned(), "logger".to_owned());
        pod.annotations.insert(key.clone(), value);
        assert_eq!(main_of(None, &pod, &all).unwrap().name, "logger");
        pod.annotations.insert(key, "gone".to_owned());
        assert!(main_of(None, &pod, &all).is_err());
    }

    #[test]
    fn an_image_is_known_by_each_of_its_names() {
        let full = "docker.io/library/nginx:1.25@sha256:0123".to_owned();
        let says = |wanted: &str, image: &str| {
            let selector = ContainerSelector {
                image: Some(wanted.to_owned()),
                ..ContainerSelector::default()
            };
            image_matches(&selector, &[image.to_owned()])
        };
        for wanted in [
            "nginx",
            "nginx:1.25",
            "library/nginx",
            "docker.io/library/nginx:1.25",
            full.as_str(),
        ] {
            assert!(says(wanted, &full), "{wanted}");
        }
        for wanted in ["inx", "nginx:1.2", "nginx:latest", "my/nginx", "1.25"] {
            assert!(!says(wanted, &full), "{wanted}");
        }
        assert!(says("shop", "registry:5000/shop"));
        assert!(!says("registry", "registry:5000/shop"));
    }
}
