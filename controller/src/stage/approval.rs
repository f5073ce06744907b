//! Somebody else's agreement: asked for by one, given by another, bound to a digest and an environment, and over after
//! a while, at the next broken run, or with the next change of the file.

use super::is_same_person;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_experiments::policy::Approvals;

/// A request for agreement, and what was said to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// Its name.
    pub id: String,
    /// What is to be agreed to.
    pub digest: String,
    /// The experiment's name, for people.
    pub experiment: String,
    /// Where.
    pub environment: String,
    /// Who asked.
    pub requested_by: String,
    /// Why.
    pub because: String,
    /// When, microseconds since the Unix epoch.
    pub requested_us: i64,
    /// What was said, in order.
    pub votes: Vec<Vote>,
}

/// What somebody said to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Vote {
    /// Who.
    pub by: String,
    /// Yes or no.
    pub agree: bool,
    /// Why.
    pub because: String,
    /// When, microseconds since the Unix epoch.
    pub at_us: i64,
    /// The last piece of evidence, by the order in which it was kept, that was there to be known.
    pub seen: i64,
}

/// Why a vote is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VoteRefused {
    /// Nobody agrees to what they asked for themselves.
    #[error("whoever asked for an approval cannot give it: somebody else must")]
    Requester,
    /// Once.
    #[error(
        "you have said yes or no to this already; ask for a new approval if your mind has changed"
    )]
    Already,
    /// Too late.
    #[error("this was asked for too long ago; ask for a new approval")]
    Expired,
    /// It is over.
    #[error("somebody said no to this; ask for a new approval once the reason is mended")]
    Rejected,
}

impl Approval {
    /// Who may still say something to it, and whether in time.
    ///
    /// # Errors
    /// Why the vote is not taken.
    pub fn may_vote(&self, by: &str, rule: Approvals, now_us: i64) -> Result<(), VoteRefused> {
        if is_same_person(by, &self.requested_by) {
            return Err(VoteRefused::Requester);
        }
        if self.rejected().is_some() {
            return Err(VoteRefused::Rejected);
        }
        if self.votes.iter().any(|vote| is_same_person(&vote.by, by)) {
            return Err(VoteRefused::Already);
        }
        if !is_young(self.requested_us, rule, now_us) {
            return Err(VoteRefused::Expired);
        }
        Ok(())
    }

    /// The no, where there is one.
    #[must_use]
    pub fn rejected(&self) -> Option<&Vote> {
        self.votes.iter().find(|vote| !vote.agree)
    }

    /// Who agrees now, so that it counts for a run that `starter` starts.
    #[must_use]
    pub fn agreeing(
        &self,
        rule: Approvals,
        starter: &str,
        broken: Option<i64>,
        now_us: i64,
    ) -> Vec<&str> {
        if self.rejected().is_some() {
            return Vec::new();
        }
        let mut people: Vec<&str> = Vec::new();
        for vote in &self.votes {
            let other = |who: &str| !is_same_person(&vote.by, who);
            let knew = broken.is_none_or(|recorded| vote.seen >= recorded);
            let apart = other(&self.requested_by) && other(starter);
            if apart
                && knew
                && is_young(vote.at_us, rule, now_us)
                && people.iter().all(|p| other(p))
            {
                people.push(&vote.by);
            }
        }
        people
    }
}

/// What is dated in the future is not young: a clock is, or was, wrong.
fn is_young(at_us: i64, rule: Approvals, now_us: i64) -> bool {
    let age_us = i64::try_from(rule.valid_for.duration().as_micros()).unwrap_or(i64::MAX);
    at_us <= now_us && now_us < at_us.saturating_add(age_us)
}
