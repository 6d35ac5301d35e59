//! Whatever stands in a file or in the environment: it is read or refused, in a few lines that can be read and hold no secret.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;

use super::super::keys::Node;
use super::tests::load;
use super::*;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const REPEATED: [&str; 3] = ["plan", "server_pool", "edge"];

/// Those with a name of their own: `stock.templates.*` has any.
fn named() -> Vec<String> {
    keys::names().into_iter().filter(|name| !name.ends_with('*')).collect()
}

/// Of the file's bytes and the variables.
fn refused(bytes: &[u8], variables: Vec<(OsString, OsString)>) -> Result<Loaded, String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("freehold.toml");
    std::fs::write(&file, bytes).unwrap();
    Sources::with(Some(&file), variables).load().map_err(|error| error.to_string())
}

fn variables(said: &[(String, String)]) -> Vec<(OsString, OsString)> {
    said.iter().map(|(name, text)| (name.into(), text.into())).collect()
}

/// For people, on a terminal and in a log; and what is called the nearest is there.
fn is_readable(error: &str) -> Result<(), TestCaseError> {
    let known: BTreeSet<String> = keys::names().into_iter().collect();
    prop_assert!(!error.chars().any(|one| one.is_control() && one != '\n'), "{error:?}");
    prop_assert!(error.len() < 32 * 1024 && error.lines().count() < 50, "{} bytes", error.len());
    for nearest in error.split("there is no setting ").skip(1).filter_map(|rest| rest.split("; the nearest is ").nth(1))
    {
        let nearest = nearest.split_whitespace().next().unwrap_or_default();
        prop_assert!(known.contains(nearest), "{nearest}: {error}");
    }
    Ok(())
}

/// A file with this alone.
fn at(path: &str, said: toml::Value) -> toml::Table {
    let mut names: Vec<&str> = path.split('.').collect();
    let first = names.remove(0);
    let within = |inner, name: &&str| toml::Value::Table(toml::Table::from_iter([((*name).to_owned(), inner)]));
    let inner = names.iter().rev().fold(said, within);
    let is_repeated = REPEATED.contains(&first) && inner.is_table();
    let inner = if is_repeated { toml::Value::Array(vec![inner]) } else { inner };
    toml::Table::from_iter([(first.to_owned(), inner)])
}

fn any_value() -> impl Strategy<Value = toml::Value> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(toml::Value::Integer),
        any::<f64>().prop_map(toml::Value::Float),
        any::<bool>().prop_map(toml::Value::Boolean),
        any::<String>().prop_map(toml::Value::String),
        Just(toml::Value::Datetime("1979-05-27T07:32:00Z".parse().unwrap())),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(toml::Value::Array),
            proptest::collection::btree_map("[a-z_]{1,8}", inner, 0..3)
                .prop_map(|table| toml::Value::Table(table.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn hostile_bytes_are_read_or_refused(
        bytes in prop_oneof![proptest::collection::vec(any::<u8>(), 0..200), "(?s).{0,100}".prop_map(String::into_bytes)],
        names in proptest::collection::vec(("FREEHOLD_{1,3}[A-Za-z_]{0,30}", "[^\0]{0,40}"), 0..4),
        raw in proptest::collection::vec(1_u8..=255, 0..20),
    ) {
        let mut variables = variables(&names);
        let mut name = b"FREEHOLD__".to_vec();
        name.extend(&raw);
        variables.push((OsString::from_vec(name), OsString::from_vec(raw)));
        match refused(&bytes, variables) {
            Ok(loaded) => drop(loaded.effective()),
            Err(error) => is_readable(&error)?,
        }
    }

    #[test]
    fn hostile_values_of_any_kind_are_read_or_refused(
        said in proptest::collection::vec((proptest::sample::select(named()), any_value()), 1..4),
        of_environment in proptest::collection::vec((proptest::sample::select(named()), "[^\0]{0,60}"), 0..3),
    ) {
        let mut text = String::new();
        let mut tables = BTreeSet::new();
        for (path, value) in &said {
            if tables.insert(path.split('.').next().unwrap().to_owned()) {
                text.push_str(&toml::to_string(&at(path, value.clone())).unwrap());
            }
        }
        let name = |path: &String| format!("FREEHOLD__{}", path.to_ascii_uppercase().replace('.', "__"));
        let names: Vec<(String, String)> = of_environment.iter().map(|(path, text)| (name(path), text.clone())).collect();
        match refused(text.as_bytes(), variables(&names)) {
            Ok(loaded) => {
                let rows = loaded.effective();
                let odd = rows.iter().find(|row| row.value.iter().any(|value| value.contains(char::is_control)));
                prop_assert!(odd.is_none(), "{odd:?}");
            }
            Err(error) => is_readable(&error)?,
        }
    }

    /// One letter more, less, or another.
    #[test]
    fn a_mistyped_name_is_refused_with_one_that_is_a_letter_away(
        name in proptest::sample::select(named()),
        place in any::<proptest::sample::Index>(),
        letter in "[a-z]",
        change in 0_usize..3,
        in_environment: bool,
    ) {
        let (table, last) = name.rsplit_once('.').map_or(("", name.as_str()), |(table, last)| (table, last));
        let place = place.index(last.len());
        let end = if change == 0 { place } else { place + 1 };
        let wrong = format!("{}{}{}", &last[..place], if change == 1 { "" } else { &letter }, &last[end..]);
        let path = if table.is_empty() { wrong.clone() } else { format!("{table}.{wrong}") };
        let is_table = keys::names().iter().any(|known| known.starts_with(&format!("{path}.")));
        prop_assume!(!wrong.is_empty() && !wrong.starts_with('_') && !wrong.ends_with('_') && !is_table);
        prop_assume!(!path.contains("__") && !keys::names().contains(&path));
        let in_environment = in_environment && !REPEATED.iter().any(|repeated| path.starts_with(repeated));
        let error = if in_environment {
            let variable = format!("FREEHOLD__{}", path.to_ascii_uppercase().replace('.', "__"));
            refused(b"", variables(&[(variable, "1".into())])).unwrap_err()
        } else {
            let text = toml::to_string(&at(&path, toml::Value::Integer(1))).unwrap();
            refused(text.as_bytes(), Vec::new()).unwrap_err()
        };
        let found = error.split(&format!("there is no setting {path}; the nearest is ")).nth(1);
        let nearest = found.and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
        prop_assert!(strsim::osa_distance(&path, nearest) <= 1, "{path}: {nearest}: {error}");
        is_readable(&error)?;
    }

    /// In the file, in a variable, or in a file of its own: of those that are secret, none is ever shown.
    #[test]
    fn a_secret_is_told_by_nobody_wherever_it_is_from(
        names in proptest::sample::subsequence(secrets(), 1..=secrets().len()),
        secret in "[b-z]{40}",
        form in 0_usize..4,
        places in proptest::collection::vec(0_usize..3, secrets().len()),
    ) {
        let said = match form {
            0 => format!("postgres://u:{secret}@h/d"),
            1 => format!("https://collector/{secret}"),
            2 => secret.clone(),
            _ => format!("{secret}\u{1b}[2J\n@{secret}"),
        };
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        std::fs::write(&file, &said).unwrap();
        let mut whole = toml::Table::new();
        let mut of_environment = Vec::new();
        for (name, place) in names.iter().zip(places) {
            let variable = format!("FREEHOLD__{}", name.to_ascii_uppercase().replace('.', "__"));
            match place {
                0 => of_environment.push((variable, said.clone())),
                1 => of_environment.push((format!("{variable}_FILE"), file.display().to_string())),
                _ => merge(&mut whole, at(name, toml::Value::String(said.clone()))),
            }
        }
        let told = match refused(toml::to_string(&whole).unwrap().as_bytes(), variables(&of_environment)) {
            Ok(loaded) => {
                format!("{loaded:?} {:?} {}", loaded.effective(), serde_json::to_string(&loaded.settings).unwrap())
            }
            Err(error) => error,
        };
        prop_assert!(!told.contains(&secret), "{told}");
    }
}

/// Too much, too deep, twice, and with what no text holds.
#[test]
fn what_cannot_be_settings_is_refused_at_once_with_the_reason() {
    let deep = format!("FREEHOLD{}", "__A".repeat(30_000));
    let many: String = (0..60_000).map(|number| format!("a{number} = {number}\n")).collect();
    let long = format!("{} = 1\n", "a".repeat(900_000));
    for (bytes, said, why) in [
        (vec![b'#'; 10 << 20], vec![], "more than 1048576 bytes: is it the right file?"),
        (many.into_bytes(), vec![], "and 5996"),
        (long.into_bytes(), vec![], "there is no setting aaaa"),
        (format!("{}1", "a.".repeat(200_000)).into_bytes(), vec![], "line 1"),
        (format!("a = {}", "[".repeat(900_000)).into_bytes(), vec![], "line 1"),
        (b"listen = \"a\0b\"".to_vec(), vec![], "line 1"),
        (
            b"listen = \"a\\u0000b\"\nstore.url = \"postgres://x\"\nsecrets.key_file = \"k\"".to_vec(),
            vec![],
            "invalid socket address syntax for key `listen`",
        ),
        (b"listen = \"\xff\"".to_vec(), vec![], "UTF-8"),
        (b"listen = \"x\"\nlisten = \"y\"".to_vec(), vec![], "line 2: duplicate key"),
        (b"[store]\n[stock]\n[store]".to_vec(), vec![], "line 3: duplicate key"),
        (vec![], vec![(deep.as_str(), "x")], "there is no setting a.a.a"),
        (
            vec![],
            vec![("FREEHOLD__STORE__URL", "x"), ("FREEHOLD__Store__URL", "y")],
            "FREEHOLD__Store__URL and FREEHOLD__STORE__URL say the same setting",
        ),
        (vec![], vec![("FREEHOLD__LISTEN", "x"), ("FREEHOLD__LISTEN", "y")], "say the same setting"),
        (
            vec![],
            vec![("FREEHOLD_STORE__URL", "x")],
            "FREEHOLD_STORE__URL: settings begin with FREEHOLD__; the nearest is FREEHOLD__STORE__URL",
        ),
        (vec![], vec![("FREEHOLD__STORE__URL_FILE", "/dev/zero")], "/dev/zero has more than 65536 bytes"),
        (vec![], vec![("FREEHOLD__STORE__URL_FILE", "/")], "store.url_file: /: Is a directory"),
    ] {
        let said = said.into_iter().map(|(name, text)| (name.into(), text.into())).collect();
        let error = refused(&bytes, said).unwrap_err();
        assert!(error.contains(why), "{why}: {error}");
        is_readable(&error).unwrap();
    }
    // A value in the way of the reader is told, but not all of it.
    let error = load(
        "",
        &[
            ("FREEHOLD__STORE__URL", "postgres://x"),
            ("FREEHOLD__SECRETS__KEY", KEY),
            ("FREEHOLD__HTTP__BODY_LIMIT", &"9".repeat(100_000)),
        ],
    );
    let error = error.unwrap_err();
    assert!(error.contains("FREEHOLD__HTTP__BODY_LIMIT"), "{error}");
    is_readable(&error).unwrap();
}

fn merge(under: &mut toml::Table, above: toml::Table) {
    for (name, said) in above {
        match (under.get_mut(&name), said) {
            (Some(toml::Value::Table(under)), toml::Value::Table(above)) => merge(under, above),
            (_, said) => drop(under.insert(name, said)),
        }
    }
}

fn secrets() -> Vec<String> {
    fn walk(path: &str, node: &Node, found: &mut Vec<String>) {
        match node {
            Node::Table(table) => {
                for (name, node) in &table.fields {
                    walk(&if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, node, found);
                }
            }
            Node::Value(value) if value.is_secret => found.push(path.to_owned()),
            Node::Map | Node::List(_) | Node::Value(_) => {}
        }
    }
    let mut found = Vec::new();
    walk("", keys::tree(), &mut found);
    found
}
