//! Server-sent events of one operation: `id:` and `data:` lines, an empty line ends an event.

use freehold_api::operation::OperationEvent;

/// An event is a few hundred bytes. What is far longer is none.
const LONGEST: usize = 1 << 20;

/// A stream of one operation's events.
pub struct Events {
    response: reqwest::Response,
    parser: Parser,
}

impl Events {
    pub(crate) fn new(response: reqwest::Response) -> Self {
        Self { response, parser: Parser::default() }
    }

    /// None when the stream ended, however it ended: the caller asks again after the last event it saw.
    pub async fn next(&mut self) -> Option<OperationEvent> {
        loop {
            match self.parser.next() {
                Some(data) => match serde_json::from_str(&data) {
                    Ok(event) => return Some(event),
                    Err(error) => tracing::debug!(%error, "skipped an event that is not understood"),
                },
                None if self.parser.pending.len() > LONGEST => return None,
                None => self.parser.push(&self.response.chunk().await.ok()??),
            }
        }
    }
}

#[derive(Default)]
struct Parser {
    pending: Vec<u8>,
    data: Vec<String>,
}

impl Parser {
    fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// The data of the next whole event. `id:` repeats the `seq` inside it; comments keep the connection alive.
    fn next(&mut self) -> Option<String> {
        while let Some(end) = self.pending.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            if line.is_empty() && !self.data.is_empty() {
                return Some(std::mem::take(&mut self.data).join("\n"));
            }
            if let Some(data) = line.strip_prefix("data:") {
                self.data.push(data.strip_prefix(' ').unwrap_or(data).to_owned());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_arrive_whole_however_they_are_cut() {
        let text = ": hello\r\n\r\nid: 1\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\nevent: x\ndata:two\n\n\ndata: cut";
        for size in 1..text.len() {
            let mut parser = Parser::default();
            let mut found = Vec::new();
            for chunk in text.as_bytes().chunks(size) {
                parser.push(chunk);
                found.extend(std::iter::from_fn(|| parser.next()));
            }
            assert_eq!(found, ["{\"a\":\n1}", "two"]);
        }
    }
}
