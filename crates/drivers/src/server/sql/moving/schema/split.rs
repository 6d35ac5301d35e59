//! Cuts a plain dump into statements, as it comes, and finds the comments that name what follows. Pure.
//!
//! A semicolon ends a statement but inside quotes, dollar quotes, comments, parentheses (rules have several commands) and
//! `BEGIN ATOMIC … END` of a function. A name in a string or a function's body is no header: those are only looked for
//! between statements.

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// `Name: …; Type: …; Schema: …; Owner: …`
    Begins(String),
    Statement(String),
}

#[derive(Debug, Default)]
pub(super) struct Splitter {
    statement: String,
    within: Within,
    parentheses: u32,
    /// Of `BEGIN ATOMIC` and `CASE`.
    blocks: u32,
    /// The first words, which tell whether it makes a function.
    words: Vec<String>,
    word: String,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum Within {
    #[default]
    Nothing,
    Single {
        escapes: bool,
    },
    Double,
    Dollar(String),
    Block(u32),
}

impl Splitter {
    /// One line, with its end.
    pub(super) fn push(&mut self, line: &str) -> Vec<Piece> {
        let mut pieces = Vec::new();
        if self.between() {
            if let Some(header) = line.strip_prefix("-- Name: ") {
                return vec![Piece::Begins(header.trim_end().to_owned())];
            }
            // psql's own commands.
            if line.starts_with('\\') {
                return pieces;
            }
        }
        let chars: Vec<char> = line.chars().collect();
        let mut at = 0;
        while at < chars.len() {
            at += self.step(&chars[at..], &mut pieces);
        }
        pieces
    }

    fn between(&self) -> bool {
        self.within == Within::Nothing && self.statement.trim().is_empty()
    }

    /// Answers how many characters it took.
    fn step(&mut self, rest: &[char], pieces: &mut Vec<Piece>) -> usize {
        let (here, next) = (rest[0], rest.get(1).copied());
        let taken = match self.within.clone() {
            Within::Single { escapes: true } if here == '\\' => 2,
            Within::Single { .. } if here == '\'' => self.leave(),
            Within::Double if here == '"' => self.leave(),
            Within::Dollar(tag) if here == '$' && starts_with(rest, &tag) => {
                self.within = Within::Nothing;
                tag.chars().count()
            }
            Within::Block(depth) if (here, next) == ('*', Some('/')) => {
                self.within = if depth == 1 { Within::Nothing } else { Within::Block(depth - 1) };
                2
            }
            Within::Block(depth) if (here, next) == ('/', Some('*')) => {
                self.within = Within::Block(depth + 1);
                2
            }
            Within::Nothing => return self.outside(rest, pieces),
            Within::Single { .. } | Within::Double | Within::Dollar(_) | Within::Block(_) => 1,
        };
        self.keep(rest, taken)
    }

    fn outside(&mut self, rest: &[char], pieces: &mut Vec<Piece>) -> usize {
        let (here, next) = (rest[0], rest.get(1).copied());
        if here.is_alphanumeric() || here == '_' || (here == '$' && !self.word.is_empty()) {
            self.word.push(here.to_ascii_lowercase());
            return self.keep(rest, 1);
        }
        let word = std::mem::take(&mut self.word);
        let escapes = word == "e";
        if !word.is_empty() {
            self.read(word);
        }
        match (here, next) {
            ('-', Some('-')) => {
                // To the end of the line; between statements nobody misses it.
                let all = rest.len();
                return if self.between() { all } else { self.keep(rest, all) };
            }
            ('/', Some('*')) => {
                self.within = Within::Block(1);
                return self.keep(rest, 2);
            }
            ('\'', _) => self.within = Within::Single { escapes },
            ('"', _) => self.within = Within::Double,
            ('$', _) => {
                if let Some(tag) = dollar_tag(rest) {
                    let length = tag.chars().count();
                    self.within = Within::Dollar(tag);
                    return self.keep(rest, length);
                }
            }
            ('(', _) => self.parentheses += 1,
            (')', _) => self.parentheses = self.parentheses.saturating_sub(1),
            (';', _) if self.parentheses == 0 && self.blocks == 0 => {
                self.statement.push(';');
                let statement = std::mem::take(&mut self.statement);
                self.words.clear();
                pieces.push(Piece::Statement(statement.trim().to_owned()));
                return 1;
            }
            _ => {}
        }
        self.keep(rest, 1)
    }

    /// A word at the top of a statement has ended.
    fn read(&mut self, word: String) {
        if self.parentheses == 0 && self.makes_routine() {
            match (word.as_str(), self.blocks) {
                ("atomic", 0) if self.words.last().is_some_and(|last| last == "begin") => self.blocks = 1,
                ("case", 1..) => self.blocks += 1,
                ("end", 1..) => self.blocks -= 1,
                _ => {}
            }
        }
        if self.words.len() < 4 {
            self.words.push(word);
        } else {
            self.words[3] = word;
        }
    }

    fn makes_routine(&self) -> bool {
        let words: Vec<&str> = self.words.iter().take(4).map(String::as_str).collect();
        let routine = |word: &&str| ["function", "procedure"].contains(word);
        match words.as_slice() {
            ["create", "or", "replace", ..] => true,
            ["create", second, ..] => routine(second),
            _ => false,
        }
    }

    fn leave(&mut self) -> usize {
        self.within = Within::Nothing;
        1
    }

    fn keep(&mut self, rest: &[char], count: usize) -> usize {
        let count = count.min(rest.len());
        self.statement.extend(&rest[..count]);
        count
    }
}

fn starts_with(rest: &[char], text: &str) -> bool {
    text.chars().enumerate().all(|(at, c)| rest.get(at) == Some(&c))
}

/// `$$` or `$tag$`.
fn dollar_tag(rest: &[char]) -> Option<String> {
    let end = rest.iter().skip(1).position(|c| *c == '$')? + 1;
    let inner = &rest[1..end];
    let fits =
        inner.iter().all(|c| c.is_alphanumeric() || *c == '_') && !inner.first().is_some_and(char::is_ascii_digit);
    fits.then(|| rest[..=end].iter().collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(text: &str) -> Vec<Piece> {
        let mut splitter = Splitter::default();
        text.split_inclusive('\n').flat_map(|line| splitter.push(line)).collect()
    }

    #[test]
    fn split_ends_statements_where_they_end() {
        let whole = [
            "SELECT ';' || \";\" || $$;$$ || $a$ $$ ; $b$ $a$ || E'\\';' /* ; /* ; */ */;",
            "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2);",
            "CREATE FUNCTION f() RETURNS int\n    LANGUAGE sql\n    BEGIN ATOMIC\n SELECT CASE WHEN true THEN 1 ELSE 2 END;\n SELECT 2;\nEND;",
            "CREATE OR REPLACE PROCEDURE \"p;\"() LANGUAGE sql BEGIN ATOMIC INSERT INTO begin_end VALUES (1); END;",
            "CREATE FUNCTION g() RETURNS text LANGUAGE plpgsql AS $_$\n--\n-- Name: x; Type: EXTENSION; Schema: -; Owner: -\n--\n\\! ls\nbegin; end;\n$_$;",
            "ALTER TABLE \"a\"\"b;c\" ADD COLUMN x text DEFAULT 'it''s; -- no comment';",
            "CREATE VIEW v AS SELECT 1 AS end, 2 AS \"begin\"; ",
        ];
        let text = whole.join("\n\n-- between; them\n");
        let want: Vec<Piece> = whole.iter().map(|sql| Piece::Statement(sql.trim().to_owned())).collect();
        assert_eq!(split(&text), want);
    }

    #[test]
    fn split_finds_headers_and_drops_commands_of_psql() {
        let text = "\\restrict abc\n--\n-- Name: t; Type: TABLE; Schema: public; Owner: o\n--\n\nCREATE TABLE t (a int);\n\n\\unrestrict abc\n";
        let want = [
            Piece::Begins("t; Type: TABLE; Schema: public; Owner: o".into()),
            Piece::Statement("CREATE TABLE t (a int);".into()),
        ];
        assert_eq!(split(text), want);
    }

    proptest! {
        /// Whatever is in a string, a name or a body, it is one statement, and nothing of it is lost.
        #[test]
        fn split_keeps_what_is_quoted(inner in "[a-z;'\"$\\\\ \n/*-]{0,60}") {
            let quoted = format!("SELECT '{}', \"{}\";", inner.replace('\'', "''"), inner.replace('"', "\"\""));
            prop_assert_eq!(split(&quoted), vec![Piece::Statement(quoted.clone())]);
            let body = format!("DO $fh_body${inner}$fh_body$;");
            prop_assert_eq!(split(&body), vec![Piece::Statement(body.clone())]);
        }
    }
}
