//! The agents of one run: a child of this process, or those that have joined a controller. The run does not know which.

use super::halt::Who;
use super::machine::Input;
use crate::fleet::{Agent, Heard, Lent, Present, Word};
use squall_experiments::wire::FromController;
use std::sync::Arc;

/// The agents of one run.
pub(super) enum Crew {
    /// One, on this node, with its own process.
    Here {
        /// The agent.
        agent: Box<Agent>,
        /// Nothing more comes from it.
        lost: bool,
    },
    /// Those of a controller's nodes.
    Lent {
        /// What they say and hear.
        lent: Lent,
        /// Who was there when the run was planned.
        present: Vec<Present>,
    },
}

impl Crew {
    /// One agent on this node.
    #[must_use]
    pub(super) fn here(agent: Agent) -> Self {
        let agent = Box::new(agent);
        Self::Here { agent, lost: false }
    }

    /// Those of a controller's agents that `belong`.
    #[must_use]
    pub(super) fn lent(lent: Lent, belongs: impl Fn(&Present) -> bool) -> Self {
        let mut present = lent.present();
        present.retain(belongs);
        Self::Lent { lent, present }
    }

    /// Who there is.
    #[must_use]
    pub(super) fn present(&self) -> Vec<Present> {
        match self {
            Self::Here { agent, .. } => {
                let hello = &agent.session.hello;
                vec![Present {
                    node: hello.node.clone(),
                    labels: hello.labels.clone(),
                    capabilities: Arc::new(hello.capabilities.clone()),
                }]
            }
            Self::Lent { present, .. } => present.clone(),
        }
    }

    /// Says something without waiting; what it means where nobody takes it.
    pub(super) fn say(&self, node: &str, message: FromController) -> Option<Input> {
        let why = "it takes no messages".to_owned();
        match self {
            Self::Here { agent, .. } if agent.session.say(message.clone()) => None,
            Self::Here { .. } => Some(Input::AgentLost(node.to_owned(), why)),
            Self::Lent { lent, .. } if lent.say(node, message) => None,
            Self::Lent { .. } => Some(Input::AgentAway(node.to_owned(), why)),
        }
    }

    /// The next that is heard.
    pub(super) async fn hear(&mut self) -> Input {
        match self {
            Self::Here { lost: true, .. } => std::future::pending().await,
            Self::Here { agent, lost } => {
                let node = agent.session.hello.node.clone();
                match agent.session.hear().await {
                    Heard::Message(message) => Input::Agent(node, *message),
                    Heard::Lost(why) => {
                        *lost = true;
                        Input::AgentLost(node, why)
                    }
                }
            }
            Self::Lent { lent, .. } => match lent.hear().await {
                (node, Word::Said(message)) => Input::Agent(node, *message),
                (node, Word::Away(why)) => Input::AgentAway(node, why),
                (node, Word::Back) => Input::AgentBack(node),
            },
        }
    }

    /// At once: kills the agent of this node, and the kernel ends its faults. Agents that are lent can only be told once more.
    pub(super) async fn kill(&mut self) -> Input {
        match self {
            Self::Here { agent, .. } => {
                agent.kill().await;
                Input::Killed
            }
            Self::Lent { .. } => Input::Halt(Who::Person),
        }
    }

    /// Nothing more is wanted of them.
    pub(super) async fn end(self) {
        if let Self::Here { agent, .. } = self {
            agent.end().await;
        }
    }
}
