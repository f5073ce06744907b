//! Who somebody is, and what they may, by what the provider says of them. Pure.

use super::provider::Login;
use super::token::Claims;
use crate::access::{Caller, Grant, Grants, Role};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// So much of what people are called is shown.
const CALLED_CHARACTERS_MAX: usize = 100;

/// A role for all of whom the provider says something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// The claim: `groups`, or `realm_access.roles` for one within another.
    pub claim: String,
    /// What it is, or has among others.
    pub has: String,
    /// What they may.
    pub role: Role,
    /// In these environments; in all where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environments: Option<Vec<String>>,
    /// For experiments whose every target names one of these namespaces; for all where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
}

impl Rule {
    fn is_of(&self, claims: &Map<String, Value>) -> bool {
        let whole = claims.get(&self.claim);
        let within = || {
            let mut path = self.claim.split('.');
            let first = claims.get(path.next()?)?;
            path.try_fold(first, |value, name| value.get(name))
        };
        let has = |value: &Value| value.as_str() == Some(&self.has);
        match whole.or_else(within) {
            Some(Value::Array(all)) => all.iter().any(has),
            Some(one) => has(one),
            None => false,
        }
    }
}

/// The person of a good token. Issuer and subject are who they are, for both stay when names and addresses change; whoever also has API
/// tokens has the name of those, so that nobody is two people to the gates.
pub(super) fn caller(login: &Login, claims: &Claims) -> Option<Caller> {
    let rules = login.roles.iter().filter(|rule| rule.is_of(&claims.all));
    let grants = rules.map(|rule| Grant {
        role: rule.role,
        environments: rule.environments.clone(),
        namespaces: rule.namespaces.clone(),
    });
    let known = login.people.iter();
    let mut known = known.filter(|(_, subjects)| subjects.contains(&claims.subject));
    let name = match known.next() {
        Some((name, _)) => name.clone(),
        None => format!("{}#{}", login.issuer, claims.subject),
    };
    Some(Caller {
        name,
        token: format!("login of {}", called(claims)),
        grants: Grants(grants.collect()),
    })
}

/// What they are called: for people who read the audit log, and for nothing else.
fn called(claims: &Claims) -> String {
    let names = ["email", "preferred_username", "name"].iter();
    let mut said = names.filter_map(|name| claims.all.get(*name)?.as_str());
    let said = said.next().unwrap_or(&claims.subject);
    let clean = said.chars().filter(|letter| !letter.is_control());
    clean.take(CALLED_CHARACTERS_MAX).collect()
}
