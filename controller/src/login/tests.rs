//! Tokens as a provider makes them, and as others would.

use super::provider::Login;
use super::{ring as installed, roles, token};
use crate::access::Role;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

const CONFIG: &str = "
issuer: https://login.example
client: squall
roles:
  - { claim: groups, has: sre, role: operator, environments: [ staging ] }
  - { claim: realm_access.roles, has: boss, role: approver }
people: { ann@example.com: [ s-1 ] }
";

fn login(text: &str) -> Login {
    serde_saphyr::from_str(text).unwrap()
}

struct Provider(EcdsaKeyPair);

impl Provider {
    fn new() -> Self {
        installed::install();
        let (how, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(how, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(how, pkcs8.as_ref(), &random).unwrap())
    }

    fn key(&self, kid: &str) -> Jwk {
        let point = self.0.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|part| URL_SAFE_NO_PAD.encode(part));
        let key = json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid, "x": x, "y": y });
        serde_json::from_value(key).unwrap()
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let signature = self
            .0
            .sign(&SystemRandom::new(), message.as_bytes())
            .unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn message(header: &Value, claims: &Value) -> String {
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    format!("{header}.{claims}")
}

fn header() -> Value {
    json!({ "alg": "ES256", "typ": "JWT", "kid": "k" })
}

fn claims() -> Value {
    let now = jsonwebtoken::get_current_timestamp();
    json!({ "iss": "https://login.example", "sub": "s-1", "aud": ["squall", "x"], "azp": "squall", "iat": now, "exp": now + 300, "groups": ["sre"] })
}

fn with(mut of: Value, name: &str, value: Value) -> Value {
    of[name] = value;
    of
}

#[test]
fn a_token_is_good_in_every_word_or_not_at_all() {
    let (provider, stranger, login) = (Provider::new(), Provider::new(), login(CONFIG));
    let keys = [stranger.key("other"), provider.key("k")];
    let check = |text: &str| token::check(text, &keys, &login);
    let good = check(&provider.sign(&header(), &claims())).unwrap();
    assert_eq!(good.subject, "s-1");
    let now = jsonwebtoken::get_current_timestamp();
    // Clocks may differ by a minute.
    assert!(check(&provider.sign(&header(), &with(claims(), "exp", json!(now - 30)))).is_ok());
    for (name, value) in [
        ("aud", json!("other")),
        ("aud", Value::Null),
        ("azp", json!("other")),
        ("iss", json!("https://login.example/")),
        (
            "iss",
            json!(["https://login.example", "https://other.example"]),
        ),
        ("exp", json!(now - 90)),
        ("exp", Value::Null),
        ("nbf", json!(now + 90)),
        ("iat", json!(now + 90)),
        ("sub", json!("")),
        ("sub", json!("s 1\n")),
    ] {
        let text = provider.sign(&header(), &with(claims(), name, value.clone()));
        let bad = check(&text);
        assert!(
            matches!(bad, Err(token::Bad::Claims(_) | token::Bad::Form(_))),
            "{name}: {value}: {bad:?}"
        );
    }
    for (name, value) in [
        ("alg", json!("none")),
        ("alg", json!("HS256")),
        ("alg", json!("RS256")),
        ("alg", json!("EdDSA")),
        ("kid", json!("other")),
        ("kid", json!("unknown")),
        ("kid", Value::Null),
        ("typ", json!("logout+jwt")),
        ("crit", json!(["b64"])),
    ] {
        let text = provider.sign(&with(header(), name, value.clone()), &claims());
        assert!(check(&text).is_err(), "{name}: {value}");
    }
    let good = provider.sign(&header(), &claims());
    let changed = good.replacen(
        &message(&header(), &claims()),
        &message(&header(), &with(claims(), "sub", json!("s-2"))),
        1,
    );
    for bad in [
        "",
        "a.b.c",
        "..",
        &good[..good.len() - 1],
        &changed,
        &stranger.sign(&header(), &claims()),
    ] {
        assert!(check(bad).is_err(), "{bad}");
    }
}

/// Nothing listens at the provider's address: whoever shows no token of it is told so all the same.
#[tokio::test]
async fn what_no_key_could_make_good_asks_for_none() {
    let provider = Provider::new();
    let nowhere = CONFIG.replace("https://login.example", "http://127.0.0.1:1");
    let logins = super::Logins::new(login(&nowhere)).unwrap();
    let none = provider.sign(&with(header(), "alg", json!("none")), &claims());
    for text in ["", "squallapi1.a.b", "a.b.c", &none] {
        assert_eq!(logins.caller(text).await, Ok(None), "{text}");
    }
    let signed = provider.sign(&header(), &claims());
    assert!(logins.caller(&signed).await.is_err());
}

#[test]
fn a_token_without_a_key_s_name_needs_a_provider_with_one_key() {
    let (provider, login) = (Provider::new(), login(CONFIG));
    let nameless = with(header(), "kid", Value::Null);
    let text = provider.sign(&nameless, &claims());
    assert!(token::check(&text, &[provider.key("k")], &login).is_ok());
    let two = [provider.key("k"), Provider::new().key("l")];
    assert!(matches!(
        token::check(&text, &two, &login),
        Err(token::Bad::Key(_))
    ));
}

#[test]
fn roles_and_names_are_those_that_the_configuration_gives() {
    let (provider, login) = (Provider::new(), login(CONFIG));
    let caller = |claims: Value| {
        let text = provider.sign(&header(), &claims);
        let claims = token::check(&text, &[provider.key("k")], &login).unwrap();
        roles::caller(&login, &claims).unwrap()
    };
    let ann = caller(with(claims(), "email", json!("a\u{7}nn@example.com")));
    assert_eq!(
        (ann.name.as_str(), ann.token.as_str()),
        ("ann@example.com", "login of ann@example.com")
    );
    assert!(
        ann.grants.has_in(Role::Operator, "staging")
            && !ann.grants.has_in(Role::Viewer, "production")
    );
    let boss = with(
        with(claims(), "sub", json!("s-2")),
        "realm_access",
        json!({ "roles": ["boss"] }),
    );
    let boss = caller(with(boss, "groups", json!("sreX")));
    assert_eq!(boss.name, "https://login.example#s-2");
    assert!(boss.grants.has_everywhere(Role::Approver) && !boss.grants.has(Role::Operator));
    let nobody = caller(with(claims(), "groups", json!({ "sre": true })));
    assert!(!nobody.grants.has(Role::Viewer));
}

#[test]
fn what_cannot_be_meant_is_refused_before_anybody_logs_in() {
    for (from, to, why) in [
        ("https://login.example", "http://login.example", "https://"),
        (
            "people: { ann@example.com: [ s-1 ] }",
            "people: { a: [ s-1 ], b: [ s-1 ] }",
            "one name",
        ),
        ("client: squall", "client: squall\nkeysFor: 1s", "at least"),
    ] {
        let said = login(&CONFIG.replace(from, to)).check().unwrap_err();
        assert!(said.contains(why), "{said}");
    }
    assert!(login(CONFIG).check().is_ok());
}
