//! What can be held against a control group: quantities of which one side is the worse, and numbers.

use super::check::Wrong;
use super::{Comparison, Measure, Scalar};

/// Whether a measure can be compared with a multiple of the control's like this.
pub(super) fn compare(measure: &Measure, comparison: Comparison, factor: f64) -> Result<(), Wrong> {
    use Comparison as C;
    quantity(measure)?;
    if matches!(comparison, C::Equal | C::NotEqual) {
        return Err((
            "two groups never measure exactly the same".to_owned(),
            format!("write `{measure} within {} of control`", tolerance(measure)),
        ));
    }
    let worse = match measure {
        Measure::Success => matches!(comparison, C::AtMost | C::Less),
        Measure::Quantile(_) | Measure::Max => matches!(comparison, C::AtLeast | C::Greater),
        _ => false,
    };
    if worse {
        return Err((
            format!(
                "`{measure} {comparison} control` wants the group to be worse than its control"
            ),
            format!(
                "turn the comparison round, or write `{measure} within {} of control`",
                tolerance(measure)
            ),
        ));
    }
    if matches!(measure, Measure::Success) && factor > 1.0 {
        return Err((
            format!("success of {factor} times the control's can never hold"),
            "write `success >= 99% of control`, or `success within 1% of control`".to_owned(),
        ));
    }
    Ok(())
}

/// Whether a measure can be held near the control's, this near.
pub(super) fn within(measure: &Measure, tolerance: &Scalar) -> Result<(), Wrong> {
    quantity(measure)?;
    match (measure, tolerance) {
        (Measure::Success, Scalar::Percent(all)) if all.fraction() >= 1.0 => Err((
            "success is always within 100% of the control's".to_owned(),
            "write one such as `success within 1% of control`".to_owned(),
        )),
        _ => Ok(()),
    }
}

fn quantity(measure: &Measure) -> Result<(), Wrong> {
    match measure {
        Measure::Status | Measure::Exit | Measure::Body(_) => Err((
            format!("`{measure}` is no quantity by which two groups could be compared"),
            "compare `success`, times such as `p99`, `rate` or `value` with the control".to_owned(),
        )),
        _ => Ok(()),
    }
}

const fn tolerance(measure: &Measure) -> &'static str {
    match measure {
        Measure::Success => "1%",
        _ => "20%",
    }
}
