//! Every list, page by page: nothing twice, nothing left out.

use super::Page;
use super::access_tests::{everywhere, send, token};
use super::tests::World;
use crate::access::Role;
use crate::gameday::fixture::files;
use crate::store::tests::{created, keep};
use axum::http::StatusCode;
use serde_json::{Value, json};
use squall_experiments::ids::RunId;
use std::collections::BTreeSet;

/// Two items at a time; how many pages, and what they say of `field`.
async fn pages(world: &World, admin: &str, path: &str, field: &str) -> (usize, Vec<String>) {
    let (mut count, mut found, mut after) = (0, Vec::new(), String::new());
    loop {
        let asked = format!("{path}?limit=2{after}");
        let (status, body) = send(world, Some(admin), "GET", &asked, None, &[]).await;
        assert_eq!(status, StatusCode::OK, "{asked}: {body:?}");
        let page: Page<Value> = serde_json::from_slice(&body).unwrap();
        assert!(page.items.len() <= 2, "{asked}");
        count += 1;
        let names = page.items.iter().map(|item| item[field].as_str());
        found.extend(names.map(|name| name.unwrap().to_owned()));
        match page.next {
            Some(next) => after = format!("&after={next}"),
            None => return (count, found),
        }
    }
}

#[tokio::test]
async fn every_list_comes_page_by_page_and_whole() {
    let world = World::new().await;
    let admin = token(&world, "root", everywhere(Role::Admin), None).await;
    let join = world.join_token(5).await;
    for node in ["e", "b", "d", "a", "c"] {
        world.join(&join, node).await.unwrap();
        world.join_token(1).await;
        // All at one moment: the name alone tells them apart.
        token(&world, node, everywhere(Role::Viewer), None).await;
        keep(&world.store, node, vec![created(&RunId::from(node))], 7).await;
        // A line of the audit log, too.
        let day = Some(json!(files()));
        let (status, _) = send(&world, Some(&admin), "POST", "/gamedays", day, &[]).await;
        assert_eq!(status, StatusCode::CREATED);
    }
    let (count, nodes) = pages(&world, &admin, "/agents", "node").await;
    assert_eq!((count, nodes.concat()), (3, "abcde".to_owned()));
    let (count, runs) = pages(&world, &admin, "/runs", "run").await;
    assert_eq!((count, runs.concat()), (3, "edcba".to_owned()));
    for (path, at_least, field) in [
        ("/tokens", 6, "id"),
        ("/join-tokens", 6, "id"),
        ("/gamedays", 5, "id"),
        ("/audit", 5, "hash"),
    ] {
        let (count, ids) = pages(&world, &admin, path, field).await;
        assert_eq!(count, ids.len().div_ceil(2), "{path}");
        let different: BTreeSet<&String> = ids.iter().collect();
        assert!(ids.len() >= at_least, "{path}: {ids:?}");
        assert_eq!(different.len(), ids.len(), "{path}");
    }
    for bad in [
        "/runs?after=x",
        "/runs?limit=0",
        "/agents?limit=1001",
        "/runs?most=7",
    ] {
        let (status, _) = send(&world, Some(&admin), "GET", bad, None, &[]).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}");
    }
}
