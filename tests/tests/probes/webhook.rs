//! The `webhook` probe.

use crate::ask::{failed, once, unanswered, value};
use crate::{daemon, test};
use lab::world::Result;
use lab::world::stub::Stub;
use libtest_mimic::Trial;
use squall_controller::judge::Outcome;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("webhook::it_is_asked_by_name_and_believed", asked),
        test("webhook::what_is_not_ok_says_why", not_ok),
        test("webhook::what_is_no_answer_says_why", no_answer),
    ]
}

fn asking(stub: &Stub) -> String {
    format!(
        "{{ webhook: {{ url: \"{}/check\", every: 100ms, timeout: 2s }} }}",
        stub.url()
    )
}

fn asked() -> Result<()> {
    let stub = Stub::saying(200, r#"{ "ok": true, "value": 12.5, "more": [] }"#)?;
    value(&asking(&stub), 12.5)?;
    let asked = stub.asked();
    let first = asked.first().ok_or("it was not asked")?;
    assert_eq!(first.line, "POST /check HTTP/1.1");
    assert!(
        first
            .headers
            .contains(&"content-type: application/json".to_owned())
    );
    assert_eq!(
        first.body,
        r#"{"apiVersion":"squall/v1","probe":"the probe"}"#
    );
    let stub = Stub::saying(200, r#"{ "ok": true }"#)?;
    let trial = once(&asking(&stub))?;
    assert_eq!((trial.outcome, trial.value), (Outcome::Success, None));
    Ok(())
}

fn not_ok() -> Result<()> {
    let stub = Stub::saying(200, r#"{ "ok": false, "reason": "12 orders wait" }"#)?;
    failed(&asking(&stub), &["12 orders wait"])?;
    let stub = Stub::saying(200, r#"{ "ok": false }"#)?;
    failed(&asking(&stub), &["not ok, and not why"])
}

fn no_answer() -> Result<()> {
    for (status, body, why) in [
        (200, "ok", "`ok`"),
        (200, "", "it is empty"),
        (200, r#"{ "ok": "yes" }"#, "invalid type"),
        (200, r#"{ "value": 3 }"#, "missing field `ok`"),
        (404, r#"{ "ok": true }"#, "status 404"),
        (302, "", "status 302"),
    ] {
        unanswered(&asking(&Stub::saying(status, body)?), &[why])?;
    }
    let free = daemon::free()?;
    unanswered(&format!("{{ webhook: \"http://{free}/\" }}"), &["refused"])
}
