//! An answer that is too long to be held: its bytes, as they come.

use reqwest::Response;

use crate::client::Client;
use crate::error::{Error, innermost};
use crate::request::Request;
use crate::retry::Try;

/// Bytes of one answer.
pub struct Download {
    response: Response,
    url: String,
}

impl Download {
    /// None: that was all of it.
    ///
    /// # Errors
    /// [`Error::Unreachable`] where the answer ends before its end: what came is a part.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let cut = |error: reqwest::Error| Error::Unreachable {
            url: self.url.clone(),
            why: format!("the answer was cut off: {}", innermost(&error)),
        };
        Ok(self.response.chunk().await.map_err(cut)?.map(|bytes| bytes.to_vec()))
    }
}

impl Client {
    /// Asks for what comes as a stream, such as an export. Tried once: a part of it cannot be continued.
    ///
    /// # Errors
    /// [`Error::Refused`] and [`Error::Unreachable`].
    pub async fn download(&self, request: Request) -> Result<Download, Error> {
        let asked = self.http.get(self.address(&request)?).headers(self.headers(&request)?).send();
        let response = match tokio::time::timeout(self.patience.answer_within, asked).await {
            Ok(response) => response.map_err(|error| self.unreachable(&error))?,
            Err(_) => return Err(self.silent()),
        };
        if response.status().is_success() {
            return Ok(Download { response, url: self.base.to_string() });
        }
        match self.read(&request, response).await {
            Try::Refused(error) | Try::Again { error, .. } => Err(error),
            Try::Answered(_) => Err(Error::NotUnderstood("the answer is no export".into())),
        }
    }
}
