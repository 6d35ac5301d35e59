//! Which databases are measured now. Pure.

/// What is known of a database that might be measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    pub database: String,
    /// Seconds since it was measured; None: never.
    pub age: Option<f64>,
    /// Somebody is in it, or was since.
    pub used: bool,
}

/// One in which nothing happened is the size it was; but for what goes unnoticed, once a day.
const AT_LEAST: f64 = 86_400.0;

/// The longest unmeasured first.
pub fn order(candidates: Vec<Candidate>, period: f64) -> Vec<String> {
    let mut due: Vec<Candidate> = candidates
        .into_iter()
        .filter(|candidate| candidate.age.is_none_or(|age| age >= AT_LEAST || (age >= period && candidate.used)))
        .collect();
    due.sort_by(|a, b| match (a.age, b.age) {
        (None, None) => a.database.cmp(&b.database),
        (None, Some(_)) => std::cmp::Ordering::Less,
        (Some(_), None) => std::cmp::Ordering::Greater,
        (Some(a), Some(b)) => b.total_cmp(&a),
    });
    due.into_iter().map(|candidate| candidate.database).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_measured_comes_first_and_what_rests_is_left_alone() {
        let candidate = |database: &str, age, used| Candidate { database: database.into(), age, used };
        let all = vec![
            candidate("fresh", Some(10.0), true),
            candidate("busy", Some(400.0), true),
            candidate("idle", Some(4000.0), false),
            candidate("old", Some(90_000.0), false),
            candidate("new", None, false),
            candidate("busier", Some(900.0), true),
        ];
        assert_eq!(order(all, 300.0), ["new", "old", "busier", "busy"]);
    }
}
