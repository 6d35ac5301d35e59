//! What a row of looks makes of a server. Pure.

/// Looks in a row that failed, from which on a server is unhealthy.
pub const UNHEALTHY: i32 = 3;

/// A server as far as health has a say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub state: String,
    /// What it was before health made it failed.
    pub state_before: Option<String>,
    pub failures: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Well,
    Failed,
    /// Answered, and is not what it should be: waiting for a third look would only do harm.
    Wrong,
}

impl Standing {
    pub fn after(&self, found: Found) -> Self {
        let failures = match found {
            Found::Well => 0,
            Found::Failed => self.failures.saturating_add(1),
            Found::Wrong => self.failures.saturating_add(1).max(UNHEALTHY),
        };
        let (state, state_before) = match (&self.state_before, self.state.as_str()) {
            (_, "active") if failures >= UNHEALTHY => ("failed".to_owned(), Some(self.state.clone())),
            (Some(before), "failed") if failures == 0 => (before.clone(), None),
            (before, _) => (self.state.clone(), before.clone()),
        };
        Self { state, state_before, failures }
    }

    pub fn health(&self) -> &'static str {
        match self.failures {
            0 => "healthy",
            1..UNHEALTHY => "degraded",
            _ => "unhealthy",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn standing(state: &str, before: Option<&str>, failures: i32) -> Standing {
        Standing { state: state.into(), state_before: before.map(str::to_owned), failures }
    }

    #[test]
    fn an_active_server_fails_at_the_third_look_and_comes_back_at_the_first_answer() {
        let mut server = standing("active", None, 0);
        let mut told = Vec::new();
        for found in [Found::Failed, Found::Failed, Found::Failed, Found::Failed, Found::Well] {
            server = server.after(found);
            told.push((server.health(), server.state.clone()));
        }
        let told: Vec<_> = told.iter().map(|(health, state)| (*health, state.as_str())).collect();
        let expected = [
            ("degraded", "active"),
            ("degraded", "active"),
            ("unhealthy", "failed"),
            ("unhealthy", "failed"),
            ("healthy", "active"),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_wrong_server_is_out_at_once() {
        assert_eq!(standing("active", None, 0).after(Found::Wrong), standing("failed", Some("active"), 3));
    }

    #[test]
    fn what_failed_otherwise_is_not_brought_back() {
        assert_eq!(standing("failed", None, 0).after(Found::Well).state, "failed");
    }

    proptest! {
        /// From any state, by any row of looks: only `active` becomes failed, only by health, and an answer undoes exactly that.
        #[test]
        fn health_changes_nothing_but_what_it_changed(start in 0usize..6, looks in proptest::collection::vec(0u8..3, 0..20)) {
            let state = ["active", "cordoned", "draining", "maintenance", "failed", "removed"][start];
            let first = standing(state, None, 0);
            let mut now = first.clone();
            for look in looks {
                now = now.after([Found::Well, Found::Failed, Found::Wrong][look as usize]);
                prop_assert!(now.state == first.state || (first.state == "active" && now.state == "failed"));
                prop_assert_eq!(now.state_before.is_some(), now.state != first.state);
            }
            let back = now.after(Found::Well);
            prop_assert_eq!(back, Standing { failures: 0, ..first });
        }
    }
}
