//! How fast an error budget burns: `burn of 99.9% over 60s and 5s <= 14.4`.
//!
//! After Google's *Site Reliability Workbook*, chapter 5: the long window shows that it matters, the short one that it is still so, and
//! only both together are a reason to act.

use super::check::Wrong;
use super::lexer::Lexer;
use super::{Bound, Burn, Check, Comparison, ExpectationError, Scalar};
use crate::units::{Hold, Percent};
use std::fmt;

const EXAMPLE: &str = "write one such as `burn of 99.9% over 60s and 5s <= 14.4`";

impl fmt::Display for Burn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            objective,
            long,
            short,
        } = self;
        write!(f, "burn of {objective} over {long} and {short}")
    }
}

impl Burn {
    /// The share of attempts that the objective lets fail.
    #[must_use]
    pub fn budget(&self) -> f64 {
        1.0 - self.objective.fraction()
    }
}

/// Reads what comes after `burn`, which stands at `at`.
pub(super) fn measure(lexer: &mut Lexer<'_>, at: usize) -> Result<Burn, ExpectationError> {
    lexer.words("rate");
    if !lexer.words("of") {
        return Err(lexer.error(at, "it is not said of which objective", EXAMPLE));
    }
    let from = place(lexer);
    let objective = lexer.value().parse::<Percent>();
    let objective = match objective {
        Ok(objective) if objective > Percent::NONE && objective < Percent::ALL => objective,
        Ok(Percent::ALL) => {
            let problem = "an objective of 100% leaves nothing that could burn";
            return Err(lexer.error(from, problem, EXAMPLE));
        }
        _ => {
            let problem = "an objective is a percentage above 0% and below 100%";
            return Err(lexer.error(from, problem, EXAMPLE));
        }
    };
    if !lexer.words("over") {
        return Err(lexer.error(at, "it is not said over which two windows", EXAMPLE));
    }
    let windows_at = place(lexer);
    let one = window(lexer)?;
    if !(lexer.words("and") || lexer.sign(",")) {
        let problem = "a burn rate needs two windows: one that shows that it matters, and a short one that shows that it is still so";
        return Err(lexer.error(windows_at, problem, EXAMPLE));
    }
    let other = window(lexer)?;
    if one == other {
        let problem = "the two windows are the same";
        return Err(lexer.error(windows_at, problem, EXAMPLE));
    }
    Ok(Burn {
        objective,
        long: one.max(other),
        short: one.min(other),
    })
}

fn place(lexer: &mut Lexer<'_>) -> usize {
    lexer.rest();
    lexer.at
}

fn window(lexer: &mut Lexer<'_>) -> Result<Hold, ExpectationError> {
    let at = place(lexer);
    let read = lexer.value().parse::<Hold>();
    read.map_err(|error| lexer.error(at, error.to_string(), EXAMPLE))
}

/// Whether a burn rate can be held against this.
pub(super) fn fits(burn: &Burn, check: &Check) -> Result<(), Wrong> {
    let Check::Compare(
        Comparison::AtMost | Comparison::Less,
        Bound::Absolute(Scalar::Number(factor)),
    ) = check
    else {
        return Err((
            "a burn rate has an upper bound, which is a number".to_owned(),
            format!("write `{burn} <= 14.4`"),
        ));
    };
    let most = 1.0 / burn.budget();
    if *factor <= 0.0 {
        return Err((
            "every failure burns faster than that".to_owned(),
            format!("write `{burn} <= 1` for exactly the objective"),
        ));
    }
    if *factor >= most {
        let most = crate::language::trimmed(most);
        return Err((
            format!("nothing burns faster than {most}, when all attempts fail"),
            format!("write a smaller factor than {most}, such as `{burn} <= 2`"),
        ));
    }
    Ok(())
}
