//! `squall login`: a token for a person at a terminal, by the device authorization grant (RFC 8628): the browser may be on another machine.

use super::kept::{Kept, expiry};
use super::provider::{Kind, ProviderError, Shown, discover, post};
use serde::Deserialize;
use std::time::Duration;

/// How the token endpoint is told what is asked for (RFC 8628, section 3.4).
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Between two questions where nothing is said (RFC 8628, section 3.2).
const PAUSE_S: u64 = 5;
/// What `slow_down` adds (RFC 8628, section 3.5).
const SLOWER: Duration = Duration::from_secs(5);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The provider.
    #[error("the login provider does not do its part")]
    Provider(#[from] ProviderError),
    /// It has no such endpoint.
    #[error(
        "the login provider has no {0}: its client must be let use the device authorization grant (RFC 8628)"
    )]
    NoEndpoint(&'static str),
    /// Nobody agreed.
    #[error("nobody logged in: {0}")]
    Nobody(&'static str),
    /// There is no token of the kind that the controller takes.
    #[error(
        "the provider gave no {0}: see `login.scopes` and `login.token` in the controller's configuration"
    )]
    NoToken(&'static str),
}

/// What the person is to do.
#[derive(Debug, Clone, Deserialize)]
pub struct Asked {
    device_code: String,
    /// What they type there.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// The same with the code in it, where there is such an address.
    pub verification_uri_complete: Option<String>,
    expires_in: u64,
    interval: Option<u64>,
}

/// What the token endpoint gives.
#[derive(Debug, Deserialize)]
struct Given {
    id_token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<u64>,
}

/// A login that has begun.
#[derive(Debug)]
pub struct Begun {
    controller: String,
    shown: Shown,
    token_endpoint: String,
    revocation_endpoint: Option<String>,
    /// What the person is to do.
    pub asked: Asked,
}

/// Asks the provider for a code that a person may confirm.
///
/// # Errors
/// It does not answer, or does not let this client.
pub async fn begin(controller: &str, shown: Shown) -> Result<Begun, LoginError> {
    let issuer = shown
        .authorization_servers
        .first()
        .map_or("", String::as_str);
    let provider = discover(issuer, None).await?;
    let missing = LoginError::NoEndpoint;
    let device = provider.device_authorization_endpoint;
    let device = device.ok_or(missing("device_authorization_endpoint"))?;
    let token_endpoint = provider.token_endpoint.ok_or(missing("token_endpoint"))?;
    let scope = shown.scopes_supported.join(" ");
    // Without being asked to consent anew, some providers give no refresh token (OpenID Connect Core 1.0, section 11).
    let form = [
        ("client_id", shown.squall_client.as_str()),
        ("scope", &scope),
        ("prompt", "consent"),
    ];
    let asked: Asked = post(&device, &form).await?;
    Ok(Begun {
        controller: controller.to_owned(),
        shown,
        token_endpoint,
        revocation_endpoint: provider.revocation_endpoint,
        asked,
    })
}

impl Begun {
    /// Waits until the person has confirmed it.
    ///
    /// # Errors
    /// They refused, or let the time go by.
    pub async fn finish(self) -> Result<Kept, LoginError> {
        let asked = &self.asked;
        let all = Duration::from_secs(asked.expires_in);
        let waited = tokio::time::timeout(all, self.given()).await;
        let given = waited.map_err(|_| LoginError::Nobody("the code is too old"))??;
        let (token, expires_s) = given.shown(self.shown.squall_token)?;
        let issuer = self.shown.authorization_servers.into_iter().next();
        Ok(Kept {
            controller: self.controller,
            issuer: issuer.unwrap_or_default(),
            client: self.shown.squall_client,
            kind: self.shown.squall_token,
            token_endpoint: self.token_endpoint,
            revocation_endpoint: self.revocation_endpoint,
            token,
            expires_s,
            refresh: given.refresh_token,
        })
    }

    async fn given(&self) -> Result<Given, LoginError> {
        let mut pause = Duration::from_secs(self.asked.interval.unwrap_or(PAUSE_S));
        let form = [
            ("grant_type", DEVICE_GRANT),
            ("device_code", self.asked.device_code.as_str()),
            ("client_id", self.shown.squall_client.as_str()),
        ];
        loop {
            tokio::time::sleep(pause).await;
            let error = match post(&self.token_endpoint, &form).await {
                Ok(given) => return Ok(given),
                Err(error) => error,
            };
            let word = match &error {
                ProviderError::No { error, .. } => error.as_str(),
                ProviderError::Answer { .. } => "",
            };
            match word {
                "authorization_pending" => {}
                "slow_down" => pause = pause.saturating_add(SLOWER),
                "access_denied" => return Err(LoginError::Nobody("it was refused")),
                "expired_token" => return Err(LoginError::Nobody("the code is too old")),
                _ => return Err(error.into()),
            }
        }
    }
}

impl Given {
    /// The token that is shown to the controller, and when it ends.
    fn shown(&self, kind: Kind) -> Result<(String, u64), LoginError> {
        let (token, name) = match kind {
            Kind::IdToken => (&self.id_token, "ID token"),
            Kind::AccessToken => (&self.access_token, "access token"),
        };
        let token = token.clone().ok_or(LoginError::NoToken(name))?;
        let expires_s = expiry(&token, self.expires_in);
        Ok((token, expires_s))
    }
}

/// Another token for the one that ends.
///
/// # Errors
/// The provider gives none: the person must log in again.
pub async fn refresh(mut kept: Kept) -> Result<Kept, LoginError> {
    let refresh = kept.refresh.clone();
    let refresh = refresh.ok_or(LoginError::Nobody("the login is over"))?;
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh.as_str()),
        ("client_id", kept.client.as_str()),
    ];
    let given: Given = post(&kept.token_endpoint, &form).await?;
    let (token, expires_s) = given.shown(kept.kind)?;
    // A provider that gives none lets the old one be used again (RFC 6749, section 6).
    kept.refresh = given.refresh_token.or(kept.refresh);
    (kept.token, kept.expires_s) = (token, expires_s);
    Ok(kept)
}

/// Tells the provider that the login is over (RFC 7009).
///
/// # Errors
/// It does not hear; the login ends when its time is over.
pub async fn revoke(kept: &Kept) -> Result<(), ProviderError> {
    let (Some(endpoint), Some(refresh)) = (&kept.revocation_endpoint, &kept.refresh) else {
        return Ok(());
    };
    let form = [
        ("token", refresh.as_str()),
        ("token_type_hint", "refresh_token"),
        ("client_id", kept.client.as_str()),
    ];
    // What it answers is not looked at; some say nothing.
    match post::<serde_json::Value>(endpoint, &form).await {
        Err(no @ ProviderError::No { .. }) => Err(no),
        _ => Ok(()),
    }
}
