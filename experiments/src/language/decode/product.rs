//! What a product is measured by, and a run must not be stopped by.
//!
//! A canary judges stability: minutes, a bound, a stop. An A/B test judges a product: weeks, users assigned at random, a decision. A product's
//! numbers move with the hour and the weather, so that as a stop rule they stop healthy systems or never stop at all; and an
//! A/B test that is stopped whenever its numbers look bad shows only that it was looked at.

use super::steady::Expected;
use crate::expectation::{Check, Comparison, Expectation, Measure};
use crate::language::reader::Cx;
use crate::language::suggest::quoted;
use crate::probe::Probe;
use serde_json::Value;

/// What product metrics are called, as words one after another. A basket or a cart alone is a service; its size or value is not.
const WORDS: &[&[&str]] = &[
    &["conversion"],
    &["conversions"],
    &["revenue"],
    &["signup"],
    &["signups"],
    &["sign", "up"],
    &["sign", "ups"],
    &["retention"],
    &["churn"],
    &["engagement"],
    &["basket", "size"],
    &["basket", "value"],
    &["basket", "total"],
    &["cart", "size"],
    &["cart", "value"],
    &["cart", "total"],
    &["order", "value"],
    &["clickthrough"],
    &["click", "through"],
    &["ctr"],
    &["bounce", "rate"],
    &["gmv"],
    &["arpu"],
    &["ltv"],
    &["nps"],
    &["upsell"],
];

/// How well the service behind one of them works: the seconds that a sign-up takes are no product's number.
const STABILITY: &[&str] = &[
    "latency",
    "duration",
    "time",
    "seconds",
    "ms",
    "error",
    "errors",
    "failure",
    "failures",
    "failed",
    "timeout",
    "timeouts",
    "retries",
    "queue",
    "lag",
    "memory",
    "bytes",
    "cpu",
    "saturation",
];

/// Of a probe, what does not say what is measured: how it is sent, and who is asked.
const SILENT: &[&str] = &["headers", "auth", "tls", "method", "password", "user"];

/// Reports every expectation that would stop a run by a product's numbers; name and probe as far as they could be read.
pub(super) fn refuse(
    cx: &mut Cx<'_, '_>,
    name: Option<&str>,
    probe: Option<&Probe>,
    expect: &Expected,
) {
    for (expectation, at) in expect.iter().filter(|(e, _)| is_gauge(e)) {
        let named = name.and_then(|name| found(name, "its name"));
        let in_path = match &expectation.measure {
            Measure::Body(path) => found(path, "its path"),
            _ => None,
        };
        let in_probe = || in_probe(&serde_json::to_value(probe).unwrap_or_default(), "");
        let Some(reason) = named.or(in_path).or_else(in_probe) else {
            continue;
        };
        cx.error(*at, format!("{} is a product's number, and no reason to stop", quoted(&expectation.to_string())))
            .label(reason)
            .mend("a canary judges stability, an A/B test judges a product, and mixing them spoils both: here expect `success`, times or errors of the service behind it, and leave this number to an A/B test");
    }
}

/// A quantity that a probe reads somewhere. Whether a sign-up succeeds, and how fast, is stability.
const fn is_gauge(expectation: &Expectation) -> bool {
    use Comparison as C;
    match (&expectation.measure, &expectation.check) {
        (Measure::Value, _) | (Measure::Body(_), Check::Within { .. } | Check::Between(..)) => true,
        (Measure::Body(_), Check::Compare(comparison, _)) => {
            !matches!(comparison, C::Equal | C::NotEqual)
        }
        _ => false,
    }
}

/// Looks through all that a probe asks for.
fn in_probe(value: &Value, field: &str) -> Option<String> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| !SILENT.contains(&name.as_str()))
            .find_map(|(name, inner)| in_probe(inner, name)),
        Value::Array(items) => items.iter().find_map(|item| in_probe(item, field)),
        Value::String(text) if field == "url" => {
            // Who is asked may be called anything.
            let path = text
                .split_once("://")
                .map_or(text.as_str(), |(_, rest)| rest);
            found(path.split_once('/')?.1, "its URL")
        }
        Value::String(text) => found(text, &format!("its `{field}`")),
        _ => None,
    }
}

fn found(text: &str, place: &str) -> Option<String> {
    let words = words(text);
    if words.iter().any(|word| STABILITY.contains(&word.as_str())) {
        return None;
    }
    let is_in = |phrase: &&&[&str]| words.windows(phrase.len()).any(|w| w == **phrase);
    let phrase = WORDS.iter().find(is_in)?;
    Some(format!("`{}` in {place}", phrase.join(" ")))
}

/// `signupRate`, `signup_rate` and `Signup-Rate` are the same two words.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for letter in text.chars() {
        let begins = letter.is_uppercase() && before.is_lowercase();
        if !letter.is_alphanumeric() || begins {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| letter.is_alphanumeric()) {
            word.extend(letter.to_lowercase());
        }
        before = letter;
    }
    words.retain(|word| !word.is_empty());
    words
}
