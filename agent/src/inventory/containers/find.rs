//! Which pods and containers match, and which processes each means: asked of one runtime, with its candidates' own errors told
//! one by one.

use super::cri::Cri;
use super::docker::Docker;
use super::{
    Asked, Container, KEEPERS_MAX, Match, NODES_OWN, Needs, Pod, QUESTIONS_MAX, choose, shown,
};
use crate::inventory::Rules;
use futures_util::stream::{self, StreamExt};
use squall_experiments::target::{ContainerSelector, PodSelector, Runtime};
use std::path::Path;

/// Of an id so many characters tell it apart: 64 bits.
const KIN_CHARS: usize = 16;

pub(super) async fn pods(
    socket: &Path,
    selector: &PodSelector,
    needs: Needs,
    rules: &Rules,
) -> Result<Asked, String> {
    let cri = Cri::open(socket).await?;
    let mut pods = cri.pods().await?;
    pods.retain(|pod| choose::pod_matches(selector, pod));
    let containers = if pods.is_empty() {
        Vec::new()
    } else {
        cri.containers().await?
    };
    let found = pods.iter().map(|pod| {
        let inside = |c: &&Container| c.pod.as_ref() == Some(&pod.id);
        let inside: Vec<&Container> = containers.iter().filter(inside).collect();
        let cri = &cri;
        async move {
            let found = one_pod(cri, selector, pod, &inside, needs, rules).await;
            found.map_err(|reason| (pod.label(), reason))
        }
    });
    Ok(collect(found).await)
}

/// Works off the questions, some at a time.
async fn collect<F>(questions: impl Iterator<Item = F>) -> Asked
where
    F: Future<Output = Result<Match, (String, String)>>,
{
    let questions: Vec<F> = questions.collect();
    let mut answers = stream::iter(questions).buffered(QUESTIONS_MAX);
    let mut asked = Asked::default();
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(found) => asked.matches.push(found),
            Err(excluded) => asked.excluded.push(excluded),
        }
    }
    asked
}

async fn one_pod(
    cri: &Cri,
    selector: &PodSelector,
    pod: &Pod,
    containers: &[&Container],
    needs: Needs,
    rules: &Rules,
) -> Result<Match, String> {
    unprotected(pod, rules)?;
    let mut found = Match {
        id: format!("pod:{}", pod.id),
        label: pod.label(),
        kin: pod.id.clone(),
        ..Match::default()
    };
    if needs.main {
        let chosen = choose::main_of(selector.container.as_deref(), pod, containers)?;
        let (pid, _) = cri.main(&chosen.id).await?;
        found.id = format!("{}:{}", found.id, chosen.id);
        found.label = format!("{}, container {}", found.label, shown(&chosen.name));
        found.kin = kin(chosen);
        found.main = Some((chosen.id.clone(), pid));
    }
    if needs.netns {
        found.keepers = keepers(cri, &pod.id, containers).await?;
    }
    Ok(found)
}

/// What a container has in common with the one that takes its place when it is restarted: a kubelet makes a new one of the same
/// name in the same pod, Docker starts the same one again.
fn kin(container: &Container) -> String {
    let long = container.pod.as_ref().unwrap_or(&container.id);
    let id: String = long.chars().take(KIN_CHARS).collect();
    match container.pod {
        Some(_) => format!("{id}/{}", shown(&container.name)),
        None => id,
    }
}

fn unprotected(pod: &Pod, rules: &Rules) -> Result<(), String> {
    rules.protects_namespace(&pod.namespace).map_or(Ok(()), Err)
}

/// The processes that keep a pod's network namespace: its sandbox's, or where it has none those of its containers.
async fn keepers(
    cri: &Cri,
    pod: &str,
    containers: &[&Container],
) -> Result<Vec<(String, u32)>, String> {
    let sandbox = cri.sandbox(pod).await?;
    if sandbox.host_network {
        return Err(NODES_OWN.to_owned());
    }
    if let Some(pid) = sandbox.pid {
        return Ok(vec![(pod.to_owned(), pid)]);
    }
    let mut keepers = Vec::new();
    for container in containers.iter().take(KEEPERS_MAX) {
        // One that has just ended keeps nothing.
        if let Ok((pid, _)) = cri.main(&container.id).await {
            keepers.push((container.id.clone(), pid));
        }
    }
    if keepers.is_empty() {
        return Err(
            "it has no process by which its network namespace could be found: none of its containers runs".to_owned(),
        );
    }
    Ok(keepers)
}

pub(super) async fn containers(
    socket: &Path,
    selector: &ContainerSelector,
    needs: Needs,
    rules: &Rules,
) -> Result<Asked, String> {
    let cri = Cri::open(socket).await?;
    if selector.runtime.is_some() && selector.runtime != cri.runtime {
        return Ok(Asked::default());
    }
    let (all, pods) = (cri.containers().await?, cri.pods().await?);
    let pod_of = |c: &Container| pods.iter().find(|pod| c.pod.as_ref() == Some(&pod.id));
    let matching = all
        .iter()
        .filter(|c| choose::container_matches(selector, c, pod_of(c)));
    let matching: Vec<&Container> = matching.collect();
    let found = matching.into_iter().map(|container| {
        let (cri, pod) = (&cri, pod_of(container));
        let name = shown(&container.name);
        let label = match pod {
            Some(pod) => format!("container {name} of {}", pod.label()),
            None => format!("container {name}"),
        };
        async move {
            let found = one_container(cri, selector, container, pod, needs, rules).await;
            match found {
                Ok(Some(found)) => Some(Ok(Match { label, ..found })),
                Ok(None) => None,
                Err(reason) => Some(Err((label, reason))),
            }
        }
    });
    let found: Vec<_> = stream::iter(found.collect::<Vec<_>>())
        .buffered(QUESTIONS_MAX)
        .collect()
        .await;
    Ok(collect(found.into_iter().flatten().map(std::future::ready)).await)
}

/// `None` where it is of another image.
async fn one_container(
    cri: &Cri,
    selector: &ContainerSelector,
    container: &Container,
    pod: Option<&Pod>,
    needs: Needs,
    rules: &Rules,
) -> Result<Option<Match>, String> {
    let (pid, mut images) = cri.main(&container.id).await?;
    images.extend(container.images.iter().cloned());
    if !choose::image_matches(selector, &images) {
        return Ok(None);
    }
    if let Some(pod) = pod {
        unprotected(pod, rules)?;
    }
    let mut found = Match {
        id: format!("container:{}", container.id),
        kin: kin(container),
        ..Match::default()
    };
    if needs.main {
        found.main = Some((container.id.clone(), pid));
    }
    if needs.netns {
        found.keepers = match &container.pod {
            Some(pod) => keepers(cri, pod, &[container]).await?,
            None => vec![(container.id.clone(), pid)],
        };
    }
    Ok(Some(found))
}

pub(super) async fn docker_containers(
    socket: &Path,
    selector: &ContainerSelector,
    needs: Needs,
) -> Result<Asked, String> {
    if selector.runtime.is_some_and(|r| r != Runtime::Docker) {
        return Ok(Asked::default());
    }
    let docker = Docker(socket.to_owned());
    let mut all = docker.containers().await?;
    all.retain(|c| {
        choose::container_matches(selector, c, None) && choose::image_matches(selector, &c.images)
    });
    let found = all.iter().map(|container| {
        let docker = &docker;
        async move {
            let label = format!("container {}", shown(&container.name));
            if needs.netns && container.host_network {
                return Err((label, NODES_OWN.to_owned()));
            }
            match docker.main(&container.id).await {
                Err(reason) => Err((label, reason)),
                Ok(pid) => {
                    let process = (container.id.clone(), pid);
                    Ok(Match {
                        id: format!("container:{}", container.id),
                        label,
                        kin: kin(container),
                        main: needs.main.then(|| process.clone()),
                        keepers: needs.netns.then_some(process).into_iter().collect(),
                    })
                }
            }
        }
    });
    Ok(collect(found).await)
}
