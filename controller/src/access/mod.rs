//! Who may do what: roles, scoped by environment and namespace. Pure.
//!
//! ```text
//! viewer ──▶ operator ──▶ admin
//!    └─────▶ approver ─────▲
//! ```
//!
//! An operator starts and stops; an approver agrees to what somebody else asked for; neither is the other. An admin is
//! both, hands out tokens, and yet never agrees to what they asked for themselves: that is not a matter of roles
//! ([`Approval::may_vote`](crate::stage::Approval::may_vote)).

pub mod endpoints;
mod pace;

pub use pace::Pace;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What somebody is.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    clap::ValueEnum,
    JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Starts and stops runs, asks for approvals, answers the checklist.
    Operator,
    /// Says yes or no to what others ask for.
    Approver,
    /// Everything, and who else may what.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Approver, Self::Admin];

    /// Whether who is this may do what `needed` may.
    #[must_use]
    pub fn includes(self, needed: Self) -> bool {
        self == needed || self == Self::Admin || needed == Self::Viewer
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Admin => "admin",
        })
    }
}

/// A role, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Grant {
    /// What.
    pub role: Role,
    /// In these environments; in all where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environments: Option<Vec<String>>,
    /// For experiments whose every target names one of these namespaces; for all where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
}

impl Grant {
    /// Everywhere.
    #[must_use]
    pub const fn everywhere(role: Role) -> Self {
        Self {
            role,
            environments: None,
            namespaces: None,
        }
    }

    fn is_in(&self, environment: &str) -> bool {
        let environments = self.environments.as_ref();
        environments.is_none_or(|all| all.iter().any(|one| one == environment))
    }

    fn covers(&self, namespaces: &[Option<String>]) -> bool {
        let Some(own) = &self.namespaces else {
            return true;
        };
        let named = |one: &Option<String>| one.as_ref().is_some_and(|name| own.contains(name));
        !namespaces.is_empty() && namespaces.iter().all(named)
    }
}

/// All that somebody may.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Grants(pub Vec<Grant>);

impl Grants {
    /// Whether the role is theirs anywhere at all.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.0.iter().any(|grant| grant.role.includes(role))
    }

    /// Whether the role is theirs everywhere: for what belongs to no environment.
    #[must_use]
    pub fn has_everywhere(&self, role: Role) -> bool {
        let wide = |g: &Grant| g.environments.is_none() && g.namespaces.is_none();
        self.0
            .iter()
            .any(|grant| grant.role.includes(role) && wide(grant))
    }

    /// Whether the role is theirs in this environment, for some namespace of it.
    #[must_use]
    pub fn has_in(&self, role: Role, environment: &str) -> bool {
        let good = |g: &Grant| g.role.includes(role) && g.is_in(environment);
        self.0.iter().any(good)
    }

    /// Whether the role is theirs for targets in these namespaces of an environment; a target without a namespace is
    /// none, and nobody who is bound to namespaces may touch it.
    #[must_use]
    pub fn may(&self, role: Role, environment: &str, namespaces: &[Option<String>]) -> bool {
        let good =
            |g: &Grant| g.role.includes(role) && g.is_in(environment) && g.covers(namespaces);
        self.0.iter().any(good)
    }
}

/// Who calls the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The person or program, as the token was made for; of a login, who it is for its issuer, or as the configuration names them.
    pub name: String,
    /// The token's name; of a login, what the person is called.
    pub token: String,
    /// What they may.
    pub grants: Grants,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(role: Role, environment: Option<&str>, namespace: Option<&str>) -> Grants {
        let list = |one: Option<&str>| one.map(|one| vec![one.to_owned()]);
        Grants(vec![Grant {
            role,
            environments: list(environment),
            namespaces: list(namespace),
        }])
    }

    #[test]
    fn an_operator_is_no_approver_and_an_admin_is_both() {
        let table = Role::ALL.map(|has| Role::ALL.map(|needed| has.includes(needed)));
        let expected = [
            [true, false, false, false],
            [true, true, false, false],
            [true, false, true, false],
            [true, true, true, true],
        ];
        assert_eq!(table, expected);
    }

    #[test]
    fn a_grant_reaches_as_far_as_it_says() {
        let staging = grant(Role::Operator, Some("staging"), None);
        assert!(staging.has_in(Role::Viewer, "staging"));
        assert!(!staging.has_in(Role::Operator, "production"));
        assert!(!staging.has_everywhere(Role::Viewer));
        let shop = grant(Role::Operator, None, Some("shop"));
        let in_namespaces = |names: &[Option<&str>]| {
            let names: Vec<_> = names.iter().map(|name| name.map(str::to_owned)).collect();
            shop.may(Role::Operator, "production", &names)
        };
        assert!(in_namespaces(&[Some("shop"), Some("shop")]));
        assert!(!in_namespaces(&[Some("shop"), Some("bank")]));
        // A process or the host itself is in no namespace.
        assert!(!in_namespaces(&[Some("shop"), None]) && !in_namespaces(&[]));
        assert!(!shop.has_everywhere(Role::Operator));
        assert!(Grants(vec![Grant::everywhere(Role::Admin)]).has_everywhere(Role::Approver));
        assert!(!Grants::default().has(Role::Viewer));
    }
}
