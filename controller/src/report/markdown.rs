//! The report as Markdown, short enough for a pull request.
//!
//! Names and texts of a run may hold anything. What is put into Markdown is escaped, so that a name can neither start
//! a heading nor close a table, nor bring HTML or a mention of somebody.

use super::html::result_of;
use super::summary::{ExpectationReport, FaultReport, Summary};
use super::words::{outcome_in_words, span_ms, value_in_words, worst_in_words};
use squall_experiments::verdict::Verdict;
use std::fmt::{self, Write as _};

/// Faults beyond this many are counted, not listed: a pull request is read, not searched.
const FAULTS_MOST: usize = 20;

/// The report of a run as Markdown (GitHub's dialect).
#[must_use]
pub fn markdown(run: &Summary) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, run);
    text
}

fn write(out: &mut String, run: &Summary) -> fmt::Result {
    let (sign, word) = match run.verdict {
        Some(Verdict::Held) => ("✅", "held"),
        Some(Verdict::Broken) => ("❌", "broken"),
        Some(Verdict::Inconclusive) => ("❔", "inconclusive"),
        Some(Verdict::Refused) => ("🚫", "refused"),
        Some(Verdict::Halted) => ("✋", "halted"),
        None => ("❔", "no verdict"),
    };
    writeln!(out, "### {sign} {}: {word}\n", plain(&run.name))?;
    writeln!(out, "{}\n", plain(&run.because))?;
    if !run.hypothesis.is_empty() {
        writeln!(out, "> {}\n", plain(&run.hypothesis))?;
    }
    if let Some(first) = &run.first_broken {
        let after = run.timings.detect_ms.map_or(String::new(), |ms| {
            format!(", {} after the fault was in force", span_ms(ms))
        });
        let (text, probe) = (code(&first.expectation), plain(&first.probe));
        writeln!(out, "**What broke first:** {text} of {probe}{after}.\n")?;
    }
    expectations(out, &run.expectations)?;
    faults(out, &run.faults)?;
    timings(out, run)?;
    details(out, run)
}

fn expectations(out: &mut String, all: &[ExpectationReport]) -> fmt::Result {
    if all.is_empty() {
        return Ok(());
    }
    out.push_str("| probe | expected | baseline | worst under fault | result |\n| --- | --- | --- | --- | --- |\n");
    for e in all {
        let show =
            |value: Option<f64>| value.map_or("no data".into(), |v| value_in_words(v, e.unit));
        writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            plain(&e.probe),
            // A pipe would end the cell even in a code span.
            code(&e.text).replace('|', "\\|"),
            show(e.baseline),
            worst_in_words(e),
            result_of(e).0
        )?;
    }
    out.push('\n');
    Ok(())
}

fn faults(out: &mut String, all: &[FaultReport]) -> fmt::Result {
    if all.is_empty() {
        return writeln!(out, "Nothing was injected.\n");
    }
    out.push_str(
        "| stage | fault | target | measured dose | ended by |\n| --- | --- | --- | --- | --- |\n",
    );
    for f in all.iter().take(FAULTS_MOST) {
        let dose = if f.dose_in_words.is_empty() {
            "none measured"
        } else {
            &f.dose_in_words
        };
        writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            f.stage + 1,
            plain(&f.fault),
            plain(&f.target),
            plain(dose),
            plain(&outcome_in_words(&f.outcome))
        )?;
    }
    if let Some(more) = all.len().checked_sub(FAULTS_MOST).filter(|more| *more > 0) {
        writeln!(
            out,
            "\n… and {more} more faults, listed in the HTML and JSON reports."
        )?;
    }
    out.push('\n');
    Ok(())
}

fn timings(out: &mut String, run: &Summary) -> fmt::Result {
    let all = [
        ("detected in", run.timings.detect_ms),
        ("reverted in", run.timings.revert_ms),
        ("recovered in", run.timings.recover_ms),
        ("run time", Some(run.timings.duration_ms)),
    ];
    let said: Vec<String> = all
        .iter()
        .filter_map(|(name, ms)| Some(format!("{name} **{}**", span_ms((*ms)?))))
        .collect();
    writeln!(out, "{}\n", said.join(", "))
}

fn details(out: &mut String, run: &Summary) -> fmt::Result {
    writeln!(
        out,
        "<details><summary>Run {}, how to repeat it, and the file</summary>\n",
        plain(&run.run)
    )?;
    let env = &run.environment;
    writeln!(
        out,
        "Seed {}, digest {}, node {}, kernel {}, squall {}.\n",
        code(&run.seed.to_string()),
        code(&run.digest),
        plain(&env.node),
        plain(&env.kernel),
        plain(&env.squall)
    )?;
    block(out, "sh", &run.repeat_command())?;
    block(out, "yaml", &run.file.text)?;
    for note in &run.notes {
        writeln!(out, "- {}", plain(note))?;
    }
    out.push_str("\n</details>\n");
    Ok(())
}

/// A fenced block, whose fence is longer than any in the text.
fn block(out: &mut String, language: &str, text: &str) -> fmt::Result {
    let fence = "`".repeat(longest_run(text).max(2) + 1);
    writeln!(out, "{fence}{language}\n{}\n{fence}\n", text.trim_end())
}

fn longest_run(text: &str) -> usize {
    let runs = text.split(|c| c != '`').map(str::len);
    runs.max().unwrap_or(0)
}

/// Text that is only text: on one line, no mark-up, no HTML, no mention.
pub(crate) fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => safe.push(' '),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            // A zero-width joiner keeps a name from being notified.
            '@' => safe.push_str("@\u{200d}"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' => {
                safe.push('\\');
                safe.push(c);
            }
            c => safe.push(c),
        }
    }
    safe
}

/// A code span that no text can close.
pub(crate) fn code(text: &str) -> String {
    let line = text.replace(['\n', '\r'], " ");
    let fence = "`".repeat(longest_run(&line) + 1);
    if line.starts_with('`') || line.ends_with('`') {
        format!("{fence} {line} {fence}")
    } else {
        format!("{fence}{line}{fence}")
    }
}
