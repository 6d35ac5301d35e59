//! Tries a request again while that is safe and may help.
//!
//! Safe: GET, and POST, whose `Idempotency-Key` makes the repeat harmless. PATCH and DELETE are repeated only when the
//! request surely was not carried out.

use std::time::Duration;

use freehold_api::FieldError;
use jiff::Timestamp;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::time::Instant;

use crate::client::Client;
use crate::error::{Error, Refusal};
use crate::request::{Reply, Request};

/// A try that failed and is followed by another one.
#[derive(Debug)]
pub struct Again<'a> {
    /// Why.
    pub error: &'a Error,
    /// How many tries there were.
    pub tries: u32,
    /// How long it waits now.
    pub pause: Duration,
    /// How long it goes on trying, at most.
    pub left: Duration,
}

/// What one try came to.
pub(crate) enum Try {
    Answered(Reply),
    Refused(Error),
    /// Worth another try, after this long if the server said so.
    Again {
        error: Error,
        after: Option<Duration>,
        carried_out: CarriedOut,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CarriedOut {
    No,
    Perhaps,
}

impl Client {
    /// Asks until there is an answer, a refusal, or no time left.
    ///
    /// # Errors
    /// [`Error::Refused`] with the API's problem; [`Error::Unreachable`] when nobody answered for as long as
    /// [`crate::Patience::retry_for`]; [`Error::NotUnderstood`] when whoever answers is not Freehold.
    pub async fn send(&self, request: Request) -> Result<Reply, Error> {
        let headers = self.headers(&request)?;
        let give_up = Instant::now() + self.patience.retry_for;
        let mut backoff = self.patience.first_pause;
        let mut tries = 0;
        loop {
            tries += 1;
            let (error, after) = match self.attempt(&request, &headers).await {
                Try::Answered(reply) => return Ok(reply),
                Try::Refused(error) => return Err(error),
                Try::Again { error, after, carried_out } if may_repeat(&request.method, carried_out) => (error, after),
                Try::Again { error, .. } => return Err(error),
            };
            let pause = pause(after, backoff, rand::random());
            let left = give_up.saturating_duration_since(Instant::now());
            if pause > left {
                return Err(error);
            }
            (self.told)(&Again { error: &error, tries, pause, left });
            tokio::time::sleep(pause).await;
            backoff = (backoff * 2).min(self.patience.longest_pause);
        }
    }

    async fn attempt(&self, request: &Request, headers: &HeaderMap) -> Try {
        let url = match self.address(request) {
            Ok(url) => url,
            Err(error) => return Try::Refused(error),
        };
        let within = self.patience.answer_within + Duration::from_secs(request.wait.unwrap_or(0));
        let mut asked = self.http.request(request.method.clone(), url).headers(headers.clone()).timeout(within);
        asked = match &request.body {
            Some(body) => asked.json(body),
            None => asked,
        };
        match asked.send().await {
            Ok(response) => self.read(request, response).await,
            Err(error) => {
                let carried_out = if error.is_connect() { CarriedOut::No } else { CarriedOut::Perhaps };
                Try::Again { error: self.unreachable(&error), after: None, carried_out }
            }
        }
    }

    pub(crate) async fn read(&self, request: &Request, response: reqwest::Response) -> Try {
        let status = response.status();
        let after = retry_after(response.headers());
        let cut = |error| Try::Again { error, after: None, carried_out: CarriedOut::Perhaps };
        let bytes = match response.bytes().await {
            Ok(bytes) => bytes,
            Err(error) => return cut(self.unreachable(&error)),
        };
        let body = match bytes.is_empty() {
            true => Ok(Value::Null),
            false => serde_json::from_slice::<Value>(&bytes),
        };
        if status.is_success() {
            return match body {
                Ok(body) => Try::Answered(Reply { status, body }),
                // JSON that ends too early: whoever is between hung up without saying so.
                Err(error) if error.is_eof() => {
                    cut(Error::Unreachable { url: self.base.to_string(), why: "the answer was cut off".into() })
                }
                Err(_) => {
                    Try::Refused(Error::NotUnderstood(format!("{} does not answer JSON; is it Freehold?", self.base)))
                }
            };
        }
        let refusal = refusal(request, status, body.unwrap_or_default(), after);
        let worth = worth(status, &refusal.code, after.is_some());
        let error = Error::Refused(Box::new(refusal));
        match worth {
            Some(carried_out) => Try::Again { error, after, carried_out },
            None => Try::Refused(error),
        }
    }
}

/// Whether another try may help, and if so, whether this one may have been carried out.
fn worth(status: StatusCode, code: &str, has_retry_after: bool) -> Option<CarriedOut> {
    match status.as_u16() {
        429 => Some(CarriedOut::No),
        // More room does not come within seconds, unless the server says that it does.
        503 if code == "no_room" && !has_retry_after => None,
        // "timeout": the work may have been done after the server stopped waiting for it.
        503 if code == "timeout" => Some(CarriedOut::Perhaps),
        503 => Some(CarriedOut::No),
        502 | 504 => Some(CarriedOut::Perhaps),
        // Our own first try, whose answer was lost, is still being worked on.
        409 if code == "idempotency_in_flight" => Some(CarriedOut::Perhaps),
        _ => None,
    }
}

fn may_repeat(method: &Method, carried_out: CarriedOut) -> bool {
    method == Method::GET || method == Method::POST || carried_out == CarriedOut::No
}

/// Never earlier than the server said, and some later than others: a thousand clients that heard "in 2 s" do not come
/// back all at once. `chance` is from 0 to 1.
fn pause(after: Option<Duration>, backoff: Duration, chance: f64) -> Duration {
    match after {
        Some(after) => after + backoff.mul_f64(chance / 2.0),
        None => backoff.mul_f64(0.5 + chance / 2.0),
    }
}

/// Seconds, or a date; counted from the server's own date, because this machine's clock may be wrong.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let value = text(RETRY_AFTER)?;
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp());
    let (now, at): (Timestamp, Timestamp) = (date(text(DATE)?)?, date(value)?);
    Some(Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO))
}

fn refusal(request: &Request, status: StatusCode, problem: Value, retry_after: Option<Duration>) -> Refusal {
    let text = |field: &str| problem.get(field).and_then(Value::as_str).map(str::to_owned);
    let errors =
        problem.get("errors").cloned().and_then(|errors| serde_json::from_value::<Vec<FieldError>>(errors).ok());
    let named = request.path.get(1).cloned();
    Refusal {
        status: status.as_u16(),
        code: text("code").unwrap_or_default(),
        detail: text("detail").or_else(|| text("title")).unwrap_or_else(|| format!("the server answered {status}")),
        request_id: text("request_id"),
        errors: errors.unwrap_or_default(),
        retry_after,
        noun: request.path.first().cloned().unwrap_or_default(),
        subject: named.or_else(|| request.body.as_ref()?.get("id")?.as_str().map(str::to_owned)),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_servers_clock() {
        let date = ("date", "Wed, 21 Oct 2015 07:28:00 GMT");
        for (pairs, seconds) in [
            (&[("retry-after", "7")][..], Some(7)),
            (&[("retry-after", " 0 ")], Some(0)),
            (&[date, ("retry-after", "Wed, 21 Oct 2015 07:28:09 GMT")], Some(9)),
            (&[date, ("retry-after", "Wed, 21 Oct 2015 07:27:00 GMT")], Some(0)),
            (&[("retry-after", "Wed, 21 Oct 2015 07:28:09 GMT")], None),
            (&[("retry-after", "soon")], None),
            (&[], None),
        ] {
            assert_eq!(retry_after(&headers(pairs)), seconds.map(Duration::from_secs), "{pairs:?}");
        }
    }

    proptest! {
        #[test]
        fn pauses_are_spread_and_never_too_early(after in proptest::option::of(0u64..100), backoff in 1u64..10_000, chance in 0.0..1.0f64) {
            let (after, backoff) = (after.map(Duration::from_secs), Duration::from_millis(backoff));
            let pause = pause(after, backoff, chance);
            prop_assert!(pause >= after.unwrap_or(backoff / 2));
            prop_assert!(pause <= after.unwrap_or_default() + backoff);
        }
    }
}
