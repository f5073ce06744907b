//! An expectation from the words a person would write.
//!
//! ```text
//! expectation = measure [ "is" | "stays" | "must be" ] check
//! measure     = "success" | "status" | "p50" … "p999" | "median" | "max" | "rate" | "body" path | "value" | "exit"
//!             | "burn of" percent "over" time "and" time
//! check       = comparison bound | "within" scalar "of" bound | "between" scalar "and" scalar
//!             | ( "one of" | "in" ) scalar { "," scalar } | "matches" text
//! bound       = scalar | [ number "x" | number "% of" ] ( "baseline" | "control" )
//! ```

use super::burn;
use super::check;
use super::lexer::Lexer;
use super::{Bound, Check, Comparison, Expectation, ExpectationError, Measure, Scalar};
use crate::units::{Latency, Percent};

/// The words for a comparison. Longer ones come before those that they start with.
const COMPARISONS: &[(&str, Comparison)] = &[
    ("at least", Comparison::AtLeast),
    ("no less than", Comparison::AtLeast),
    ("not less than", Comparison::AtLeast),
    ("not below", Comparison::AtLeast),
    ("at most", Comparison::AtMost),
    ("no more than", Comparison::AtMost),
    ("not more than", Comparison::AtMost),
    ("not above", Comparison::AtMost),
    ("up to", Comparison::AtMost),
    ("below", Comparison::Less),
    ("under", Comparison::Less),
    ("less than", Comparison::Less),
    ("lower than", Comparison::Less),
    ("fewer than", Comparison::Less),
    ("faster than", Comparison::Less),
    ("above", Comparison::Greater),
    ("over", Comparison::Greater),
    ("more than", Comparison::Greater),
    ("greater than", Comparison::Greater),
    ("higher than", Comparison::Greater),
    ("not equal to", Comparison::NotEqual),
    ("not", Comparison::NotEqual),
    ("equals", Comparison::Equal),
    ("equal to", Comparison::Equal),
];

/// The signs, likewise.
const SIGNS: &[(&str, Comparison)] = &[
    (">=", Comparison::AtLeast),
    ("≥", Comparison::AtLeast),
    ("<=", Comparison::AtMost),
    ("≤", Comparison::AtMost),
    ("!=", Comparison::NotEqual),
    ("≠", Comparison::NotEqual),
    ("<>", Comparison::NotEqual),
    ("==", Comparison::Equal),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
    ("=", Comparison::Equal),
];

const MEASURES: &str = "`success`, `status`, `p50` … `p999`, `max`, `rate`, `body $.path`, `value`, `exit` or `burn of 99.9% over 60s and 5s`";
const CHECKS: &str = "`>= 99%`, `at most 400ms`, `is 200`, `within 10% of baseline`, `between 1 and 5`, `one of 200, 202` or `matches \"^ok\"`";

/// Reads an expectation.
pub(super) fn expectation(text: &str) -> Result<Expectation, ExpectationError> {
    let mut lexer = Lexer::new(text);
    if lexer.is_done() {
        return Err(lexer.error(
            0,
            "an expectation belongs here, and nothing is written",
            "write one such as `success >= 99%`",
        ));
    }
    let measure = measure(&mut lexer)?;
    let check_at = {
        lexer.rest();
        lexer.at
    };
    let read = checked(&mut lexer, &measure)?;
    trailing(&mut lexer)?;
    let places = check::Places {
        check: (check_at, text.trim_end().len()),
    };
    check::fits(&measure, &read, &places)?;
    Ok(Expectation {
        measure,
        check: read,
    })
}

fn measure(lexer: &mut Lexer<'_>) -> Result<Measure, ExpectationError> {
    const WORDS: &[(&str, Measure)] = &[
        ("success", Measure::Success),
        ("status", Measure::Status),
        ("max", Measure::Max),
        ("rate", Measure::Rate),
        ("value", Measure::Value),
        ("exit code", Measure::Exit),
        ("exit", Measure::Exit),
        ("median", Measure::Quantile(500_000)),
    ];
    let at = {
        lexer.rest();
        lexer.at
    };
    if let Some((_, measure)) = WORDS.iter().find(|(word, _)| lexer.words(word)) {
        return Ok(measure.clone());
    }
    if lexer.words("burn") {
        return burn::measure(lexer, at).map(Measure::Burn);
    }
    if lexer.words("body") {
        return body(lexer, at).map(Measure::Body);
    }
    let rest = lexer.rest();
    let end = rest
        .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.')))
        .unwrap_or(rest.len());
    let word = rest.get(..end).unwrap_or_default();
    if let Some(digits) = word.strip_prefix(['p', 'P'])
        && digits.starts_with(|c: char| c.is_ascii_digit())
    {
        lexer.at += end;
        return quantile(digits)
            .map_err(|mend| lexer.error(at, format!("`{word}` is not a quantile"), mend));
    }
    let shown = lexer.peek();
    lexer.at += shown.len();
    let known = [
        "success", "status", "median", "max", "rate", "body", "value", "exit", "burn", "p99", "p95",
    ];
    let mend = match crate::language::closest(word, &known).or_else(|| other_tools(word)) {
        Some(near) => format!("did you mean `{near}`? An expectation starts with {MEASURES}"),
        None => format!("an expectation starts with {MEASURES}"),
    };
    Err(lexer.error(
        at,
        format!("{} is not a measure", crate::language::quoted(shown)),
        mend,
    ))
}

/// The JSON path after `body`, which stands at `at`.
fn body(lexer: &mut Lexer<'_>, at: usize) -> Result<String, ExpectationError> {
    let path_at = {
        lexer.rest();
        lexer.at
    };
    let path = lexer.path();
    if let Err(problem) = check::path(path) {
        let end = lexer.at.max(path_at);
        return Err(ExpectationError {
            at: if path.is_empty() { at } else { path_at },
            end,
            problem,
            mend: Some("write a JSON path such as `body $.order.status`".to_owned()),
        });
    }
    Ok(path.to_owned())
}

/// What other tools call a measure.
fn other_tools(word: &str) -> Option<&'static str> {
    let folded = word.to_lowercase();
    let known = [
        ("latency", "p99"),
        ("availability", "success"),
        ("errors", "success"),
        ("code", "status"),
        ("throughput", "rate"),
        ("rps", "rate"),
        ("json", "body"),
        ("output", "value"),
        ("stdout", "value"),
        ("exitcode", "exit"),
        ("avg", "p50"),
        ("mean", "p50"),
        ("average", "p50"),
        ("slo", "burn"),
        ("budget", "burn"),
    ];
    known
        .iter()
        .find(|(other, _)| *other == folded)
        .map(|(_, ours)| *ours)
}

/// `99` is 99 %, `999` is 99.9 %, `99.9` too. The error says how to mend it.
fn quantile(digits: &str) -> Result<Measure, String> {
    let (whole, rest) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{rest}");
    if !all.bytes().all(|b| b.is_ascii_digit()) || digits.ends_with('.') {
        return Err("write it like `p99` or `p99.9`".to_owned());
    }
    if whole == "100" {
        return Err("the slowest answer is `max`".to_owned());
    }
    if whole.len() == 1 {
        return Err(format!(
            "write two digits: `p0{digits}`, or `p50` for the median"
        ));
    }
    // p999 is what everybody says; p755 could be anything.
    if whole.len() > 2 && !(whole.starts_with("99") && rest.is_empty()) {
        return Err("write it with a point, like `p99.9`".to_owned());
    }
    if all.len() > 6 {
        return Err("no run has the samples for more than `p99.9999`".to_owned());
    }
    let millionths: u32 = format!("{all:0<6}")
        .parse()
        .map_err(|_| "write it like `p99`".to_owned())?;
    if millionths == 0 {
        return Err("a quantile is above 0: write `p50` for the median".to_owned());
    }
    Ok(Measure::Quantile(millionths))
}

fn checked(lexer: &mut Lexer<'_>, measure: &Measure) -> Result<Check, ExpectationError> {
    let at = {
        lexer.rest();
        lexer.at
    };
    for (sign, comparison) in SIGNS {
        if lexer.sign(sign) {
            if *sign == "=" && (lexer.sign(">") || lexer.sign("<")) {
                return Err(lexer.error(at, "this is not a comparison", "write `>=` or `<=`"));
            }
            return Ok(Check::Compare(*comparison, bound(lexer, measure)?));
        }
    }
    let is = ["is", "stays", "remains", "must be", "should be", "must"]
        .iter()
        .any(|w| lexer.words(w));
    if lexer.words("not one of")
        || lexer.words("not in")
        || lexer.words("not between")
        || lexer.words("not within")
    {
        return Err(lexer.error(
            at,
            "only a single value can be excluded",
            "write `is not 500`, once for each value",
        ));
    }
    if let Some((_, comparison)) = COMPARISONS.iter().find(|(word, _)| lexer.words(word)) {
        return Ok(Check::Compare(*comparison, bound(lexer, measure)?));
    }
    if let Some(check) = several_values(lexer, measure)? {
        return Ok(check);
    }
    if is {
        if *measure == Measure::Status
            && let Some(class) = status_class(lexer)
        {
            return Ok(class);
        }
        return Ok(Check::Compare(Comparison::Equal, bound(lexer, measure)?));
    }
    let shown = lexer.peek();
    lexer.at += shown.len();
    let problem = if shown.is_empty() {
        format!("it is not said what must hold of `{measure}`")
    } else {
        format!("{} is not a comparison", crate::language::quoted(shown))
    };
    let mend = match look(shown) {
        Some(_) => format!("say how it compares: `{measure} >= {shown}` or `{measure} <= {shown}`"),
        None => format!("after the measure comes {CHECKS}"),
    };
    Err(lexer.error(if shown.is_empty() { 0 } else { at }, problem, mend))
}

/// The checks that are not a comparison with one bound; nothing where none of them comes next.
fn several_values(
    lexer: &mut Lexer<'_>,
    measure: &Measure,
) -> Result<Option<Check>, ExpectationError> {
    if lexer.words("within") {
        let tolerance = scalar(lexer, measure)?;
        if !lexer.words("of") {
            let at = lexer.at;
            return Err(lexer.error(
                at,
                "`of` is missing after the tolerance",
                "write `within 10% of baseline` or `within 5ms of 20ms`",
            ));
        }
        return Ok(Some(Check::Within {
            tolerance,
            of: bound(lexer, measure)?,
        }));
    }
    if lexer.words("between") {
        let low = scalar(lexer, measure)?;
        if !lexer.words("and") {
            let at = lexer.at;
            return Err(lexer.error(
                at,
                "`and` is missing between the two values",
                "write `between 1 and 5`",
            ));
        }
        return Ok(Some(Check::Between(low, scalar(lexer, measure)?)));
    }
    if lexer.words("one of") || lexer.words("in") {
        return one_of(lexer, measure).map(Some);
    }
    if lexer.words("matches") || lexer.words("match") {
        return matches(lexer).map(Some);
    }
    Ok(None)
}

/// `2xx` is every status from 200 to 299.
fn status_class(lexer: &mut Lexer<'_>) -> Option<Check> {
    let rest = lexer.rest();
    let class = rest
        .get(..3)
        .filter(|c| c.get(1..).is_some_and(|x| x.eq_ignore_ascii_case("xx")))?;
    let digit = class.chars().next()?.to_digit(10)?;
    lexer.at += 3;
    let low = f64::from(digit * 100);
    Some(Check::Between(
        Scalar::Number(low),
        Scalar::Number(low + 99.0),
    ))
}

fn one_of(lexer: &mut Lexer<'_>, measure: &Measure) -> Result<Check, ExpectationError> {
    /// More than this nobody writes by hand, and every answer is compared with each.
    const VALUES_MAX: usize = 100;
    let bracket = lexer.sign("[");
    let mut values = Vec::new();
    loop {
        values.push(scalar(lexer, measure)?);
        if !(lexer.sign(",") || lexer.words("or")) {
            break;
        }
        if values.len() == VALUES_MAX {
            let at = lexer.at;
            return Err(lexer.error(
                at,
                format!("more than {VALUES_MAX} values"),
                "use `between`, `matches` or a comparison",
            ));
        }
    }
    if bracket && !lexer.sign("]") {
        let at = lexer.at;
        return Err(lexer.error(
            at,
            "`]` is missing",
            "write `in [200, 202]`, and quote the whole expectation",
        ));
    }
    Ok(Check::OneOf(values))
}

fn matches(lexer: &mut Lexer<'_>) -> Result<Check, ExpectationError> {
    lexer.rest();
    let at = lexer.at;
    let pattern = match lexer.quoted()? {
        Some(pattern) => pattern,
        None => {
            let rest = lexer.rest().trim_end();
            lexer.at += rest.len();
            rest.to_owned()
        }
    };
    if pattern.is_empty() {
        return Err(lexer.error(
            at,
            "a regular expression belongs after `matches`",
            "write `matches \"^ok\"`",
        ));
    }
    match crate::language::regex(&pattern) {
        Ok(_) => Ok(Check::Matches(pattern)),
        Err(why) => Err(lexer.error(
            at,
            format!("this regular expression cannot be used: {why}"),
            "mend it, or escape the sign with a backslash",
        )),
    }
}

fn bound(lexer: &mut Lexer<'_>, measure: &Measure) -> Result<Bound, ExpectationError> {
    if let Some(bound) = reference(lexer, 1.0) {
        return Ok(bound);
    }
    if lexer.words("twice")
        && let Some(bound) = reference(lexer, 2.0)
    {
        return Ok(bound);
    }
    lexer.rest();
    let before = lexer.at;
    if let Some(number) = factor(lexer) {
        let number = (number * 1e6).round() / 1e6;
        if let Some(bound) = reference(lexer, number) {
            if number > 0.0 && number <= 1e6 {
                return Ok(bound);
            }
            let of = match bound {
                Bound::Control { .. } => "control",
                _ => "baseline",
            };
            return Err(lexer.error(
                before,
                format!("a multiple of the {of} is above 0 and at most 1,000,000"),
                format!("write one such as `1.5x {of}`"),
            ));
        }
    }
    lexer.at = before;
    scalar(lexer, measure).map(Bound::Absolute)
}

/// What is measured elsewhere: before anything was injected, or in the group beside.
fn reference(lexer: &mut Lexer<'_>, factor: f64) -> Option<Bound> {
    lexer.words("the");
    if lexer.words("baseline") {
        return Some(Bound::Baseline { factor });
    }
    (lexer.words("control group") || lexer.words("control")).then_some(Bound::Control { factor })
}

/// `1.5x`, `1.5 times`, `90% of`.
fn factor(lexer: &mut Lexer<'_>) -> Option<f64> {
    let rest = lexer.rest();
    let end = rest
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(rest.len());
    let number: f64 = rest.get(..end)?.parse().ok()?;
    lexer.at += end;
    if lexer.sign("%") {
        lexer.words("of").then_some(number / 100.0)
    } else {
        let times = lexer.sign("x") || lexer.sign("×") || lexer.sign("*") || lexer.words("times");
        times.then_some(number)
    }
}

/// A value, quoted or not.
fn scalar(lexer: &mut Lexer<'_>, measure: &Measure) -> Result<Scalar, ExpectationError> {
    lexer.rest();
    let at = lexer.at;
    if let Some(text) = lexer.quoted()? {
        return Ok(Scalar::Text(text));
    }
    let value = lexer.value();
    if value.is_empty() {
        let end = lexer.text.len();
        return Err(ExpectationError {
            at: at.min(end.saturating_sub(1)),
            end,
            problem: "a value is missing".to_owned(),
            mend: Some(format!("write one such as `{}`", check::example(measure))),
        });
    }
    check::scalar(value, measure).map_err(|(problem, mend)| lexer.error(at, problem, mend))
}

/// One expectation is one sentence.
fn trailing(lexer: &mut Lexer<'_>) -> Result<(), ExpectationError> {
    let rest = lexer.rest().trim_end();
    if rest.is_empty() {
        return Ok(());
    }
    let at = lexer.at;
    let joined = ["and", "or", "&&", ",", "but"]
        .iter()
        .any(|w| rest.starts_with(w));
    lexer.at += rest.len();
    Err(if joined {
        lexer.error(
            at,
            "an expectation is one sentence",
            "make the rest another item of `expect`",
        )
    } else {
        let shown = crate::language::quoted(rest);
        lexer.error(
            at,
            format!("{shown} is left over"),
            "remove it, or quote the text that it belongs to",
        )
    })
}

/// A value of the kind that a text looks like.
pub(super) fn look(text: &str) -> Option<Scalar> {
    if text == "true" || text == "false" {
        return Some(Scalar::Bool(text == "true"));
    }
    if text.ends_with('%') {
        return text.parse::<Percent>().ok().map(Scalar::Percent);
    }
    let digits = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
    if let Ok(number) = text.replace('_', "").parse::<f64>()
        && digits
    {
        return number.is_finite().then_some(Scalar::Number(number));
    }
    if text.ends_with("/s") || text.ends_with("/min") || text.ends_with("/h") {
        return text
            .parse::<crate::units::Frequency>()
            .ok()
            .map(|f| Scalar::PerSecond(f.per_second()));
    }
    text.parse::<Latency>().ok().map(Scalar::Latency)
}
