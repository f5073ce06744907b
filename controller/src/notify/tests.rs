//! Notices, taken by a real HTTP server that fails as real ones do.

use super::*;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use squall_experiments::secret::{Said, SecretRef};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

/// What a receiver got, and how it is to answer.
#[derive(Clone, Default)]
struct Got {
    answers: Arc<Mutex<VecDeque<u16>>>,
    requests: Arc<Mutex<Vec<(HeaderMap, String)>>>,
}

async fn take(State(got): State<Got>, headers: HeaderMap, body: String) -> Response {
    got.requests.lock().unwrap().push((headers, body));
    let status = got.answers.lock().unwrap().pop_front().unwrap_or(204);
    let status = StatusCode::from_u16(status).unwrap();
    (status, [("retry-after", "0")], "").into_response()
}

async fn receiver(answers: &[u16]) -> (Got, String) {
    let got = Got::default();
    got.answers.lock().unwrap().extend(answers);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let router = Router::new()
        .route("/hook", post(take))
        .with_state(got.clone());
    tokio::spawn(async move {
        use hyper_util::rt::TokioIo;
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper_util::service::TowerToHyperService::new(router.clone());
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(async move {
                connection
                    .serve_connection(TokioIo::new(stream), service)
                    .await
            });
        }
    });
    (got, url)
}

fn to(url: &str, format: Format) -> Receiver {
    Receiver {
        name: "ops".into(),
        url: Said::Plain(url.to_owned()),
        secret: None,
        format,
        events: Vec::new(),
        pause_ms: Some(1),
    }
}

async fn told(receiver: Receiver, notices: Vec<Notice>) {
    let (say, senders) = Notices::start(&[receiver]).unwrap();
    notices.into_iter().for_each(|notice| say.say(notice));
    drop(say);
    tokio::time::timeout(Duration::from_secs(60), senders.finish())
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_sent_is_signed_and_can_be_checked() {
    let (got, url) = receiver(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    let mut receiver = to(&url, Format::Squall);
    receiver.secret = Some(SecretRef::File(file.display().to_string()));
    let notice = Notice::new(Event::ScheduleSuspended, "it is suspended").about("nightly", None);
    told(receiver, vec![notice.clone()]).await;
    let requests = got.requests.lock().unwrap();
    let [(headers, body)] = requests.as_slice() else {
        panic!("{requests:?}")
    };
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("webhook-id"), notice.id);
    let seconds: i64 = header("webhook-timestamp").parse().unwrap();
    let signed = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        &notice.id,
        seconds,
        body,
    )
    .unwrap();
    assert_eq!(header("webhook-signature"), signed);
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["notice"]["event"], "schedule.suspended");
    assert_eq!(body["notice"]["of"], "nightly");
}

/// The example of the specification: <https://github.com/standard-webhooks/standard-webhooks>, as its reference libraries test it.
#[test]
fn the_signature_is_the_one_of_the_specification() {
    let signed = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1_614_265_330,
        "{\"test\": 2432232314}",
    );
    assert_eq!(
        signed.unwrap(),
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    );
    assert!(matches!(
        signature("whsec_§", "", 0, ""),
        Err(BadReceiver::Secret)
    ));
}

#[tokio::test]
async fn what_fails_is_sent_again_with_the_same_id_and_what_is_refused_is_not() {
    let (got, url) = receiver(&[500, 429, 204, 400, 204]).await;
    let notices: Vec<Notice> = ["a", "b", "c"]
        .map(|text| Notice::new(Event::GitRefused, text))
        .into();
    told(to(&url, Format::Squall), notices.clone()).await;
    let requests = got.requests.lock().unwrap();
    let ids: Vec<&str> = requests
        .iter()
        .map(|(headers, _)| headers["webhook-id"].to_str().unwrap())
        .collect();
    let [a, b, c] = [0, 1, 2].map(|at: usize| notices[at].id.as_str());
    assert_eq!(ids, [a, a, a, b, c]);
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_given_up_and_holds_up_nobody() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let (got, url) = receiver(&[]).await;
    let (say, senders) =
        Notices::start(&[to(&gone, Format::Squall), to(&url, Format::Slack)]).unwrap();
    // More than wait for the one that is gone; said without a pause.
    for number in 0..2 * WAITING_MAX {
        if number % 100 == 0 {
            tokio::task::yield_now().await;
        }
        say.say(Notice::new(Event::GitRefused, "<!channel> & more"));
    }
    let first = async {
        loop {
            if let Some((_, body)) = got.requests.lock().unwrap().first().cloned() {
                return body;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let body = tokio::time::timeout(Duration::from_secs(60), first)
        .await
        .unwrap();
    assert_eq!(body, r#"{"text":"&lt;!channel&gt; &amp; more"}"#);
    drop((say, senders));
}

#[tokio::test]
async fn a_receiver_hears_only_what_it_wants_to() {
    let (got, url) = receiver(&[]).await;
    let mut receiver = to(&url, Format::Squall);
    receiver.events = vec![Event::ScheduleRefused];
    told(
        receiver,
        vec![
            Notice::new(Event::GitApplied, "no"),
            Notice::new(Event::ScheduleRefused, "yes"),
        ],
    )
    .await;
    let requests = got.requests.lock().unwrap();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].1.contains("yes"));
}
