//! Every list, page by page: nothing twice, nothing left out.

use super::access_tests::{everywhere, send, token};
use super::schedules_tests;
use super::world::World;
use super::{Page, document};
use crate::access::Role;
use crate::gameday::fixture::files;
use crate::stage::Approval;
use crate::stage::fixture::{approval, run};
use crate::store::tests::{created, keep};
use crate::store::{Claim, Origin, ScheduleFiles};
use axum::http::StatusCode;
use serde_json::{Value, json};
use squall_experiments::ids::RunId;
use squall_experiments::policy::Stage;
use squall_experiments::verdict::Verdict;
use std::collections::BTreeSet;

/// What tells the items of a list apart: the first of these that an item has.
const NAMES: [&str; 6] = ["id", "run", "node", "hash", "dueUs", "name"];

/// What lists are there to be walked: what stands in their paths.
const WHERE: [(&str, &str); 2] = [("{environment}", "staging"), ("{name}", "nightly")];

fn name(item: &Value) -> String {
    let mut names = NAMES.iter().map(|name| &item[name]);
    match names.find(|name| !name.is_null()) {
        Some(Value::String(name)) => name.clone(),
        Some(name) => name.to_string(),
        None => panic!("no name: {item}"),
    }
}

/// The paths of all lists that come page by page, as the document of the API says.
fn lists() -> Vec<String> {
    let document = document();
    let is_list = |said: &Value| {
        let schema = &said["responses"]["200"]["content"]["application/json"]["schema"];
        let schema = schema["$ref"].as_str().unwrap_or_default();
        let schema = document.pointer(schema.trim_start_matches('#'));
        let has = |name: &str| schema.is_some_and(|one| one["properties"][name].is_object());
        let is_page = has("items") && has("next");
        let parameters = said["parameters"].as_array().into_iter().flatten();
        let has_limit = parameters.filter(|one| one["name"] == "limit").count() == 1;
        assert_eq!(is_page, has_limit, "{said}");
        is_page
    };
    let paths = document["paths"].as_object().unwrap().iter();
    let found = paths.filter(|(_, methods)| methods.get("get").is_some_and(is_list));
    let filled = found.map(|(path, _)| {
        let in_place = |path: String, (name, here): (&str, &str)| path.replace(name, here);
        WHERE.into_iter().fold(path.clone(), in_place)
    });
    filled.collect()
}

async fn page(world: &World, admin: &str, path: &str) -> Page<Value> {
    let (status, body) = send(world, Some(admin), "GET", path, None, &[]).await;
    assert_eq!(status, StatusCode::OK, "{path}: {body:?}");
    serde_json::from_slice(&body).unwrap()
}

/// Two items at a time; what they are called.
async fn pages(world: &World, admin: &str, path: &str) -> Vec<String> {
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = page(world, admin, &format!("{path}?limit=2{after}")).await;
        assert!(page.items.len() <= 2, "{path}");
        assert!(page.items.len() == 2 || page.next.is_none(), "{path}");
        found.extend(page.items.iter().map(name));
        match page.next {
            Some(next) => after = format!("&after={next}"),
            None => return found,
        }
    }
}

fn schedule(name: &str) -> ScheduleFiles {
    let files = schedules_tests::files("30 2 * * *", "").to_string();
    serde_json::from_str(&files.replace("nightly", name)).unwrap()
}

/// Five of whatever there is a list of, all at one moment: the name alone tells them apart.
async fn fill(world: &World, admin: &str) {
    let join = world.join_token(5).await;
    let schedules = ["e", "b", "d", "a", "nightly"];
    for ((number, node), name) in (1..).zip(["e", "b", "d", "a", "c"]).zip(schedules) {
        world.join(&join, node).await.unwrap();
        world.join_token(1).await;
        token(world, node, everywhere(Role::Viewer), None).await;
        keep(&world.store, node, vec![created(&RunId::from(node))], 7).await;
        // A line of the audit log, too.
        let day = Some(json!(files()));
        let (status, _) = send(world, Some(admin), "POST", "/gamedays", day, &[]).await;
        assert_eq!(status, StatusCode::CREATED);
        let evidence = run(
            "d",
            ("staging", Stage::NonProduction),
            Verdict::Held,
            7,
            number,
        );
        assert!(world.store.add_evidence(&evidence).await.unwrap());
        let approval = Approval {
            id: node.to_owned(),
            environment: "staging".into(),
            ..approval("d", "bob", 7, 0)
        };
        world.store.add_approval(&approval).await.unwrap();
        let (files, from) = (schedule(name), Origin::Person("ann"));
        let put = world.store.put_schedule(name, &files, from, 7);
        put.await.unwrap();
        let claim = Claim {
            schedule: "nightly",
            due_us: number,
            run: None,
            holder: "h",
            now_us: 7,
            because: None,
        };
        assert!(world.store.claim(&claim).await.unwrap());
    }
}

#[tokio::test]
async fn every_list_comes_page_by_page_and_whole() {
    let world = World::new().await;
    let admin = token(&world, "root", everywhere(Role::Admin), None).await;
    fill(&world, &admin).await;
    let lists = lists();
    assert!(lists.len() >= 11, "{lists:?}");
    for path in &lists {
        let found = pages(&world, &admin, path).await;
        assert!(found.len() >= 5, "fill {path} with five: {found:?}");
        let different: BTreeSet<&String> = found.iter().collect();
        assert_eq!(different.len(), found.len(), "{path}");
        let whole = page(&world, &admin, &format!("{path}?limit=1000")).await;
        let whole: Vec<String> = whole.items.iter().map(name).collect();
        assert_eq!(found, whole, "{path}");
    }
    for (path, order) in [
        ("/agents", "abcde"),
        ("/runs", "edcba"),
        ("/environments/staging/approvals", "edcba"),
        ("/schedules/nightly/starts", "54321"),
    ] {
        assert_eq!(pages(&world, &admin, path).await.concat(), order, "{path}");
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
