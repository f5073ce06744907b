//! Why a fault touched nothing, where its dose shows it.

use super::{DnsDose, Dose, HttpDose};

impl Dose {
    /// What came by and was not hit, and what would be, in words that end a sentence. None where the dose does not tell, or the fault
    /// did take hold of something.
    #[must_use]
    pub fn why_idle(&self) -> Option<String> {
        match self {
            _ if self.in_force() => None,
            Self::Http(dose) => Some(http(dose)),
            Self::Dns(dose) => Some(dns(dose)),
            Self::Pulsed(dose) => dose.of.as_ref()?.why_idle(),
            _ => None,
        }
    }
}

fn http(dose: &HttpDose) -> String {
    let unread = "which it cannot read: aim it where TLS has ended already, or use a fault on packets or `tcp`";
    match dose {
        HttpDose { requests: 1.., .. } => format!(
            "of the {} requests that came by it names none",
            dose.requests
        ),
        HttpDose {
            tls_passed: tls @ 1..,
            ..
        } => format!(
            "the connections that came by are encrypted ({tls} of {}), {unread}",
            dose.connections
        ),
        HttpDose {
            other_passed: other @ 1..,
            ..
        } => format!(
            "the connections that came by speak something else than HTTP ({other} of {})",
            dose.connections
        ),
        HttpDose {
            connections: silent @ 1..,
            ..
        } => format!("no request came on the {silent} connections that came by"),
        _ => {
            "no new connection came by, and it leaves those alone that were there before".to_owned()
        }
    }
}

fn dns(dose: &DnsDose) -> String {
    match dose.seen {
        0 => "no query came by".to_owned(),
        seen => format!("of the {seen} queries that came by it names none"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{KillDose, NetworkDose, PulsedDose};
    use super::*;

    fn of(connections: u64, requests: u64, tls: u64, other: u64) -> HttpDose {
        HttpDose {
            connections,
            requests,
            tls_passed: tls,
            other_passed: other,
            ..HttpDose::default()
        }
    }

    #[test]
    fn what_is_encrypted_is_said_with_what_would_act_on_it() {
        let why = Dose::Http(of(7, 0, 7, 0)).why_idle().unwrap();
        assert!(why.contains("encrypted (7 of 7)"), "{why}");
        assert!(why.contains("`tcp`"), "{why}");
        let pulsed = Dose::Pulsed(PulsedDose {
            of: Some(Box::new(Dose::Http(of(2, 0, 1, 1)))),
            ..PulsedDose::default()
        });
        assert!(pulsed.why_idle().unwrap().contains("(1 of 2)"));
    }

    #[test]
    fn each_reason_is_told_from_the_others() {
        let said = |dose: HttpDose| Dose::Http(dose).why_idle().unwrap();
        assert!(said(of(3, 9, 1, 0)).contains("9 requests"));
        assert!(said(of(3, 0, 0, 3)).contains("something else"));
        assert!(said(of(2, 0, 0, 0)).contains("no request came on the 2"));
        assert!(said(of(0, 0, 0, 0)).contains("no new connection"));
        let asked = |seen| DnsDose {
            seen,
            ..DnsDose::default()
        };
        let said = |dose| Dose::Dns(dose).why_idle().unwrap();
        assert!(said(asked(0)).contains("no query"));
        assert!(said(asked(4)).contains("4 queries"));
    }

    #[test]
    fn nothing_is_said_of_what_took_hold_or_cannot_tell() {
        let hit = HttpDose {
            matched: 1,
            ..of(2, 2, 1, 0)
        };
        assert_eq!(Dose::Http(hit).why_idle(), None);
        assert_eq!(Dose::Network(NetworkDose::default()).why_idle(), None);
        assert_eq!(Dose::Kill(KillDose::default()).why_idle(), None);
    }
}
