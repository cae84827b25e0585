//! Parts of a list: `?limit=20&starting_after=<id>` (or `&offset=`), answered as `{"data": […], "has_more": …}`.

use laminar_core::{Code, Error};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::error::ApiResult;

const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 100;

/// Which part of a list is wanted.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// At most this many items: 1 to 100, 20 if absent.
    pub limit: Option<usize>,
    /// Id of the last item of the part before.
    #[serde(alias = "startingAfter")]
    pub starting_after: Option<String>,
    /// Items to skip, instead of `starting_after`.
    pub offset: Option<usize>,
}

/// A part of a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct List<T> {
    pub data: Vec<T>,
    /// There are items after the last one here.
    pub has_more: bool,
}

/// A single object, where its page wraps it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Data<T> {
    pub data: T,
}

/// That something was done.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Message {
    pub message: String,
}

impl PageQuery {
    /// The part of `all` that is asked for. `id` gives what `starting_after` refers to.
    pub fn cut<T>(&self, all: Vec<T>, id: impl Fn(&T) -> &str) -> ApiResult<List<T>> {
        let limit = self.limit()?;
        let start = match (&self.starting_after, self.offset) {
            (Some(_), Some(_)) => {
                let error = Error::new(Code::ConflictingOptions, "starting_after and offset exclude each other");
                return Err(error.with_field("offset").into());
            }
            (Some(after), None) => match all.iter().position(|item| id(item) == after) {
                Some(position) => position + 1,
                None => {
                    let error = Error::new(Code::NotFound, format!("no item of this list has id {after}"));
                    return Err(error.with_field("starting_after").into());
                }
            },
            (None, offset) => offset.unwrap_or(0),
        };
        let has_more = all.len() > start.saturating_add(limit);
        Ok(List { data: all.into_iter().skip(start).take(limit).collect(), has_more })
    }

    /// The number of items asked for.
    pub fn limit(&self) -> ApiResult<usize> {
        match self.limit {
            None => Ok(DEFAULT_LIMIT),
            Some(limit @ 1..=MAX_LIMIT) => Ok(limit),
            Some(limit) => {
                let error =
                    Error::new(Code::InvalidRequest, format!("limit is {limit}; it must be from 1 to {MAX_LIMIT}"));
                Err(error.with_field("limit").into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: PageQuery, expected: &[&str], has_more: bool) {
        let all = ["a", "b", "c", "d"].map(String::from).to_vec();
        let list = query.cut(all, |s| s).unwrap();
        assert_eq!(
            (list.data.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), list.has_more),
            (expected, has_more)
        );
    }

    #[test]
    fn parts_follow_each_other() {
        check(PageQuery { limit: Some(2), ..Default::default() }, &["a", "b"], true);
        check(PageQuery { limit: Some(2), starting_after: Some("b".into()), offset: None }, &["c", "d"], false);
        check(PageQuery { limit: Some(2), starting_after: None, offset: Some(1) }, &["b", "c"], true);
        check(PageQuery { limit: None, starting_after: None, offset: Some(9) }, &[], false);
    }

    #[test]
    fn limits_are_checked() {
        for bad in [0, 101] {
            assert!(PageQuery { limit: Some(bad), ..Default::default() }.cut(Vec::<String>::new(), |s| s).is_err());
        }
    }
}
