//! Lists: `{"items": […], "next_cursor": null}`. A cursor is opaque and belongs to the filters it came from.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

pub const LIMIT_DEFAULT: u32 = 50;
pub const LIMIT_MAX: u32 = 500;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Pass it as `?cursor=` for the next page; null on the last one.
    pub next_cursor: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// How many items at most: 1 to 500, 50 when absent.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
}
