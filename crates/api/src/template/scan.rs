//! Finds in a SQL file what cannot run where templates run: in one transaction, sent by a program that is not psql.
//!
//! Knows just enough of PostgreSQL's lexer to tell code from comments, quotes, dollar quotes and `BEGIN ATOMIC` bodies
//! (counted as psql counts them). Absent: a grammar. What is wrong otherwise, PostgreSQL says when it is run.

/// Faults past these are not listed: the first ones tell what kind of file it is.
const FAULTS_MAX: usize = 20;
/// Words that are kept of a statement: more than any rule looks at.
const WORDS_MAX: usize = 64;

/// What is wrong with a file, each with its line.
pub(super) fn faults(sql: &str) -> Vec<String> {
    let mut scan = Scan { text: sql.as_bytes(), at: 0, faults: Vec::new() };
    if sql.starts_with('\u{feff}') {
        scan.fault(0, "begins with a byte order mark; save it without");
        scan.at = '\u{feff}'.len_utf8();
    }
    scan.file();
    scan.faults
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    faults: Vec<String>,
}

#[derive(Default)]
struct Statement {
    start: usize,
    words: Vec<String>,
    parentheses: usize,
    /// Inside `BEGIN ATOMIC … END` of a function, with its CASE … END.
    begins: usize,
}

impl Statement {
    fn word(&mut self, at: usize, word: String) {
        if self.words.is_empty() {
            self.start = at;
        }
        match word.as_str() {
            "BEGIN" if self.makes_routine() => self.begins += 1,
            "CASE" if self.begins > 0 => self.begins += 1,
            "END" if self.begins > 0 => self.begins -= 1,
            _ => {}
        }
        if self.words.len() < WORDS_MAX {
            self.words.push(word);
        }
    }

    fn makes_routine(&self) -> bool {
        let mut words = self.words.iter().map(String::as_str).filter(|word| !matches!(*word, "OR" | "REPLACE"));
        words.next() == Some("CREATE") && matches!(words.next(), Some("FUNCTION" | "PROCEDURE"))
    }

    /// What to do about a statement that cannot run, or nothing.
    fn judge(&self) -> Option<&'static str> {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let has = |word: &str| words.contains(&word);
        match words.as_slice() {
            ["ROLLBACK", rest @ ..] if rest.iter().take(2).any(|word| *word == "TO") => None,
            ["BEGIN" | "START" | "COMMIT" | "END" | "ROLLBACK" | "ABORT", ..] | ["PREPARE", "TRANSACTION", ..] => {
                Some("each file is run in one transaction already; leave it out")
            }
            ["CREATE" | "DROP", "DATABASE", ..] => {
                Some("the database is made by Freehold; templates only say what is in it")
            }
            ["CREATE" | "DROP", "TABLESPACE", ..] | ["ALTER", "SYSTEM", ..] => {
                Some("it concerns the whole server, which templates do not; leave it out")
            }
            ["VACUUM", ..] => Some("it cannot run in a transaction, and a new database needs none; leave it out"),
            ["CREATE" | "DROP" | "REINDEX", ..] if has("CONCURRENTLY") && !has("VIEW") => {
                Some("it cannot run in a transaction, and nobody else is in a new database; leave out CONCURRENTLY")
            }
            ["ALTER", "TABLE", ..] if has("DETACH") && has("CONCURRENTLY") => {
                Some("it cannot run in a transaction, and nobody else is in a new database; leave out CONCURRENTLY")
            }
            ["COPY", ..] if words.windows(2).any(|pair| pair == ["FROM", "STDIN"]) => {
                Some("there is no standard input; write INSERT … VALUES instead")
            }
            _ => None,
        }
    }
}

impl Scan<'_> {
    fn file(&mut self) {
        let mut statement = Statement::default();
        while let Some(byte) = self.peek(0) {
            let start = self.at;
            match byte {
                b'-' if self.peek(1) == Some(b'-') => self.skip_line(),
                b'/' if self.peek(1) == Some(b'*') => self.skip_comment(),
                b'\'' => self.skip_quoted(b'\'', false),
                b'"' => {
                    self.skip_quoted(b'"', false);
                    statement.word(start, String::new());
                }
                b'$' => self.skip_dollar(),
                b'\\' => {
                    self.fault(start, "a backslash command of psql; templates are plain SQL and are not run by psql");
                    self.skip_line();
                }
                b'(' => {
                    statement.parentheses += 1;
                    self.at += 1;
                }
                b')' => {
                    statement.parentheses = statement.parentheses.saturating_sub(1);
                    self.at += 1;
                }
                b';' => {
                    self.at += 1;
                    if statement.parentheses == 0 && statement.begins == 0 && !self.end(&mut statement) {
                        return;
                    }
                }
                _ if starts_word(byte) => {
                    let word = self.word();
                    if matches!(word.as_str(), "E") && self.peek(0) == Some(b'\'') {
                        self.skip_quoted(b'\'', true);
                    } else {
                        statement.word(start, word);
                    }
                }
                _ => self.at += 1,
            }
            if self.faults.len() >= FAULTS_MAX {
                return;
            }
        }
        self.end(&mut statement);
    }

    /// Whether what follows is still SQL: after COPY FROM STDIN comes data.
    fn end(&mut self, statement: &mut Statement) -> bool {
        let done = std::mem::take(statement);
        let Some(advice) = done.judge() else { return true };
        let shown: Vec<&str> = done.words.iter().take(3).map(String::as_str).filter(|word| !word.is_empty()).collect();
        self.fault(done.start, &format!("{}: {advice}", shown.join(" ")));
        done.words.first().is_none_or(|word| word != "COPY")
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn fault(&mut self, at: usize, what: &str) {
        let before = self.text.get(..at).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        self.faults.push(format!("line {line}: {what}"));
    }

    fn word(&mut self) -> String {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length =
            rest.iter().take_while(|byte| starts_word(**byte) || byte.is_ascii_digit() || **byte == b'$').count();
        self.at += length;
        String::from_utf8_lossy(&rest[..length.min(24)]).to_ascii_uppercase()
    }

    fn skip_line(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at += rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    }

    fn skip_comment(&mut self) {
        let start = self.at;
        let mut depth = 0_usize;
        while let Some(byte) = self.peek(0) {
            match (byte, self.peek(1)) {
                (b'/', Some(b'*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', Some(b'/')) => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.at += 1,
            }
        }
        self.fault(start, "a comment that does not end");
    }

    fn skip_quoted(&mut self, quote: u8, escapes: bool) {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.peek(0) {
            self.at += 1;
            match byte {
                b'\\' if escapes => self.at += 1,
                // A doubled quote is skipped as two strings, which is the same.
                _ if byte == quote => return,
                _ => {}
            }
        }
        self.fault(start, "a quote that does not end");
    }

    /// `$$ … $$` or `$tag$ … $tag$`; a lone `$` otherwise.
    fn skip_dollar(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let tag = rest.iter().skip(1).take_while(|byte| starts_word(**byte) || byte.is_ascii_digit()).count();
        let is_quote = rest.get(tag + 1) == Some(&b'$') && !rest.get(1).is_some_and(u8::is_ascii_digit);
        if !is_quote {
            self.at += 1;
            return;
        }
        let (delimiter, body) = rest.split_at(tag + 2);
        match body.windows(delimiter.len()).position(|window| window == delimiter) {
            Some(end) => self.at += delimiter.len() + end + delimiter.len(),
            None => {
                self.fault(self.at, "a dollar quote that does not end");
                self.at = self.text.len();
            }
        }
    }
}

fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}
