//! Long lists, page by page.

use super::problem::Problem;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Items of a page where nothing is said.
const LIMIT: u32 = 100;
/// The most items of a page.
const LIMIT_MAX: u32 = 1000;

/// Part of a list.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "PageOf{T}")]
pub struct Page<T> {
    /// In the list's order.
    pub items: Vec<T>,
    /// What to say as `after` for the next page; none when this is the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Which part is wanted.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// At most so many items: 1 to 1,000; 100 where nothing is said.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    /// Behind this: the `next` of the page before.
    after: Option<String>,
}

impl Wanted {
    /// Reads one more than the page has, to know whether there is another.
    pub(super) fn most(&self) -> Result<i64, Problem> {
        let limit = self.limit.unwrap_or(LIMIT);
        if (1..=LIMIT_MAX).contains(&limit) {
            return Ok(i64::from(limit) + 1);
        }
        Err(Problem::new(
            StatusCode::BAD_REQUEST,
            format!("`limit` is 1 to {LIMIT_MAX}, not {limit}"),
        ))
    }

    /// The number behind which the page begins.
    pub(super) fn after_number(&self) -> Result<i64, Problem> {
        let Some(after) = &self.after else {
            return Ok(0);
        };
        after.parse().map_err(|_| bad_after())
    }

    /// The moment, and the name, before which the page begins: a list whose newest is first.
    pub(super) fn before(&self) -> Result<(i64, &str), Problem> {
        let Some(after) = &self.after else {
            return Ok((i64::MAX, ""));
        };
        let (at_us, name) = after.split_once(':').ok_or_else(bad_after)?;
        Ok((at_us.parse().map_err(|_| bad_after())?, name))
    }

    /// The name behind which the page begins.
    pub(super) fn after_name(&self) -> &str {
        self.after.as_deref().unwrap_or_default()
    }

    /// The page; `place` says where an item is.
    pub(super) fn page<T>(
        &self,
        mut items: Vec<T>,
        place: impl Fn(&T) -> String,
    ) -> Result<Page<T>, Problem> {
        let most = usize::try_from(self.most()? - 1).unwrap_or(usize::MAX);
        let more = items.len() > most;
        items.truncate(most);
        let next = items.last().filter(|_| more).map(place);
        Ok(Page { items, next })
    }
}

fn bad_after() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "`after` is what the page before said as `next`",
    )
}
