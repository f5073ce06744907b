//! The document says what is there, and nothing else.

use super::browse;
use crate::access::endpoints::ENDPOINTS;
use crate::api::document;
use serde_json::Value;
use std::collections::BTreeSet;

/// Every operation: `GET /runs`.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let all = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap();
        methods
            .iter()
            .map(move |(method, said)| (format!("{} {path}", method.to_uppercase()), said))
    });
    all.collect()
}

/// All values that are in a value.
fn all(value: &Value) -> Vec<&Value> {
    let below: Vec<&Value> = match value {
        Value::Object(map) => map.values().collect(),
        Value::Array(list) => list.iter().collect(),
        _ => Vec::new(),
    };
    let mut found = vec![value];
    found.extend(below.into_iter().flat_map(all));
    found
}

#[test]
fn table_router_and_document_are_the_same_endpoints() {
    let document = document();
    // The router is made of the same calls as the document (`Paths`).
    let described: BTreeSet<String> = operations(&document).into_iter().map(|o| o.0).collect();
    let table: Vec<String> = ENDPOINTS
        .iter()
        .map(|endpoint| format!("{} {}", endpoint.method, endpoint.path))
        .collect();
    assert_eq!(described, table.iter().cloned().collect());
    assert_eq!(table.len(), described.len(), "one row for each");
    for (name, said) in operations(&document) {
        let row = &ENDPOINTS[table.iter().position(|one| *one == name).unwrap()];
        assert_eq!(said["summary"], row.says, "{name}");
        assert!(!row.says.is_empty(), "{name}");
        assert_eq!(said["x-squall-role"], row.role.to_string(), "{name}");
        assert_eq!(said["security"][0]["token"][0], row.role.to_string());
        let keyed = said["parameters"].to_string().contains("/once");
        assert_eq!(keyed, row.method == "POST" && !row.is_stop, "{name}");
        let parameters = said["parameters"].as_array().unwrap();
        for part in row.path.split('/').filter(|part| part.starts_with('{')) {
            let part = part.trim_matches(['{', '}']);
            let said = parameters.iter().find(|one| one["name"] == part);
            let about = said.and_then(|said| said["description"].as_str());
            assert!(about.is_some(), "{name}: say what `{part}` is, in NAMED");
        }
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_answer_has_its_schema() {
    let document = document();
    let mut references = 0;
    for value in all(&document) {
        if let Some(place) = value.get("$ref").and_then(Value::as_str) {
            let found = document.pointer(place.trim_start_matches('#'));
            assert!(found.is_some(), "{place}");
            references += 1;
        }
    }
    assert!(references > 200, "{references}");
    let text = document.to_string();
    assert!(!text.contains("[`") && !text.contains("](squall"), "links");
    let ids: BTreeSet<&str> = operations(&document)
        .iter()
        .map(|(_, said)| said["operationId"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), ENDPOINTS.len());
    for (name, said) in operations(&document) {
        let good = ["200", "201", "202", "204"];
        let found = good
            .iter()
            .filter_map(|status| said["responses"].get(status));
        let answers: Vec<&Value> = found.collect();
        assert!(!answers.is_empty(), "{name}");
        assert!(said["responses"]["401"]["$ref"].is_string(), "{name}");
    }
    let run = &document["components"]["schemas"]["RunWanted"];
    assert_eq!(run["required"], serde_json::json!(["file"]));
    assert_eq!(run["additionalProperties"], false);
}

#[test]
fn the_page_shows_every_endpoint_and_loads_nothing() {
    let document = document();
    let page = browse::page(&document).unwrap();
    for (name, said) in operations(&document) {
        let id = said["operationId"].as_str().unwrap();
        assert!(
            page.html.contains(&format!("<details id=\"{id}\">")),
            "{name}"
        );
    }
    for schema in document["components"]["schemas"]
        .as_object()
        .unwrap()
        .keys()
    {
        assert!(
            page.html.contains(&format!("id=\"schema-{schema}\"")),
            "{schema}"
        );
    }
    let links = page.html.split("href=\"").skip(1);
    let outside: Vec<&str> = links
        .filter(|link| !link.starts_with('#') && !link.starts_with("/api/v1/openapi.json"))
        .collect();
    assert!(outside.is_empty(), "{outside:?}");
    for loaded in [
        "<script", "<img", "<link", "<iframe", "src=", "style=\"", "url(", "@import",
    ] {
        assert!(!page.html.contains(loaded), "{loaded}");
    }
    assert!(page.policy.contains("default-src 'none'") && !page.policy.contains("unsafe"));
}
