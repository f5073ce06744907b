//! What is run: a file as people write it, with times that a simulation can afford.

/// The budget of all runs together.
pub(super) const TARGETS_MAX: usize = 3;

/// A run of two stages: one target, then most; and of two steps, where it `is_long`.
pub(super) fn text(lease_us: u64, share: u32, is_long: bool) -> String {
    let second = if is_long {
        "\n  - fault: { delay: { time: 20ms } }\n    on: { host: {} }\n    ramp: [ 1 ]\n    hold: 1s"
    } else {
        ""
    };
    let lease_ms = lease_us / 1000;
    format!(
        "apiVersion: squall/v1
kind: Experiment
metadata: {{ name: simulated }}
hypothesis: It goes on.
steadyState:
  - name: orders
    probe: {{ load: {{ url: \"http://127.0.0.1:1/\", rate: 20/s }} }}
    expect: [ success >= 90% ]
method:
  - fault: {{ delay: {{ time: 10ms }} }}
    on: {{ host: {{}} }}
    ramp: [ 1, {share} ]
    hold: 2s{second}
baseline: 4s
recovery: 4s
lease: {lease_ms}ms
"
    )
}
