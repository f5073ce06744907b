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
    let HttpDose {
        connections,
        requests,
        tls_passed: tls,
        other_passed: other,
        ..
    } = dose;
    let asked = format!("it names none of the requests that came by ({requests})");
    let encrypted = format!(
        "{tls} of {connections} connections are encrypted, which it cannot read: aim it where TLS has ended already, or use a \
         fault on packets or `tcp`"
    );
    let foreign = format!("{other} of {connections} connections speak something else than HTTP");
    let each = [(requests, asked), (other, foreign), (tls, encrypted)];
    let told: Vec<String> = each
        .into_iter()
        .filter(|(number, _)| **number > 0)
        .map(|(_, words)| words)
        .collect();
    match (told.is_empty(), connections) {
        (false, _) => told.join("; "),
        (true, 0) => {
            "no new connection came by, and it leaves those alone that were there before".to_owned()
        }
        (true, silent) => format!("no request came on the connections that came by ({silent})"),
    }
}

fn dns(dose: &DnsDose) -> String {
    match dose.seen {
        0 => "no query came by".to_owned(),
        seen => format!("it names none of the queries that came by ({seen})"),
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
        assert!(why.contains("7 of 7 connections are encrypted"), "{why}");
        assert!(why.contains("`tcp`"), "{why}");
        let pulsed = Dose::Pulsed(PulsedDose {
            of: Some(Box::new(Dose::Http(of(2, 0, 1, 1)))),
            ..PulsedDose::default()
        });
        let why = pulsed.why_idle().unwrap();
        assert!(why.contains("1 of 2 connections are encrypted"), "{why}");
        assert!(why.contains("1 of 2 connections speak"), "{why}");
    }

    #[test]
    fn each_reason_is_told_from_the_others() {
        let said = |dose: HttpDose| Dose::Http(dose).why_idle().unwrap();
        // One that could be read must not hide that the others could not.
        let both = said(of(3, 9, 2, 0));
        assert!(both.contains("requests that came by (9)"), "{both}");
        assert!(both.contains("2 of 3 connections are encrypted"), "{both}");
        assert!(said(of(3, 0, 0, 3)).contains("something else"));
        assert!(
            said(of(2, 0, 0, 0)).contains("no request came on the connections that came by (2)")
        );
        assert!(said(of(0, 0, 0, 0)).contains("no new connection"));
        let asked = |seen| DnsDose {
            seen,
            ..DnsDose::default()
        };
        let said = |dose| Dose::Dns(dose).why_idle().unwrap();
        assert!(said(asked(0)).contains("no query"));
        assert!(said(asked(4)).contains("(4)"));
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
