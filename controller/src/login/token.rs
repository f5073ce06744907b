//! Whether a token is good: its algorithm, key, signature, issuer, audience and times. Pure but for the clock.

use super::provider::Login;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde_json::{Map, Value};

/// So far may clocks differ, in seconds.
const SKEW_S: u64 = 60;
/// Tokens with a hundred groups have 8 KiB.
const BYTES_MAX: usize = 16 << 10;
/// OpenID Connect Core 1.0, section 2.
const SUBJECT_BYTES_MAX: usize = 255;

/// With a public key to check, and no other: what `HS256` is signed with, everybody knows where it is the public key.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Tokens for other uses, such as a logout, say so (RFC 8725, section 3.11).
const TYPES: [&str; 3] = ["jwt", "at+jwt", "application/at+jwt"];

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claims {
    /// Who, for its issuer.
    pub(super) subject: String,
    /// All of it.
    pub(super) all: Map<String, Value>,
}

/// What is wrong with a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Bad {
    #[error("it is no token that is understood: {0}")]
    Form(String),
    #[error("it is not signed by a public key's algorithm")]
    Algorithm,
    #[error("it names the key `{0}`, which the provider does not have")]
    Key(String),
    #[error("{0}")]
    Claims(String),
}

/// Checks it.
pub(super) fn check(text: &str, keys: &[Jwk], login: &Login) -> Result<Claims, Bad> {
    let form = |why: &str| Err(Bad::Form(why.to_owned()));
    if text.len() > BYTES_MAX {
        return form("it is too long");
    }
    // An algorithm that is not known, such as `none`, is no header.
    let header = decode_header(text).map_err(|error| Bad::Form(error.to_string()))?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(Bad::Algorithm);
    }
    if header.crit.is_some() {
        return form("it asks for something that is not understood (`crit`)");
    }
    let is_type = |typ: &String| TYPES.contains(&typ.to_ascii_lowercase().as_str());
    if !header.typ.as_ref().is_none_or(is_type) {
        return form("it is of another type");
    }
    let key = key(&header, keys)?;
    let key = DecodingKey::from_jwk(key).map_err(|error| Bad::Form(error.to_string()))?;
    let mut rules = Validation::new(header.alg);
    rules.leeway = SKEW_S;
    rules.validate_nbf = true;
    rules.set_audience(&login.audiences());
    rules.set_issuer(&[&login.issuer]);
    rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    let decoded = decode::<Map<String, Value>>(text, &key, &rules);
    let all = decoded
        .map_err(|error| Bad::Claims(error.to_string()))?
        .claims;
    claims(all, &header, login)
}

/// What the library does not look at.
fn claims(all: Map<String, Value>, header: &Header, login: &Login) -> Result<Claims, Bad> {
    let bad = |why: &str| Err(Bad::Claims(why.to_owned()));
    let subject = all.get("sub").and_then(Value::as_str).unwrap_or_default();
    if subject.is_empty()
        || subject.len() > SUBJECT_BYTES_MAX
        || !subject.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return bad("its subject is no name");
    }
    // The library takes a list with the issuer among others, too.
    if all.get("iss").and_then(Value::as_str) != Some(&login.issuer) {
        return bad("it is of another issuer");
    }
    let now = jsonwebtoken::get_current_timestamp();
    let issued = all.get("iat").and_then(Value::as_f64);
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds of this millennium are exact"
    )]
    let latest = (now + SKEW_S) as f64;
    if issued.is_some_and(|at| at > latest) {
        return bad("it was issued in the future");
    }
    // OpenID Connect Core 1.0, section 3.1.3.7: an ID token that was made for another is not for us. Who asked for an access token,
    // which says that it is one, does not matter.
    let is_access = header
        .typ
        .as_ref()
        .is_some_and(|typ| typ.to_ascii_lowercase().contains("at+jwt"));
    let party = all.get("azp").and_then(Value::as_str);
    let is_ours =
        |party: &str| party == login.client || login.audiences().iter().any(|one| one == party);
    if !is_access && party.is_some_and(|party| !is_ours(party)) {
        return bad("it was made for another client");
    }
    Ok(Claims {
        subject: subject.to_owned(),
        all,
    })
}

/// The key that the token names; where it names none, the only one that fits.
fn key<'k>(header: &Header, keys: &'k [Jwk]) -> Result<&'k Jwk, Bad> {
    let mut fitting = keys.iter().filter(|key| {
        let named = header.kid.is_none() || key.common.key_id == header.kid;
        named && fits(key, header.alg)
    });
    match (fitting.next(), fitting.next()) {
        (Some(key), other) if header.kid.is_some() || other.is_none() => Ok(key),
        _ => Err(Bad::Key(header.kid.clone().unwrap_or_default())),
    }
}

/// A key is for what it says, and for nothing else.
fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    let common = &key.common;
    let for_signing = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature));
    let same = |said: &KeyAlgorithm| said.to_string().parse() == Ok(algorithm);
    let family = match &key.algorithm {
        AlgorithmParameters::RSA(_) => matches!(
            algorithm,
            Algorithm::RS256
                | Algorithm::RS384
                | Algorithm::RS512
                | Algorithm::PS256
                | Algorithm::PS384
                | Algorithm::PS512
        ),
        AlgorithmParameters::EllipticCurve(curve) => matches!(
            (&curve.curve, algorithm),
            (EllipticCurve::P256, Algorithm::ES256) | (EllipticCurve::P384, Algorithm::ES384)
        ),
        AlgorithmParameters::OctetKeyPair(pair) => {
            pair.curve == EllipticCurve::Ed25519 && algorithm == Algorithm::EdDSA
        }
        _ => false,
    };
    for_signing && common.key_algorithm.as_ref().is_none_or(same) && family
}
