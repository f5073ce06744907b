//! What the file says, and what it says when it is wrong.

use super::*;

#[test]
fn what_is_not_said_stays_at_its_default() {
    let policy = Policy::parse("limits: { faults: 3 }\n").unwrap();
    assert_eq!(policy.limits.faults, 3);
    assert_eq!(policy.protect, Protect::default());
    assert_eq!(Policy::parse("# nothing\n").unwrap(), Policy::default());
    assert_eq!(Limits::default().hold.duration().as_secs(), 2 * 3600);
}

#[test]
fn a_typing_error_is_not_no_policy() {
    for (text, line, mend) in [
        ("limts: { faults: 3 }", "line 1", "did you mean `limits`"),
        ("limits:\n  fauls: 3\n", "line 2", "did you mean `faults`"),
        ("protect:\n  processes: sshd\n", "line 2", "write"),
        ("limits:\n  lease: 10\n", "line 2", "300ms"),
        ("forbid: [ partion ]", "line 1", "did you mean `partition`"),
        ("allow: [ freez ]", "line 1", "did you mean `freeze`"),
        (
            "limits:\n  perKind: { kil: 1 }\n",
            "line 2",
            "did you mean `kill`",
        ),
        (
            "hours:\n  open: [ all day ]\n",
            "line 2",
            "mon-fri 09:00-17:00",
        ),
        ("hours: { zone: UTC }", "line 1", "open"),
        (
            "limits: { faults: 3 }\nlimits: { faults: 300 }\n",
            "line 2",
            "limits",
        ),
        ("limits:\n  loss: 120%\n", "line 2", "100%"),
        ("limits: [", "line 1", ""),
    ] {
        let error = Policy::parse(text).unwrap_err();
        println!("{text:?} is answered with\n{error}\n");
        assert!(error.contains(line) && error.contains(mend), "{text:?}");
    }
    let missing = Policy::load(Some(Path::new("/nonexistent/policy.yaml")));
    assert!(matches!(missing, Err(PolicyError::Read { .. })));
}

#[test]
fn the_policy_of_the_readme_is_one() {
    let readme = include_str!("../../README.md");
    let marked = readme.split("```yaml\n# /etc/squall/policy.yaml").nth(1);
    let text = marked.and_then(|rest| rest.split("```").next()).unwrap();
    let policy = Policy::parse(text).unwrap();
    // It shows every key, so that nobody has to guess one.
    for key in [
        "allow",
        "forbid",
        "only",
        "protect",
        "processes",
        "units",
        "namespaces",
        "netns",
        "ports",
        "addresses",
        "dns",
        "limits",
        "faults",
        "perKind",
        "perTarget",
        "share",
        "lease",
        "hold",
        "delay",
        "loss",
        "load",
        "fill",
        "pressure",
        "cpu",
        "memory",
        "io",
        "hours",
        "zone",
        "open",
    ] {
        assert!(text.contains(&format!("{key}:")), "{key} is not shown");
    }
    assert_ne!(policy, Policy::default());
}

#[test]
fn names_end_in_a_star_or_are_whole() {
    let protected = ["kube-system".to_owned(), "prod-*".to_owned()];
    for (name, is) in [
        ("kube-system", true),
        ("kube-system2", false),
        ("prod-", true),
        ("prod-shop", true),
        ("pro", false),
    ] {
        assert_eq!(names(&protected, name).is_some(), is, "{name}");
    }
}

#[test]
fn resolvers_are_read_and_spared_only_where_they_are_asked_for() {
    let text = "# a comment\nnameserver 10.0.0.53\nsearch shop\nnameserver fe80::1%eth0\nnameserver nonsense\n";
    let found = resolvers(text);
    assert_eq!(found.len(), 2, "{found:?}");
    let spares_dns = |policy: &Policy, resolvers: &[Network]| {
        policy.spare(resolvers).iter().any(|end| end.ports == [DNS])
    };
    assert!(spares_dns(&Policy::default(), &found));
    assert!(!spares_dns(&Policy::default(), &[]));
    let off = Policy::parse("protect: { dns: false }").unwrap();
    assert!(!spares_dns(&off, &found));
}
