//! The link, against an agent of the tests on the other end of a socketpair.

use super::link::framing;
use super::registry::Registry;
use super::session::greet_on;
use super::{Agent, FleetError, Heard, Program, greet};
use crate::clock;
use crate::leader::Term;
use futures_util::{SinkExt, StreamExt};
use squall_experiments::capability::{Capabilities, Means};
use squall_experiments::fault::FaultKind;
use squall_experiments::ids::RunId;
use squall_experiments::target::{HostTarget, Target};
use squall_experiments::wire::{
    FromAgent, FromController, Hello, PROTOCOL, Renew, Resolve, Resolved, Stop,
};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

type Socket = WebSocketStream<UnixStream>;

async fn dial(stream: UnixStream, protocol: u32) -> Socket {
    let (mut socket, _) =
        tokio_tungstenite::client_async_with_config("ws://squall/agent", stream, Some(framing()))
            .await
            .unwrap();
    let hello = FromAgent::Hello(Hello {
        protocol,
        protocol_least: None,
        version: "0".into(),
        node: "node".into(),
        pid: 1,
        capabilities: Capabilities::default(),
        labels: Default::default(),
    });
    say(&mut socket, &hello).await;
    socket
}

async fn say(socket: &mut Socket, message: &FromAgent) {
    let text = serde_json::to_string(message).unwrap();
    socket.send(Message::text(text)).await.unwrap();
}

async fn hear(socket: &mut Socket) -> FromController {
    let message = socket.next().await.unwrap().unwrap();
    serde_json::from_str(message.to_text().unwrap()).unwrap()
}

#[tokio::test]
async fn hello_welcome_a_question_and_an_end() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let agent = tokio::spawn(async move {
        let mut socket = dial(theirs, PROTOCOL).await;
        let FromController::Welcome(welcome) = hear(&mut socket).await else {
            panic!("no welcome");
        };
        let FromController::Resolve(resolve) = hear(&mut socket).await else {
            panic!("no question");
        };
        let resolved = |request| {
            FromAgent::Resolved(Resolved {
                request,
                candidates: Vec::new(),
                excluded: Vec::new(),
            })
        };
        say(&mut socket, &resolved(resolve.request)).await;
        welcome.spare_pids
    });
    let mut session = greet(ours).await.unwrap();
    let question = FromController::Resolve(Resolve {
        request: 7,
        target: Target::Host(HostTarget {}),
        faults: vec![FaultKind::Delay],
    });
    assert!(session.say(question));
    let Heard::Message(message) = session.hear().await else {
        panic!("no answer");
    };
    assert!(matches!(*message, FromAgent::Resolved(resolved) if resolved.request == 7));
    assert_eq!(agent.await.unwrap(), [std::process::id()]);
    assert!(matches!(session.hear().await, Heard::Lost(_)));
}

#[tokio::test]
async fn a_stop_overtakes_what_waits() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let dialled = tokio::spawn(dial(theirs, PROTOCOL));
    let session = greet(ours).await.unwrap();
    let mut socket = dialled.await.unwrap();
    let lease = squall_experiments::experiment::Experiment::lease_default();
    let faults = vec!["x".repeat(1000).as_str().into()];
    for _ in 0..2000 {
        // More than the socket's buffer holds: most of these wait.
        assert!(session.say(FromController::Renew(Renew {
            faults: faults.clone(),
            lease
        })));
    }
    // Until the writer is stuck on a full socket, there is nothing to overtake.
    tokio::task::yield_now().await;
    assert!(session.say(FromController::Stop(Stop::Run(RunId::from("r")))));
    let mut before = 0;
    loop {
        match hear(&mut socket).await {
            FromController::Stop(_) => break,
            FromController::Renew(_) => before += 1,
            _ => {}
        }
    }
    assert!(before < 1500, "{before} renewals went first");
}

#[tokio::test]
async fn an_agent_that_is_too_new_is_refused_and_told_why() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let dialled = tokio::spawn(dial(theirs, PROTOCOL + 1));
    let refused = greet(ours).await.unwrap_err();
    assert!(matches!(refused, FleetError::Protocol(_)), "{refused}");
    let said = refused.to_string();
    assert!(
        said.contains("the agent is Squall 0, which speaks version 2"),
        "{said}"
    );
    assert!(said.ends_with("upgrade the controller"), "{said}");
    let mut socket = dialled.await.unwrap();
    let FromController::Welcome(welcome) = hear(&mut socket).await else {
        panic!("it is not told");
    };
    assert_eq!(welcome.protocol, PROTOCOL);
    assert_eq!(welcome.version, env!("CARGO_PKG_VERSION"));
    assert!(matches!(
        socket.next().await,
        None | Some(Ok(Message::Close(_)))
    ));
}

#[tokio::test]
async fn an_agent_of_the_next_version_is_understood_as_far_as_it_is_known() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let agent = tokio::spawn(async move {
        let (mut socket, _) = tokio_tungstenite::client_async("ws://squall/agent", theirs)
            .await
            .unwrap();
        let words = [
            serde_json::json!({ "mood": { "good": true } }),
            serde_json::json!({ "hello": {
                "protocol": PROTOCOL + 1, "protocolLeast": PROTOCOL, "version": "99.0.0", "node": "node", "pid": 1, "moon": "full",
                "capabilities": { "kernel": "9", "cgroup": "v3", "faults": [
                    { "fault": "eclipse", "means": ["moon"] },
                    { "fault": "delay", "means": ["moon", "queue"], "held": "kernel", "phase": 7 },
                ] },
            } }),
            serde_json::json!("mood"),
            serde_json::json!({ "resolved": { "request": 7, "candidates": [], "excluded": [], "took": 3 } }),
            serde_json::json!({ "mood": {} }),
            serde_json::json!({ "stuck": { "id": "r/0.0.0", "reason": "x", "since": 9 } }),
        ];
        for word in words {
            socket.send(Message::text(word.to_string())).await.unwrap();
        }
        let FromController::Welcome(welcome) = hear(&mut socket).await else {
            panic!("no welcome");
        };
        (welcome.protocol, socket)
    });
    let mut session = greet(ours).await.unwrap();
    let able = &session.hello.capabilities.faults;
    assert_eq!((able.len(), able[0].fault), (1, FaultKind::Delay));
    assert_eq!(able[0].means, [Means::Queue]);
    let mut heard = Vec::new();
    for _ in 0..2 {
        let Heard::Message(message) = session.hear().await else {
            panic!("the link is lost");
        };
        heard.push(*message);
    }
    assert!(matches!(&heard[0], FromAgent::Resolved(resolved) if resolved.request == 7));
    assert!(matches!(&heard[1], FromAgent::Stuck(_)));
    let (agreed, mut socket) = agent.await.unwrap();
    assert_eq!(agreed, PROTOCOL);
    // What makes no sense still ends the link.
    socket.send(Message::text("{\"armed\": 7}")).await.unwrap();
    assert!(matches!(session.hear().await, Heard::Lost(why) if why.contains("`armed`")));
}

#[tokio::test]
async fn a_program_that_ends_at_once_is_said_with_its_status() {
    let program = Program {
        path: "/bin/false".into(),
        args: Vec::new(),
    };
    let error = Agent::start(&program).await.unwrap_err();
    assert!(error.to_string().contains("exit status: 1"), "{error}");
    let program = Program {
        path: "/no/such/agent".into(),
        args: Vec::new(),
    };
    let error = Agent::start(&program).await.unwrap_err();
    assert!(matches!(error, FleetError::Start { .. }));
}

/// Whoever was told of one term would be asked for faults in another.
#[tokio::test]
async fn a_link_that_was_greeted_in_an_earlier_term_is_not_let_in() {
    let over = clock::since_boot() + Duration::from_secs(3600);
    for (now, is_let_in) in [(1, true), (2, false)] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let agent = tokio::spawn(async move {
            let mut socket = dial(theirs, PROTOCOL).await;
            let welcome = hear(&mut socket).await;
            (socket, welcome)
        });
        let socket = tokio_tungstenite::accept_async_with_config(ours, Some(framing()));
        let term = Term::always();
        term.begin(1, over);
        let session = greet_on(socket.await.unwrap(), term.clone()).await.unwrap();
        let (_socket, welcome) = agent.await.unwrap();
        assert!(matches!(welcome, FromController::Welcome(welcome) if welcome.term == Some(1)));
        term.begin(now, over);
        let registry = Registry::new(term);
        let address = SocketAddr::from(([10, 0, 0, 1], 1));
        let attended = registry.attend("node".into(), address, session);
        let attended = timeout(Duration::from_millis(200), attended).await;
        assert_eq!(
            attended.is_err(),
            is_let_in,
            "it is attended until it is gone"
        );
    }
}
