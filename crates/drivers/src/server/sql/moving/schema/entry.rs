//! One object of a dump, and which of its statements are restored when. Pure.

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    name: String,
    kind: String,
    schema: String,
    pub(super) statements: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    All,
    /// Without which a table cannot be replicated.
    Keys,
    ButKeys,
}

impl Entry {
    /// Before the first object: settings of the session.
    pub(super) fn prologue() -> Self {
        Self { name: String::new(), kind: String::new(), schema: String::new(), statements: Vec::new() }
    }

    /// `orders; Type: TABLE; Schema: public; Owner: acme`. From the end: a name may hold all of that.
    pub(super) fn begins(header: &str) -> Self {
        let rest = header.rsplit_once("; Owner: ").map_or(header, |(rest, _)| rest);
        let (rest, schema) = rest.rsplit_once("; Schema: ").unwrap_or((rest, "-"));
        let (name, kind) = rest.rsplit_once("; Type: ").unwrap_or((rest, ""));
        let owned = str::to_owned;
        Self { name: owned(name), kind: owned(kind), schema: owned(schema), statements: Vec::new() }
    }

    /// For errors: `TABLE public.orders`.
    pub(super) fn told(&self) -> String {
        match (self.kind.as_str(), self.schema.as_str()) {
            ("", _) => "the settings of a dump".to_owned(),
            (kind, "-" | "") => format!("{kind} {}", self.name),
            (kind, schema) => format!("{kind} {schema}.{}", self.name),
        }
    }

    pub(super) fn wanted(&self, turn: Turn) -> Vec<&str> {
        let key = self.is_key();
        let now = match turn {
            Turn::All => true,
            Turn::Keys => key,
            Turn::ButKeys => !key,
        };
        // Session settings come with every section.
        if !(now || self.kind.is_empty()) || self.is_the_admins() {
            return Vec::new();
        }
        self.statements.iter().map(String::as_str).filter(|sql| !self.wakes_trigger(sql)).collect()
    }

    /// Attached, or an identity column, already: PostgreSQL has no code of its own for these.
    pub(super) fn is_there(&self, sqlstate: Option<&str>) -> bool {
        matches!((self.kind.as_str(), sqlstate), ("TABLE ATTACH", Some("42809")) | ("SEQUENCE", Some("55000")))
    }

    fn is_key(&self) -> bool {
        self.kind == "CONSTRAINT"
            || self.kind == "INDEX" && self.statements.iter().any(|sql| sql.contains(" REPLICA IDENTITY "))
    }

    fn is_the_admins(&self) -> bool {
        self.kind == "EXTENSION"
            || self.kind == "COMMENT" && self.name.starts_with("EXTENSION ")
            || self.kind.starts_with("PUBLICATION") && is_a_links(&self.name)
    }

    /// Left out where it was somebody else's: it would run whatever anybody does there, and only a superuser makes it.
    pub(super) fn is_a_superusers(&self) -> bool {
        self.kind == "EVENT TRIGGER" || self.kind == "COMMENT" && self.name.starts_with("EVENT TRIGGER ")
    }

    fn wakes_trigger(&self, sql: &str) -> bool {
        self.kind == "TRIGGER"
            && sql.starts_with("ALTER TABLE ")
            && (sql.contains(" ENABLE ALWAYS TRIGGER ") || sql.contains(" ENABLE REPLICA TRIGGER "))
    }
}

/// `fh_move_x`, and `fh_move_x orders` for a table of it.
fn is_a_links(name: &str) -> bool {
    name.starts_with("fh_move_") || name.starts_with("fh_back_")
}

pub(super) fn is_set(sql: &str) -> bool {
    sql.starts_with("SET ")
}

/// The restoring session has its own.
pub(super) fn is_ours_to_set(sql: &str) -> bool {
    name_of_set(sql).is_some_and(|name| name.ends_with("_timeout") || name == "client_encoding")
}

pub(super) fn name_of_set(sql: &str) -> Option<String> {
    let rest = sql.strip_prefix("SET ")?;
    let name = rest.split(|c: char| c.is_whitespace() || c == '=').next()?;
    Some(name.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(header: &str, statements: &[&str]) -> Entry {
        Entry { statements: statements.iter().map(|sql| (*sql).to_owned()).collect(), ..Entry::begins(header) }
    }

    #[test]
    fn entry_is_named_even_if_its_name_is_a_header() {
        let odd = Entry::begins("a; Type: X; Schema: y; Owner: z; Type: TABLE; Schema: public; Owner: o");
        assert_eq!(odd.told(), "TABLE public.a; Type: X; Schema: y; Owner: z");
        assert_eq!(Entry::begins("app; Type: SCHEMA; Schema: -; Owner: o").told(), "SCHEMA app");
    }

    #[test]
    fn entry_waits_for_its_turn() {
        let key = entry("t t_pkey; Type: CONSTRAINT; Schema: s; Owner: o", &["ALTER TABLE ONLY s.t ADD CONSTRAINT …;"]);
        let identity = entry(
            "i; Type: INDEX; Schema: s; Owner: o",
            &["CREATE UNIQUE INDEX i ON s.t (a);", "ALTER TABLE ONLY s.t REPLICA IDENTITY USING INDEX i;"],
        );
        let index = entry("j; Type: INDEX; Schema: s; Owner: o", &["CREATE INDEX j ON s.t (a);"]);
        for (entry, key) in [(&key, true), (&identity, true), (&index, false)] {
            assert_eq!((entry.wanted(Turn::Keys).is_empty(), entry.wanted(Turn::ButKeys).is_empty()), (!key, key));
            assert!(!entry.wanted(Turn::All).is_empty());
        }
    }

    #[test]
    fn entry_leaves_out_what_is_the_admins_and_what_wakes_triggers() {
        for header in [
            "citext; Type: EXTENSION; Schema: -; Owner: -",
            "EXTENSION citext; Type: COMMENT; Schema: -; Owner: ",
            "fh_move_1; Type: PUBLICATION; Schema: -; Owner: admin",
            "fh_move_1 t; Type: PUBLICATION TABLE; Schema: public; Owner: admin",
        ] {
            assert!(entry(header, &["X;"]).wanted(Turn::All).is_empty(), "{header}");
        }
        assert!(!entry("mine; Type: PUBLICATION; Schema: -; Owner: o", &["X;"]).wanted(Turn::All).is_empty());
        let statements = ["CREATE TRIGGER t …;", "ALTER TABLE s.x ENABLE ALWAYS TRIGGER t;"];
        let trigger = entry("x t; Type: TRIGGER; Schema: s; Owner: o", &statements);
        assert_eq!(trigger.wanted(Turn::ButKeys), ["CREATE TRIGGER t …;"]);
        for header in
            ["t; Type: EVENT TRIGGER; Schema: -; Owner: -", "EVENT TRIGGER t; Type: COMMENT; Schema: -; Owner: -"]
        {
            assert!(Entry::begins(header).is_a_superusers(), "{header}");
        }
        assert!(
            !trigger.is_a_superusers()
                && !Entry::begins("TABLE t; Type: COMMENT; Schema: s; Owner: -").is_a_superusers()
        );
    }

    #[test]
    fn entry_knows_settings() {
        assert_eq!(name_of_set("SET default_tablespace = '';").as_deref(), Some("default_tablespace"));
        assert!(is_ours_to_set("SET transaction_timeout = 0;") && !is_ours_to_set("SET xmloption = content;"));
    }
}
