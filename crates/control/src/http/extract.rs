//! Bodies, queries and paths, parsed at the edge; what cannot be parsed is a problem that names the field.

use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use freehold_api::problem::Code;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::problem::Refused;

/// A JSON body; also a JSON answer.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Refused;
    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let kind =
            request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let is_json =
            essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
        let body = bytes(request, state).await?;
        if body.is_empty() {
            // Verbs whose fields are all optional take an absent body as an empty one.
            return serde_json::from_slice(b"{}").map(Self).map_err(|error| bad_json(&error));
        }
        if !is_json {
            let detail = "the body must be JSON: send it with Content-Type: application/json";
            return Err(Refused::new(Code::UnsupportedMediaType, detail));
        }
        // Serde would take a list for an object whose fields come in order.
        if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{')
            && serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok()
        {
            return Err(Refused::field("body", "it must be a JSON object"));
        }
        serde_json::from_slice(&body).map(Self).map_err(|error| bad_json(&error))
    }
}

async fn bytes<S: Send + Sync>(request: Request, state: &S) -> Result<axum::body::Bytes, Refused> {
    axum::body::Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        _ => Refused::new(Code::BadRequest, "the body could not be read to its end"),
    })
}

pub fn too_large() -> Refused {
    Refused::new(Code::BodyTooLarge, "the body is larger than this server accepts (setting http.body_limit)")
}

fn bad_json(error: &serde_json::Error) -> Refused {
    // serde names a field in back quotes; what it quotes of the input is cut, as it may be long or secret.
    let message: String = error.to_string().chars().take(300).collect();
    match error.classify() {
        serde_json::error::Category::Data => {
            let field = message.split('`').nth(1).unwrap_or("body").to_owned();
            Refused::field(field, message)
        }
        _ => Refused::new(Code::BadRequest, format!("the body is not valid JSON: {message}")),
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// The query string; an unknown or repeated parameter is an error.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        Self::of(parts)
    }
}

impl<T: DeserializeOwned> Query<T> {
    pub fn of(parts: &Parts) -> Result<Self, Refused> {
        let text = parts.uri.query().unwrap_or_default();
        if text.contains("%00") {
            return Err(Refused::field("query", "the query string holds a NUL character"));
        }
        serde_html_form::from_str(text).map(Self).map_err(|error| {
            let message: String = error.to_string().chars().take(300).collect();
            let field = message.split('`').nth(1).unwrap_or("query").to_owned();
            Refused::field(field, message)
        })
    }
}

/// The `{id}` (or other only parameter) of the path, as a typed id.
pub struct Id<T>(pub T);

impl<T, S> FromRequestParts<S> for Id<T>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
    S: Send + Sync,
{
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let bad = |detail: String| Refused::new(Code::BadRequest, detail);
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_| bad("the path is not valid UTF-8".into()))?;
        let value = params.iter().next().map(|(_, value)| value.to_owned()).unwrap_or_default();
        value.parse().map(Self).map_err(|error: T::Err| Refused::field("id", error.to_string()))
    }
}

/// A list's limit: 1 to 500, 50 when absent.
pub fn limit(given: Option<u32>) -> Result<i64, Refused> {
    use freehold_api::page::{LIMIT_DEFAULT, LIMIT_MAX};
    match given.unwrap_or(LIMIT_DEFAULT) {
        limit @ 1..=LIMIT_MAX => Ok(i64::from(limit)),
        limit => Err(Refused::field("limit", format!("{limit} is out of range; use 1 to {LIMIT_MAX}"))),
    }
}

/// Refuses a text that is empty, too long, or holds what PostgreSQL cannot store.
pub fn text(field: &str, value: &str, max: usize) -> Result<(), Refused> {
    let length = value.chars().count();
    if value.contains('\0') {
        return Err(Refused::field(field, "it holds a NUL character, which cannot be stored"));
    }
    if length == 0 || length > max {
        return Err(Refused::field(field, format!("it has {length} characters; use 1 to {max}")));
    }
    Ok(())
}

/// An opaque cursor: where the page before ended.
pub fn cursor<T: DeserializeOwned>(given: Option<&str>) -> Result<Option<T>, Refused> {
    use base64::Engine;
    let Some(given) = given else { return Ok(None) };
    let bad =
        || Refused::field("cursor", "this is no cursor of this list; pass next_cursor as it came, or leave it out");
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(given).map_err(|_| bad())?;
    serde_json::from_slice(&bytes).map(Some).map_err(|_| bad())
}

pub fn next_cursor<T: Serialize>(last: &T) -> Option<String> {
    use base64::Engine;
    let bytes = serde_json::to_vec(last).ok()?;
    Some(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cursors_come_back_and_garbage_is_refused(id in ".{0,40}", garbage in ".{0,60}") {
            let sent = next_cursor(&(1u8, id.clone())).unwrap();
            prop_assert_eq!(cursor::<(u8, String)>(Some(&sent)).unwrap(), Some((1u8, id)));
            // Whatever comes in, the answer is a value or a refusal.
            let _ = cursor::<(u8, String)>(Some(&garbage));
        }
    }
}
