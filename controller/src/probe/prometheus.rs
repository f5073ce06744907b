//! One PromQL query, and the one number it comes to.

use super::client::{Answer, Client, Http, escaped, refusal};
use super::{ProbeError, Seen, first_line};
use crate::judge::Outcome;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Uri};
use serde::Deserialize;
use squall_experiments::probe::{Prometheus as Asked, Range, Reduce};
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// A query, ready to be asked again and again.
pub(super) struct Querying {
    client: Client,
    uri: Uri,
    query: String,
    range: Option<Range>,
}

impl Querying {
    pub(super) fn new(probe: &str, asked: &Asked) -> Result<Self, ProbeError> {
        let kind = if asked.range.is_some() {
            "query_range"
        } else {
            "query"
        };
        let url = format!("{}/api/v1/{kind}", asked.source.url.trim_end_matches('/'));
        let uri = url
            .parse()
            .map_err(|error: hyper::http::uri::InvalidUri| ProbeError::Url {
                probe: probe.to_owned(),
                url: url.clone(),
                why: error.to_string(),
            })?;
        Ok(Self {
            client: Client::new(probe, &asked.source, Http::One)?,
            uri,
            query: asked.query.clone(),
            range: asked.range,
        })
    }

    pub(super) async fn ask(&self) -> Seen {
        // A POST, as an expression may be longer than a URL.
        let form = Bytes::from(self.form());
        let mut request = self.client.request(Method::POST, self.uri.clone(), form);
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, form);
        let answer = match self.client.send(request).await {
            Ok(answer) => answer,
            Err(none) => return none.seen(),
        };
        let seen = match number(&answer, self.range.map(|range| range.reduce)) {
            Ok(value) => Seen {
                value: Some(value),
                ..Seen::only(Outcome::Success)
            },
            Err(outcome) => Seen::only(match outcome {
                Outcome::Failed(why) => Outcome::Failed(self.client.hide(why)),
                Outcome::Unanswered(why) => Outcome::Unanswered(self.client.hide(why)),
                Outcome::Success => Outcome::Success,
            }),
        };
        Seen {
            status: Some(answer.status.as_u16()),
            ..seen
        }
    }

    fn form(&self) -> String {
        let mut form = format!("query={}", escaped(&self.query));
        if let Some(range) = self.range {
            // The server's clock is asked for by nothing: a controller's that is minutes off sees the wrong stretch.
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            let start = now.saturating_sub(range.over.duration());
            // Writing to a String cannot fail.
            let _ = write!(
                form,
                "&start={:.3}&end={:.3}&step={:.3}",
                start.as_secs_f64(),
                now.as_secs_f64(),
                range.step.duration().as_secs_f64()
            );
        }
        form
    }
}

/// What Prometheus answers (its HTTP API, version 1).
#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "camelCase")]
enum Reply {
    Success {
        data: Data,
    },
    #[serde(rename_all = "camelCase")]
    Error {
        error_type: String,
        error: String,
    },
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "camelCase")]
enum Data {
    Scalar(Sample),
    String(Sample),
    Vector(Vec<Instant>),
    Matrix(Vec<Series>),
}

/// A time, and a number in quotes: `NaN` and `+Inf` are numbers to Prometheus.
type Sample = (f64, String);

#[derive(Deserialize)]
struct Instant {
    value: Option<Sample>,
}

#[derive(Deserialize)]
struct Series {
    #[serde(default)]
    values: Vec<Sample>,
}

/// The one number, or why there is none.
fn number(answer: &Answer, reduce: Option<Reduce>) -> Result<f64, Outcome> {
    let reply: Reply = match serde_json::from_slice(&answer.body) {
        Ok(reply) => reply,
        // Somebody else answered: a proxy, a login page, another service. Prometheus itself was not heard.
        Err(_) if answer.status.as_u16() >= 400 => {
            return Err(Outcome::Unanswered(refusal(answer.status)));
        }
        Err(_) => {
            let text = first_line(&answer.body);
            let why = format!("this is not an answer of Prometheus: {text}");
            return Err(Outcome::Unanswered(why));
        }
    };
    let points = match reply {
        Reply::Error { error_type, error } => {
            return Err(Outcome::Failed(format!("{error_type}: {error}")));
        }
        Reply::Success { data } => points(data)?,
    };
    let points: Vec<f64> = points
        .iter()
        .map(|text| finite(text))
        .collect::<Result<_, _>>()?;
    let absent = || Outcome::Failed("the query has no result: the series is absent".into());
    reduced(&points, reduce.unwrap_or_default()).ok_or_else(absent)
}

/// The points of the one series that there must be.
fn points(data: Data) -> Result<Vec<String>, Outcome> {
    let several = |count: usize| {
        Outcome::Failed(format!(
            "the query has {count} results and one is needed: aggregate them, as in `sum(…)` or `max(…)`"
        ))
    };
    match data {
        Data::Scalar((_, text)) => Ok(vec![text]),
        Data::String((_, text)) => Err(Outcome::Failed(format!(
            "the query comes to the text `{text}`, and a number is needed"
        ))),
        Data::Vector(mut all) => match (all.pop(), all.len()) {
            (last, 0) => match last {
                Some(Instant { value: None }) => Err(Outcome::Failed("the query comes to a histogram, and a number is needed: use `histogram_quantile(…)`".into())),
                last => Ok(last.into_iter().filter_map(|one| one.value).map(|(_, text)| text).collect()),
            },
            (_, more) => Err(several(more + 1)),
        },
        Data::Matrix(mut all) => match (all.pop(), all.len()) {
            (last, 0) => Ok(last.into_iter().flat_map(|one| one.values).map(|(_, text)| text).collect()),
            (_, more) => Err(several(more + 1)),
        },
    }
}

fn finite(text: &str) -> Result<f64, Outcome> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(Outcome::Failed(format!(
            "the query comes to {text}, which is no number to compare"
        ))),
    }
}

#[expect(clippy::cast_precision_loss, reason = "thousands of points at most")]
fn reduced(points: &[f64], reduce: Reduce) -> Option<f64> {
    let sum: f64 = points.iter().sum();
    match reduce {
        Reduce::Last => points.last().copied(),
        Reduce::Avg => (!points.is_empty()).then(|| sum / points.len() as f64),
        Reduce::Max => points.iter().copied().reduce(f64::max),
        Reduce::Min => points.iter().copied().reduce(f64::min),
        Reduce::Sum => (!points.is_empty()).then_some(sum),
    }
}
