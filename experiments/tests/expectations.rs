//! Expectations: what is written is read, and what cannot be read is explained at its place.
#![allow(clippy::unwrap_used, reason = "a test")]

use proptest::prelude::*;
use squall_experiments::expectation::{
    Bound, Burn, Check, Comparison, Expectation, Measure, Scalar,
};
use squall_experiments::units::{Frequency, Hold, Latency, Percent};

fn latency() -> impl Strategy<Value = Scalar> {
    (0..=Latency::MOST).prop_map(|ns| Scalar::Latency(Latency::new(ns).unwrap()))
}

fn percent(least: u64) -> impl Strategy<Value = Scalar> {
    (least..1_000_000).prop_map(|m| Scalar::Percent(Percent::new(m).unwrap()))
}

fn number() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        any::<i32>().prop_map(|n| Scalar::Number(n.into())),
        any::<f64>()
            .prop_filter("finite", |n| n.is_finite())
            .prop_map(Scalar::Number),
    ]
}

fn comparison() -> impl Strategy<Value = Comparison> {
    use Comparison as C;
    prop::sample::select(vec![
        C::Less,
        C::AtMost,
        C::Equal,
        C::NotEqual,
        C::AtLeast,
        C::Greater,
    ])
}

fn baseline() -> impl Strategy<Value = Bound> {
    (1_u32..10_000_000).prop_map(|m| Bound::Baseline {
        factor: f64::from(m) / 1e6,
    })
}

/// Those against a control group.
fn beside() -> impl Strategy<Value = Expectation> {
    let make = |measure: Measure, check: Check| Expectation { measure, check };
    let factor = |most: u32| {
        (1..most).prop_map(|m| Bound::Control {
            factor: f64::from(m) / 1e6,
        })
    };
    let times = ((1_u32..1_000_000), factor(10_000_000)).prop_map(move |(q, of)| {
        make(Measure::Quantile(q), Check::Compare(Comparison::AtMost, of))
    });
    let success = factor(1_000_001)
        .prop_map(move |of| make(Measure::Success, Check::Compare(Comparison::AtLeast, of)));
    let near = (percent(1), factor(10_000_000))
        .prop_map(move |(tolerance, of)| make(Measure::Success, Check::Within { tolerance, of }));
    prop_oneof![times, success, near]
}

fn burn() -> impl Strategy<Value = Expectation> {
    let windows = (Hold::LEAST..Hold::MOST, 1..Hold::MOST);
    (1_u64..1_000_000, windows, 1_u32..1_000).prop_filter_map(
        "two windows",
        |(m, (short, more), n)| {
            let burn = Burn {
                objective: Percent::new(m)?,
                long: Hold::new(short.checked_add(more)?)?,
                short: Hold::new(short)?,
            };
            // Nothing burns faster than when all attempts fail.
            let factor = f64::from(n) / 1000.0 / burn.budget();
            Some(Expectation {
                measure: Measure::Burn(burn),
                check: Check::Compare(Comparison::AtMost, Bound::Absolute(Scalar::Number(factor))),
            })
        },
    )
}

/// Those of an answer's body.
fn texts() -> impl Strategy<Value = Expectation> {
    let make = |measure: Measure, check: Check| Expectation { measure, check };
    let path = prop::sample::select(vec!["$", "$.a", "$['a b'].c", "$.items[0].n", "$..x"]);
    let text = prop_oneof![
        any::<String>().prop_map(Scalar::Text),
        // What must be escaped is rare among all characters.
        "[\"'\\\\\t\n\r\0 ,\\[\\]a🛒\u{1f}\u{301}]{0,8}".prop_map(Scalar::Text),
        any::<bool>().prop_map(Scalar::Bool),
        number(),
    ];
    let body = (path.clone(), text).prop_map(move |(path, scalar)| {
        make(
            Measure::Body(path.into()),
            Check::Compare(Comparison::Equal, Bound::Absolute(scalar)),
        )
    });
    let matches = (path, "[a-z]{1,8}").prop_map(move |(path, pattern)| {
        make(
            Measure::Body(path.into()),
            Check::Matches(format!("^{pattern}\\.\"$")),
        )
    });
    prop_oneof![body, matches]
}

/// Every expectation that makes sense.
fn expectation() -> impl Strategy<Value = Expectation> {
    prop_oneof![7 => alone(), 2 => texts(), 3 => beside(), 1 => burn()]
}

/// Those of quantities, against a value or the baseline.
fn alone() -> impl Strategy<Value = Expectation> {
    let quantile = (1_u32..1_000_000).prop_map(Measure::Quantile);
    let timed = prop_oneof![quantile, Just(Measure::Max)];
    let make = |measure: Measure, check: Check| Expectation { measure, check };
    let times = (timed, comparison(), latency(), baseline(), any::<bool>()).prop_map(
        move |(m, c, l, b, absolute)| {
            let c = if matches!(c, Comparison::Less | Comparison::AtLeast) {
                Comparison::AtMost
            } else {
                c
            };
            make(
                m,
                Check::Compare(c, if absolute { Bound::Absolute(l) } else { b }),
            )
        },
    );
    let success = (
        prop::sample::select(vec![
            Comparison::AtLeast,
            Comparison::Greater,
            Comparison::Equal,
        ]),
        percent(1),
    )
        .prop_map(move |(c, p)| make(Measure::Success, Check::Compare(c, Bound::Absolute(p))));
    let within = (percent(1), baseline())
        .prop_map(move |(tolerance, of)| make(Measure::Value, Check::Within { tolerance, of }));
    let value = (comparison(), number())
        .prop_map(move |(c, n)| make(Measure::Value, Check::Compare(c, Bound::Absolute(n))));
    let status = prop::collection::vec(100_u16..600, 1..8).prop_map(move |codes| {
        make(
            Measure::Status,
            Check::OneOf(
                codes
                    .into_iter()
                    .map(|c| Scalar::Number(c.into()))
                    .collect(),
            ),
        )
    });
    let exit = (0_u8..250, 1_u8..5).prop_map(move |(low, more)| {
        make(
            Measure::Exit,
            Check::Between(
                Scalar::Number(low.into()),
                Scalar::Number((low + more).into()),
            ),
        )
    });
    let rate = (1_u64..100_000_000).prop_map(move |m| {
        let rate = Frequency::new(m).unwrap().per_second();
        make(
            Measure::Rate,
            Check::Compare(
                Comparison::AtLeast,
                Bound::Absolute(Scalar::PerSecond(rate)),
            ),
        )
    });
    prop_oneof![times, success, within, value, status, exit, rate]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_expectation_is_read_as_it_is_written(expectation in expectation()) {
        let written = expectation.to_string();
        let read: Result<Expectation, _> = written.parse();
        prop_assert_eq!(read.map_err(|e| format!("{written}: {e}")), Ok(expectation));
    }

    #[test]
    fn any_expectation_is_explained(text in "(success|p99|status|body \\$\\.a|value|burn of 9{1,3}% over [0-9]{1,3}m?s,)? ?(<|>=|is|within|between|one of|matches|\\PC{0,10}) ?\\PC{0,20}") {
        if let Err(error) = text.parse::<Expectation>() {
            prop_assert!(error.at <= error.end && error.end <= text.len(), "{text}: {error:?}");
            prop_assert!(!error.problem.is_empty());
        }
    }
}

/// Nothing that people are offered ready-made may be dropped because it cannot be read.
#[test]
fn a_canary_is_three_expectations() {
    let all = Expectation::canary();
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(Expectation::against_control));
}
