//! Which of a database's controllers leads.
//!
//! ```text
//!              nobody has said for 3 s that it leads
//!   follows ─────────────────────────────────────────▶ leads ──┐ says so each second
//!      ▲                                                 │  ▲──┘
//!      └─────────────────────────────────────────────────┘
//!        another leads, or it could not say so in time
//! ```
//!
//! The leader alone has agents and runs. What it does is bounded in two ways, so that one which stood still and wakes
//! changes nothing: what it writes carries its token and is refused by the database once another leads, and agents are told nothing
//! but stops after its term, which it counts from *before* it asked for it. An SQLite file has one controller, which leads.

mod term;

pub use term::Term;

use crate::store::{Lease, Store, StoreError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// So long a leader that says nothing is still the leader.
const TERM: Duration = Duration::from_secs(3);
/// How often it says so: a lost word or two change nothing.
const SAY_EVERY: Duration = Duration::from_millis(750);
/// How often the others look.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the database may take to answer; after that it is asked again.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// A century.
const EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What this controller is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The leader.
    Leads,
    /// Not the leader; where that is, if there is one.
    Follows(Option<String>),
}

/// What this controller is now. Cloning it is another handle to the same.
#[derive(Debug, Clone)]
pub struct Leadership {
    term: Term,
    standing: watch::Receiver<Standing>,
}

impl Leadership {
    /// Of a controller that is the only one.
    #[must_use]
    pub fn alone() -> Self {
        Self {
            term: Term::always(),
            // Without a sender it stays as it is.
            standing: watch::channel(Standing::Leads).1,
        }
    }

    /// Whether this controller leads now.
    #[must_use]
    pub fn leads(&self) -> bool {
        *self.standing.borrow() == Standing::Leads && self.term.holds()
    }

    /// Waits until this controller leads, or does not.
    pub async fn until(&self, leads: bool) {
        let mut standing = self.standing.clone();
        let is = |standing: &Standing| (*standing == Standing::Leads) == leads;
        if standing.wait_for(is).await.is_err() {
            // Nobody changes it any more.
            std::future::pending::<()>().await;
        }
    }

    /// Where the leader is, if it is another controller that is alive.
    #[must_use]
    pub fn elsewhere(&self) -> Option<String> {
        match &*self.standing.borrow() {
            Standing::Leads => None,
            Standing::Follows(leader) => leader.clone(),
        }
    }

    /// Until when it leads.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term.clone()
    }

    /// Ends when this controller does not lead any more: whatever it does as the leader is to be dropped then.
    pub async fn lost(&self) {
        let mut standing = self.standing.clone();
        if standing
            .wait_for(|now| *now != Standing::Leads)
            .await
            .is_err()
        {
            std::future::pending().await
        }
    }
}

/// Leads a database that this controller has for itself, from now on.
///
/// # Errors
/// The database does not take it.
pub async fn only(store: &Store, address: &str) -> Result<(), StoreError> {
    if let Some(token) = store.take_lead(address, EVER, true).await? {
        store.write_as(token);
    }
    Ok(())
}

/// A controller that would lead.
pub struct Candidate {
    store: Store,
    address: String,
    term: Term,
    say: watch::Sender<Standing>,
}

impl Candidate {
    /// One that is reached at `address`, and how others see what it is.
    #[must_use]
    pub fn new(store: Store, address: String) -> (Self, Leadership) {
        let (say, standing) = watch::channel(Standing::Follows(None));
        let term = Term::over();
        let leadership = Leadership {
            term: term.clone(),
            standing,
        };
        let candidate = Self {
            store,
            address,
            term,
            say,
        };
        (candidate, leadership)
    }

    /// Leads whenever nobody else does, until `over`: then another may at once. `begin` makes ready before this controller counts as the
    /// leader, and `end` clears up after it.
    pub async fn stand<E: std::error::Error>(
        self,
        begin: impl AsyncFn() -> Result<(), E>,
        end: impl Fn(),
        over: impl Future<Output = ()>,
    ) {
        tokio::pin!(over);
        loop {
            let token = tokio::select! {
                biased;
                () = &mut over => return,
                token = self.follow() => token,
            };
            self.store.write_as(token);
            let led = async {
                if let Err(error) = begin().await {
                    let error = crate::words::chain(&error);
                    tracing::error!(error, "this controller cannot lead");
                    // Another may; this one tries again when that fails, too.
                    tokio::time::sleep(TERM).await;
                    return;
                }
                tracing::info!(token, "this controller leads");
                self.say.send_replace(Standing::Leads);
                self.lead(token).await;
                tracing::warn!(token, "this controller does not lead any more");
            };
            let ended = tokio::select! {
                biased;
                () = &mut over => true,
                () = led => false,
            };
            self.term.end();
            self.say.send_replace(Standing::Follows(None));
            end();
            if ended {
                let left = timeout(ANSWER_MAX, self.store.leave_lead(token)).await;
                if !matches!(left, Ok(Ok(()))) {
                    tracing::warn!("the lead was not left: another controller waits {TERM:?}");
                }
                return;
            }
        }
    }

    /// Looks until it may lead; the new token.
    async fn follow(&self) -> i64 {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let asked = term::now();
            let looked = timeout(ANSWER_MAX, async {
                let leader = self.store.leader().await?;
                if leader.is_live {
                    return Ok((leader, None));
                }
                let taken = self.store.take_lead(&self.address, TERM, false).await?;
                Ok::<_, StoreError>((leader, taken))
            });
            match looked.await {
                Ok(Ok((_, Some(token)))) => {
                    self.term.begin(token, asked + TERM);
                    return token;
                }
                Ok(Ok((leader, None))) => self.see(leader),
                Ok(Err(error)) => {
                    let error = crate::words::chain(&error);
                    tracing::warn!(error, "who leads is not known");
                    self.say.send_replace(Standing::Follows(None));
                }
                Err(_) => {
                    tracing::warn!("the database does not answer: who leads is not known");
                    self.say.send_replace(Standing::Follows(None));
                }
            }
        }
    }

    fn see(&self, leader: Lease) {
        let now = Standing::Follows(Some(leader.address).filter(|_| leader.is_live));
        self.say.send_if_modified(|said| {
            let changed = *said != now;
            *said = now;
            changed
        });
    }

    /// Says that it leads, until another does, or the time is over without an answer.
    async fn lead(&self, token: i64) {
        let mut say = interval(SAY_EVERY);
        say.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            say.tick().await;
            let asked = term::now();
            match timeout(ANSWER_MAX, self.store.keep_lead(token, TERM)).await {
                Ok(Ok(true)) => self.term.extend(asked + TERM),
                Ok(Ok(false)) => return,
                Ok(Err(error)) => {
                    let error = crate::words::chain(&error);
                    tracing::warn!(error, "the lead was not kept; it is tried again");
                }
                Err(_) => tracing::warn!("the database does not answer; it is asked again"),
            }
            if !self.term.holds() {
                return;
            }
        }
    }
}
