//! The client, as this program wants it: patient for `--retry-for`, and telling once when it tries again.

use std::sync::Arc;
use std::time::Duration;

use freehold_client::Patience;
pub use freehold_client::{Client, Request, parse};

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Printer, plain};

pub fn connect(context: &Context, retry_for: Duration, out: Arc<Printer>) -> Result<Client, Failure> {
    let patience = Patience { retry_for, ..Patience::default() };
    let builder = Client::builder(context.url.as_str(), &context.api_key.0).patience(patience);
    let builder = builder.on_again(move |again| {
        if again.tries == 1 && !out.wants_json() {
            let text = format!("{}; trying again for {} s", again.error, retry_for.as_secs());
            out.note(&plain(&text));
        }
    });
    Ok(builder.build()?)
}
