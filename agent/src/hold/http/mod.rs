//! The fault on requests: a proxy inside the holder aborts, delays, cuts or changes some and passes on all others.
//!
//! Connections are redirected (see `redirect`), requests to the target where they arrive and requests of the target
//! where they leave. HTTP/1 and unencrypted HTTP/2 are read; TLS and everything else is passed on byte by byte and
//! counted. A service sees a redirected request come from its own namespace, not from its client's address.

mod body;
mod proxy;
mod rule;
mod speech;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use squall_experiments::dose::{Dose, Evidence};
use squall_experiments::fault::Http;
use squall_experiments::filter::{Direction, Protocol, ResolvedFilter};

use self::rule::Rule;
use super::held::{Held, HoldError};
use super::owner::Owner;
use super::redirect::{self, Redirect};
use std::os::fd::BorrowedFd;

/// A fault on requests in force.
pub(crate) struct HttpFault {
    redirect: Redirect,
    rule: Arc<Rule>,
}

impl HttpFault {
    /// Arms it in the current network namespace and reads it back from the kernel.
    pub(crate) fn arm(
        fault: &Http,
        filter: &ResolvedFilter,
        seed: u64,
        owner: Option<Owner>,
    ) -> Result<(Self, Evidence), HoldError> {
        if filter.to.as_ref().is_none_or(|to| to.ports.is_empty()) {
            return Err(HoldError::Unable(
                "an http fault needs the port that the requests go to: write `to: { port: 8080 }`"
                    .into(),
            ));
        }
        let rule = Arc::new(Rule::new(fault, seed)?);
        let shared = Arc::clone(&rule);
        let serve: redirect::Serve =
            Arc::new(move |meeting| Box::pin(proxy::serve(Arc::clone(&shared), meeting)));
        let (redirect, read_back) = Redirect::arm(&over_tcp(filter), serve, owner)?;
        let mut warnings = vec![
            "connections that were there before are not touched; those that are led through the holder end with it"
                .to_owned(),
        ];
        if filter.direction != Direction::Egress {
            warnings.push(
                "the service sees requests from elsewhere come from its own namespace, not from their clients' addresses"
                    .into(),
            );
        }
        let evidence = Evidence {
            means: "proxy in the holder".into(),
            read_back,
            warnings,
        };
        Ok((Self { redirect, rule }, evidence))
    }
}

fn over_tcp(filter: &ResolvedFilter) -> ResolvedFilter {
    redirect::at(filter, Protocol::Tcp, None)
}

impl Held for HttpFault {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.redirect.descriptor().into_iter().collect()
    }

    fn turn(&mut self) -> Result<(), HoldError> {
        self.redirect.turn()
    }

    fn dose(&mut self) -> Result<Dose, HoldError> {
        let connections = self.redirect.count()?;
        Ok(Dose::Http(self.rule.dose(connections)))
    }

    fn update(&mut self, endpoints: &ResolvedFilter) -> Result<(), HoldError> {
        self.redirect.update(&over_tcp(endpoints))
    }

    fn release(self: Box<Self>) -> Result<Dose, HoldError> {
        let Self { redirect, rule } = *self;
        let connections = redirect.release()?;
        Ok(Dose::Http(rule.dose(connections)))
    }
}
