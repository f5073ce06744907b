//! Whether a runbook can be read now.

use super::client::{Client, Http};
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::LAST_MODIFIED;
use squall_experiments::probe::Source;
use std::time::Duration;

/// A page that takes longer is none that helps at three in the morning.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Asks for the head of the page (or for the whole, where heads are not served); what was asked and answered, in words.
///
/// A page that wants to know who asks (401, 403) is there: whoever is on call can log in, this program cannot.
///
/// # Errors
/// Why it cannot be read, in words.
pub(crate) async fn read(url: &str) -> Result<String, String> {
    let source = Source::bare(url.to_owned());
    let client = Client::new("runbook", &source, Http::One);
    let client = client.map_err(|error| crate::words::chain(&error))?;
    let ask = async {
        for method in [Method::HEAD, Method::GET] {
            let request = client.request(method.clone(), client.uri().clone(), Bytes::new());
            let answer = match client.send(request).await {
                Ok(answer) => answer,
                Err(none) => return Err(format!("{url} does not answer: {}", none.reason)),
            };
            let status = answer.status;
            if matches!(status.as_u16(), 405 | 501) && method == Method::HEAD {
                continue;
            }
            let changed = answer
                .headers
                .get(LAST_MODIFIED)
                .and_then(|at| at.to_str().ok());
            let changed = changed
                .map(|at| format!(", last changed {at}"))
                .unwrap_or_default();
            let is_there = status.as_u16() < 400 || matches!(status.as_u16(), 401 | 403);
            let said = format!("{method} {url} answers {}{changed}", status.as_u16());
            return if is_there { Ok(said) } else { Err(said) };
        }
        Err(format!("{url} answers neither HEAD nor GET"))
    };
    let answered = tokio::time::timeout(ANSWER_MAX, ask).await;
    answered.unwrap_or_else(|_| Err(format!("{url} did not answer within {ANSWER_MAX:?}")))
}
