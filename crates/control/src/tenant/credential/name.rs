//! What the next login is called. Pure. Absent: whether somebody has that name already.

/// PostgreSQL's NAMEDATALEN - 1, in bytes.
const NAME_MAX: usize = 63;
const SECOND: &str = "_2";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub role: String,
    /// Of a second one: the name that the next rotation comes back to.
    pub second_of: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the second login would be called {name:?}, which has {bytes} bytes, and PostgreSQL has 63; \
     with rotate = \"replace\" in its template's [naming] the login keeps its name"
)]
pub struct TooLong {
    pub name: String,
    pub bytes: usize,
}

/// After the login that is handed out. An opaque one is counted on and never comes again: `{owner}_l`, `{owner}_l2`,
/// `{owner}_l3`. One by pattern alternates with `{login}_2`.
pub fn next(current: &str, second_of: Option<&str>, owner: &str) -> Result<Name, TooLong> {
    if let Some(number) = opaque_number(current, owner) {
        return Ok(Name { role: format!("{owner}_l{}", number + 1), second_of: None });
    }
    if let Some(first) = second_of {
        return Ok(Name { role: first.to_owned(), second_of: None });
    }
    let name = format!("{current}{SECOND}");
    match name.len() {
        bytes if bytes > NAME_MAX => Err(TooLong { name, bytes }),
        _ => Ok(Name { role: name, second_of: Some(current.to_owned()) }),
    }
}

/// Where the next one waits that takes over its name: no role is ever called so.
pub fn placeholder(owner: &str) -> String {
    format!("{owner}_l0")
}

/// `{owner}_l` is the first.
fn opaque_number(role: &str, owner: &str) -> Option<u64> {
    match role.strip_prefix(owner)?.strip_prefix("_l")? {
        "" => Some(1),
        digits => digits.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWNER: &str = "fh_abcdefghijklmn27";

    #[test]
    fn a_name_by_pattern_comes_back_after_its_second() {
        let second = next("acme_app", None, OWNER).unwrap();
        assert_eq!(second, Name { role: "acme_app_2".into(), second_of: Some("acme_app".into()) });
        let first = next(&second.role, second.second_of.as_deref(), OWNER).unwrap();
        assert_eq!(first, Name { role: "acme_app".into(), second_of: None });
        // The name of another tenant is none to come back to.
        assert_eq!(next("acme_2", None, OWNER).unwrap().role, "acme_2_2");
    }

    #[test]
    fn an_opaque_name_never_comes_again() {
        let mut seen = vec![format!("{OWNER}_l")];
        for _ in 0..20 {
            let next = next(seen.last().unwrap(), None, OWNER).unwrap();
            assert!(!seen.contains(&next.role) && next.second_of.is_none(), "{next:?}");
            seen.push(next.role);
        }
        assert!(!seen.contains(&placeholder(OWNER)));
    }

    proptest! {
        #[test]
        fn a_name_fits_whole_or_not_at_all(current in "\\PC{1,40}") {
            match next(&current, None, OWNER) {
                Ok(name) => {
                    prop_assert_eq!(&name.role, &format!("{}_2", current));
                    prop_assert!(name.role.len() <= 63);
                    prop_assert_eq!(next(&name.role, name.second_of.as_deref(), OWNER).unwrap().role, current);
                }
                Err(long) => prop_assert!(long.bytes > 63 && current.len() > 61),
            }
        }
    }
}
