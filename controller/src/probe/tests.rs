//! Probes against a real service on loopback.

use super::{Report, TRIALS_WAITING_MAX, start};
use crate::clock::Clock;
use crate::judge::{Outcome, Trial};
use crate::run::fixture;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use squall_experiments::expectation::{Bound, Check, Comparison, Expectation, Measure, Scalar};
use squall_experiments::experiment::SteadyState;
use squall_experiments::probe::{Command, Http, OnError, Probe, Request, Tcp, Trouble};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// How long anything here may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

async fn service() -> SocketAddr {
    let slow = || async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        "late"
    };
    let hang = || async {
        std::future::pending::<()>().await;
        "never"
    };
    let router = Router::new()
        .route("/", get(|| async { r#"{"ok":true,"items":[{"n":3}]}"# }))
        .route("/slow", get(slow))
        .route("/hang", get(hang))
        .route("/bad", get(|| async { StatusCode::SERVICE_UNAVAILABLE }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn steady(probe: Probe, expect: Vec<Expectation>) -> SteadyState {
    SteadyState {
        name: "p".into(),
        probe,
        compare: None,
        expect,
        confirm: 3,
        block: None,
        clear: 1,
    }
}

fn http(url: String, timeout: &str, expect: Vec<Expectation>) -> SteadyState {
    let mut request = Request::bare(url);
    request.source.timeout = timeout.parse().unwrap();
    let (every, trouble) = ("50ms".parse().unwrap(), Trouble::default());
    let http = Http {
        request,
        every,
        trouble,
    };
    steady(Probe::Http(http), expect)
}

fn command(argv: &[&str], timeout: &str) -> SteadyState {
    let argv = argv.iter().map(ToString::to_string).collect();
    let (timeout, every) = (timeout.parse().unwrap(), "100ms".parse().unwrap());
    steady(
        Probe::Command(Command {
            argv,
            timeout,
            every,
        }),
        vec![body("$.n")],
    )
}

fn body(path: &str) -> Expectation {
    Expectation {
        measure: Measure::Body(path.into()),
        check: Check::Compare(Comparison::Equal, Bound::Absolute(Scalar::Number(3.0))),
    }
}

/// The first so many attempts that ended.
async fn trials(steady: SteadyState, count: usize) -> Vec<Trial> {
    let (say, mut hear) = mpsc::channel(TRIALS_WAITING_MAX);
    let _probes = start(&[steady], Clock::start(), &say).unwrap();
    let mut trials = Vec::new();
    let all = async {
        while trials.len() < count {
            if let Some((_, Report::Ended(trial))) = hear.recv().await {
                trials.push(*trial);
            }
        }
    };
    tokio::time::timeout(LIMIT, all).await.unwrap();
    trials
}

#[tokio::test]
async fn http_reads_status_and_body() {
    let address = service().await;
    let expect = vec![body("$.items[0].n"), body("$.missing")];
    let seen = trials(http(format!("http://{address}/"), "2s", expect), 2).await;
    assert_eq!(seen[0].outcome, Outcome::Success);
    assert_eq!(seen[0].status, Some(200));
    assert_eq!(seen[0].bodies, [Some(serde_json::json!(3)), None]);
    let seen = trials(http(format!("http://{address}/bad"), "2s", vec![]), 1).await;
    assert_eq!(seen[0].outcome, Outcome::Failed("status 503".into()));
}

#[tokio::test]
async fn http_that_hangs_or_is_not_there_is_unanswered() {
    let address = service().await;
    let seen = trials(http(format!("http://{address}/hang"), "150ms", vec![]), 1).await;
    assert!(matches!(&seen[0].outcome, Outcome::Unanswered(why) if why.contains("150ms")));
    assert!(seen[0].latency_us() >= 150_000);
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let seen = trials(http(format!("http://{free}/"), "2s", vec![]), 1).await;
    assert!(matches!(&seen[0].outcome, Outcome::Unanswered(why) if why.contains("refused")));
}

/// Both groups hear of the same moments, whatever their answers take, so that their attempts are pairs.
#[tokio::test]
async fn a_control_is_asked_at_the_same_moments() {
    let address = service().await;
    let mut steady = fixture::load(&format!("http://{address}/slow"), "100/s", vec![]);
    let control = fixture::load(&format!("http://{address}/"), "100/s", vec![]);
    steady.compare = Some(control.probe);
    let (say, mut hear) = mpsc::channel(TRIALS_WAITING_MAX);
    let probes = super::start(&[steady], Clock::start(), &say).unwrap();
    let mut due: [Vec<u64>; 2] = [Vec::new(), Vec::new()];
    let twenty_each = async {
        while due.iter().any(|due| due.len() < 20) {
            if let Some((place, Report::Ended(trial))) = hear.recv().await {
                due[place].push(trial.due_us);
            }
        }
    };
    tokio::time::timeout(LIMIT, twenty_each).await.unwrap();
    drop(probes);
    for due in &mut due {
        due.sort_unstable();
        due.truncate(20);
    }
    assert_eq!(due[0], due[1]);
}

/// The rate is kept although every answer takes many times the gap between two requests, and each latency is the service's.
#[tokio::test]
async fn load_is_an_open_loop() {
    let address = service().await;
    let steady = fixture::load(&format!("http://{address}/slow"), "100/s", vec![]);
    let seen = trials(steady, 100).await;
    let mut due: Vec<u64> = seen.iter().map(|trial| trial.due_us).collect();
    due.sort_unstable();
    for pair in due.windows(2) {
        assert_eq!((pair[1] - pair[0]).div_ceil(1000), 10, "{pair:?}");
    }
    assert!(seen.iter().all(|trial| trial.latency_us() >= 300_000));
}

#[tokio::test]
async fn what_is_due_is_counted_even_when_too_many_wait() {
    let address = service().await;
    let ready = super::ready(&fixture::load(
        &format!("http://{address}/hang"),
        "200/s",
        vec![],
    ));
    let (attempt, mut pace) = ready.unwrap();
    pace.in_flight_max = 5;
    let due = super::pace::pacer("p", pace.every, 1).unwrap().remove(0);
    let (say, mut hear) = mpsc::channel(TRIALS_WAITING_MAX);
    let task = tokio::spawn(super::work::work(
        0,
        attempt,
        pace,
        due,
        Clock::start(),
        say,
    ));
    let refused = async {
        loop {
            if let Some((_, Report::Ended(trial))) = hear.recv().await {
                return *trial;
            }
        }
    };
    let trial = tokio::time::timeout(LIMIT, refused).await.unwrap();
    task.abort();
    assert!(matches!(trial.outcome, Outcome::Unanswered(why) if why.contains("already waiting")));
}

#[tokio::test]
async fn tcp_connects_or_says_why_not() {
    let tcp = |address: SocketAddr| {
        let address = address.to_string();
        let (timeout, every) = ("1s".parse().unwrap(), "50ms".parse().unwrap());
        steady(
            Probe::Tcp(Tcp {
                address,
                timeout,
                every,
                trouble: Trouble::default(),
            }),
            vec![],
        )
    };
    let seen = trials(tcp(service().await), 1).await;
    assert_eq!(seen[0].outcome, Outcome::Success);
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let seen = trials(tcp(free), 1).await;
    assert!(matches!(&seen[0].outcome, Outcome::Unanswered(why) if why.contains("refused")));
}

#[tokio::test]
async fn command_has_a_value_a_body_and_an_exit_code() {
    let seen = trials(command(&["/bin/echo", " 41.5 "], "2s"), 1).await;
    assert_eq!((seen[0].value, seen[0].exit), (Some(41.5), Some(0)));
    let seen = trials(command(&["/bin/echo", r#"{"n": 3}"#], "2s"), 1).await;
    assert_eq!(seen[0].bodies, [Some(serde_json::json!(3))]);
    // One argument with blanks and a dollar stays one argument: there is no shell.
    let seen = trials(
        command(&["/usr/bin/test", "$HOME; true", "=", "x"], "2s"),
        1,
    )
    .await;
    assert_eq!(seen[0].outcome, Outcome::Failed("exit code 1".into()));
    let seen = trials(command(&["/no/such/program"], "2s"), 1).await;
    assert!(matches!(&seen[0].outcome, Outcome::Unanswered(why) if why.contains("/no/such")));
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_its_children() {
    // The length marks these processes among all others.
    let script = "sleep 98761 & sleep 98762";
    let seen = trials(command(&["/bin/sh", "-c", script], "200ms"), 1).await;
    assert!(matches!(&seen[0].outcome, Outcome::Unanswered(why) if why.contains("200ms")));
    let alive = || {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = entries.filter_map(|e| std::fs::read(e.path().join("cmdline")).ok());
        lines
            .filter(|line| line.starts_with(b"sleep\x009876"))
            .count()
    };
    let gone = async {
        while alive() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.unwrap();
}

/// A service that refuses its first connections and then answers.
async fn late_service(refusals: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        for number in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            // Closed without a word, which is no answer.
            if number < refusals {
                continue;
            }
            let _asked = stream.read(&mut [0; 1024]).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn tries_are_one_attempt() {
    let with = |address: SocketAddr, retries: u32| {
        let mut steady = http(format!("http://{address}/"), "900ms", vec![]);
        if let Probe::Http(http) = &mut steady.probe {
            http.trouble.retries = retries;
            // One attempt alone must not be helped by the next.
            http.every = "1h".parse().unwrap();
        }
        steady
    };
    let seen = trials(with(late_service(2).await, 2), 1).await;
    assert_eq!(seen[0].outcome, Outcome::Success);
    let seen = trials(with(late_service(2).await, 1), 1).await;
    assert!(
        matches!(seen[0].outcome, Outcome::Unanswered(_)),
        "{seen:?}"
    );
    let hangs = format!("http://{}/hang", service().await);
    let mut steady = http(hangs, "300ms", vec![]);
    if let Probe::Http(http) = &mut steady.probe {
        http.trouble.retries = 2;
    }
    let seen = trials(steady, 1).await;
    assert!(
        matches!(&seen[0].outcome, Outcome::Unanswered(why) if why.contains("tried 3 times")),
        "{seen:?}"
    );
}

/// Where the file says so, an attempt without an answer is neither announced nor reported; one with a bad answer is.
#[tokio::test]
async fn what_is_ignored_is_no_sample() {
    let mut steady = http(format!("http://{}/", late_service(3).await), "5s", vec![]);
    if let Probe::Http(http) = &mut steady.probe {
        http.trouble.on_error = OnError::Ignore;
    }
    let (say, mut hear) = mpsc::channel(TRIALS_WAITING_MAX);
    let _probes = start(&[steady], Clock::start(), &say).unwrap();
    let first = tokio::time::timeout(LIMIT, hear.recv()).await.unwrap();
    let Some((0, Report::Ended(first))) = first else {
        panic!("{first:?}");
    };
    assert_eq!(first.outcome, Outcome::Success);
    let mut bad = http(format!("http://{}/bad", service().await), "5s", vec![]);
    if let Probe::Http(http) = &mut bad.probe {
        http.trouble.on_error = OnError::Ignore;
    }
    let seen = trials(bad, 1).await;
    assert_eq!(seen[0].outcome, Outcome::Failed("status 503".into()));
}
