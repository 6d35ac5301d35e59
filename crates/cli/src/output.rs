//! The one printer: everything that people or programs read goes through here.
//!
//! Answers go to stdout, all else to stderr. Text from the API is made safe for terminals: a tenant's name may hold
//! control characters. Absent: any decision about what to say.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use comfy_table::{Attribute, Cell, ContentArrangement, Table, presets};
use freehold_api::server::Severity;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde::Serialize;

use crate::failure::Failure;
use crate::surroundings::Surroundings;

type Stream = Mutex<Box<dyn Write + Send>>;

pub struct Printer {
    stdout: Stream,
    stderr: Stream,
    json: bool,
    stdout_is_terminal: bool,
    stderr_is_terminal: bool,
    colours: bool,
    now: Timestamp,
    bar: Mutex<Option<ProgressBar>>,
}

/// Rows under a header. Cells are made safe when they are printed.
pub struct Rows {
    pub header: &'static [&'static str],
    pub rows: Vec<Vec<String>>,
    /// What to say instead of an empty table.
    pub empty: &'static str,
}

impl Printer {
    /// Takes the streams: from here on nothing else writes.
    pub fn new(around: &mut Surroundings, json: bool) -> Self {
        let colours = around.stdout_is_terminal && around.env.get("NO_COLOR").is_none_or(String::is_empty);
        Self {
            stdout: Mutex::new(std::mem::replace(&mut around.stdout, Box::new(std::io::sink()))),
            stderr: Mutex::new(std::mem::replace(&mut around.stderr, Box::new(std::io::sink()))),
            json,
            stdout_is_terminal: around.stdout_is_terminal,
            stderr_is_terminal: around.stderr_is_terminal,
            colours: colours && around.var("TERM") != Some("dumb"),
            now: around.now,
            bar: Mutex::new(None),
        }
    }

    pub fn wants_json(&self) -> bool {
        self.json
    }

    /// Whether a person watches, so that the same may be drawn again over itself.
    pub fn is_live(&self) -> bool {
        self.stdout_is_terminal
    }

    /// An empty screen, where there is one.
    pub fn clear(&self) {
        if self.stdout_is_terminal {
            self.line("\u{1b}[2J\u{1b}[H");
        }
    }

    /// One answer of the API, as it came.
    pub fn json<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(|error| cannot_print(&error))?;
        self.line(&text);
        Ok(())
    }

    /// One line of JSON, for streams of them.
    pub fn json_line<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| cannot_print(&error))?;
        self.line(&text);
        Ok(())
    }

    /// A line on stdout, exactly as given.
    pub fn line(&self, text: &str) {
        self.above_the_bar(|| write_line(&self.stdout, text));
    }

    /// Bytes on stdout, exactly as given.
    pub fn bytes(&self, bytes: &[u8]) {
        self.above_the_bar(|| {
            let mut stream = self.stdout.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = stream.write_all(bytes).and_then(|()| stream.flush());
        });
    }

    /// A remark on stderr: not part of the answer.
    pub fn note(&self, text: &str) {
        self.above_the_bar(|| write_line(&self.stderr, text));
    }

    pub fn table(&self, table: Rows) {
        if table.rows.is_empty() {
            return self.note(table.empty);
        }
        let mut drawn = Table::new();
        drawn.load_style(presets::NOTHING).set_header(table.header.iter().map(|name| {
            let cell = Cell::new(name);
            if self.colours { cell.add_attribute(Attribute::Dim) } else { cell }
        }));
        match (self.stdout_is_terminal, self.colours) {
            (true, true) => drawn.set_content_arrangement(ContentArrangement::Dynamic).enforce_styling(),
            (true, false) => drawn.set_content_arrangement(ContentArrangement::Dynamic).force_no_tty(),
            // Programs such as grep want one row on one line.
            (false, _) => drawn.set_content_arrangement(ContentArrangement::Disabled).force_no_tty(),
        };
        if self.stdout_is_terminal {
            drawn.set_width(terminal_width());
        }
        for row in table.rows {
            drawn.add_row(row.iter().map(|cell| Cell::new(plain(cell))));
        }
        for column in drawn.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for line in drawn.to_string().lines() {
            self.line(line.trim_end());
        }
    }

    /// One thing: a name and a value per line. What is absent is left out.
    pub fn fields(&self, fields: &[(&str, Option<String>)]) {
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in fields {
            if let Some(value) = value {
                let name = format!("{name:width$}");
                self.line(&format!("{}  {}", self.dim(&name), plain(value)));
            }
        }
    }

    pub fn failure(&self, failure: &Failure) {
        if let Failure::Findings(_) = failure {
            return;
        }
        if self.json {
            return self.note(&failure.to_json().to_string());
        }
        let mut text = format!("error: {}", plain(&failure.to_string()));
        for error in failure.errors() {
            let _ = write!(text, "\n  {}: {}", plain(&error.field), plain(&error.message));
        }
        if let Some(id) = failure.request_id() {
            let _ = write!(text, "\n  request {}", plain(id));
        }
        if let Some(next) = failure.next() {
            let _ = write!(text, "\nnext: {}", plain(&next));
        }
        self.note(&text);
    }

    /// `3 min ago` for people, RFC 3339 for pipes.
    pub fn time(&self, at: Timestamp) -> String {
        if self.stdout_is_terminal { relative(self.now, at) } else { at.to_string() }
    }

    /// One line of a list that is read from the top: how bad, and what.
    pub fn finding(&self, severity: Severity, text: &str) {
        let (name, colour) = match severity {
            Severity::High => ("high", "31;1"),
            Severity::Medium => ("medium", "33"),
            Severity::Low => ("low", "36"),
        };
        let name = format!("{name:6}");
        let name = if self.colours { format!("\u{1b}[{colour}m{name}\u{1b}[0m") } else { name };
        self.line(&format!("{name}  {}", plain(text)));
    }

    fn dim(&self, text: &str) -> String {
        if self.colours { format!("\u{1b}[2m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Turns while something goes on, where a person watches. Gone when the guard is dropped.
    pub fn spinner(&self, message: &str) -> Spinner<'_> {
        if self.stderr_is_terminal && !self.json {
            let style = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}");
            let bar = ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_message(plain(message).into_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
        }
        Spinner { printer: self }
    }

    fn above_the_bar(&self, write: impl FnOnce()) {
        let bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

pub struct Spinner<'a> {
    printer: &'a Printer,
}

impl Spinner<'_> {
    pub fn say(&self, message: &str) {
        if let Some(bar) = &*self.printer.bar.lock().unwrap_or_else(PoisonError::into_inner) {
            bar.set_message(plain(message).into_owned());
        }
    }
}

impl Drop for Spinner<'_> {
    fn drop(&mut self) {
        if let Some(bar) = self.printer.bar.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }
}

fn cannot_print(error: &serde_json::Error) -> Failure {
    freehold_client::Error::NotUnderstood(format!("cannot print the answer: {error}")).into()
}

/// A reader that went away (`| head`) is no error worth telling: there is nobody left to tell.
fn write_line(stream: &Stream, text: &str) {
    let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = writeln!(stream, "{text}").and_then(|()| stream.flush());
}

/// Bytes for stdout that are no answer of the API: completion scripts.
pub fn raw(bytes: &[u8]) {
    let _ = std::io::stdout().write_all(bytes);
}

fn terminal_width() -> u16 {
    Table::new().width().unwrap_or(100).max(60)
}

/// Makes foreign text safe for a terminal: control characters and direction overrides become visible escapes.
pub fn plain(text: &str) -> Cow<'_, str> {
    let hostile = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(hostile) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if hostile(c) { safe.extend(c.escape_default()) } else { safe.push(c) }
    }
    Cow::Owned(safe)
}

fn relative(now: Timestamp, at: Timestamp) -> String {
    let seconds = now.as_second() - at.as_second();
    let (count, unit) = match seconds.abs() {
        0..2 => return "now".into(),
        s @ 2..60 => (s, "s"),
        s @ 60..3600 => (s / 60, "min"),
        s @ 3600..172_800 => (s / 3600, "h"),
        s => (s / 86_400, "days"),
    };
    if seconds > 0 { format!("{count} {unit} ago") } else { format!("in {count} {unit}") }
}

/// Whole units where they fit exactly, else one decimal.
pub fn bytes(count: u64) -> String {
    let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(size, _)| count >= *size) {
        Some((size, unit)) if count.is_multiple_of(size) => format!("{} {unit}", count / size),
        #[allow(clippy::cast_precision_loss, reason = "one decimal is shown")]
        Some((size, unit)) => format!("{:.1} {unit}", count as f64 / size as f64),
        None => format!("{count} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_people_tell_them() {
        let now: Timestamp = "2026-01-10T12:00:00Z".parse().unwrap();
        for (at, told) in [
            ("2026-01-10T12:00:00Z", "now"),
            ("2026-01-10T11:59:30Z", "30 s ago"),
            ("2026-01-10T11:57:00Z", "3 min ago"),
            ("2026-01-10T14:30:00Z", "in 2 h"),
            ("2026-01-01T12:00:00Z", "9 days ago"),
        ] {
            assert_eq!(relative(now, at.parse().unwrap()), told);
        }
    }

    #[test]
    fn foreign_text_cannot_drive_the_terminal() {
        assert_eq!(plain("Müller & Söhne 日本"), "Müller & Söhne 日本");
        assert_eq!(plain("a\u{1b}[2Jb\nc\u{202e}d"), "a\\u{1b}[2Jb\\nc\\u{202e}d");
    }
}
