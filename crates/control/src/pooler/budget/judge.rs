//! What of a server's budget a person should know. Pure.

use freehold_api::server::{Finding, Severity};

use super::allocate::Budget;

/// A server as its pools see it.
#[derive(Debug, Clone)]
pub struct Standing<'a> {
    pub budget: Budget,
    /// Connections that the server admits besides those it reserves itself.
    pub admits: u32,
    /// The plans of its databases, each with the pool that it says, and how many databases have it.
    pub plans: &'a [(&'a str, u32, u64)],
    pub resting: Option<u32>,
    /// Databases that somebody uses, and the connections that there are for those.
    pub working: u32,
    pub room: u32,
}

impl Standing<'_> {
    pub fn databases(&self) -> u64 {
        self.plans.iter().map(|(_, _, count)| count).sum()
    }

    pub fn wanted(&self) -> u64 {
        self.plans.iter().map(|(_, most, count)| u64::from(*most) * count).sum()
    }

    /// Not everybody can have one at the same time.
    pub fn is_crowded(&self) -> bool {
        self.databases() > u64::from(self.budget.connections)
    }
}

/// Worst first.
pub fn findings(found: &Standing<'_>) -> Vec<Finding> {
    let Budget { connections, oversubscription } = found.budget;
    let (databases, wanted) = (found.databases(), found.wanted());
    let there = format!(
        "pools may open {connections} connections here: it admits {}, and pooler.server_reserve of them are kept for others",
        found.admits
    );
    let mut findings = Vec::new();
    let mut find = |severity, message: String| {
        findings.push(Finding { code: "pooler_budget".into(), severity, message });
    };
    for (plan, most, _) in found.plans.iter().filter(|(_, most, _)| *most > connections) {
        find(
            Severity::Medium,
            format!(
                "plan {plan} says {most} connections for each tenant's pool, and none gets more than {}: {there}; raise \
                 max_connections, put the plan on larger servers, or lower its pool_size and pool_reserve",
                connections.max(1)
            ),
        );
    }
    if databases > u64::from(connections) * u64::from(oversubscription) {
        find(
            Severity::Medium,
            format!(
                "{databases} pooled databases are more than pooler.oversubscription = {oversubscription} allows: {there}; when \
                 too many wake up at once, clients are refused; raise max_connections, move tenants away, or declare a higher factor"
            ),
        );
    }
    if found.working > found.room {
        find(
            Severity::Medium,
            format!(
                "{} pooled databases are at work at once, and there is room for {}: some of their clients are refused; {there}; \
                 raise max_connections, or move tenants away",
                found.working, found.room
            ),
        );
    }
    if let Some(level) = found.resting {
        find(
            Severity::Low,
            format!(
                "the plans of {databases} pooled databases say {wanted} connections; {there}; whoever rests may open {level}, \
                 and gets more within seconds when its clients wait"
            ),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing<'a>(plans: &'a [(&'a str, u32, u64)]) -> Standing<'a> {
        let budget = Budget { connections: 17, oversubscription: 10 };
        Standing { budget, admits: 27, plans, resting: None, working: 0, room: 17 }
    }

    #[test]
    fn findings_say_what_is_wanted_what_is_given_and_what_to_do() {
        assert_eq!(findings(&standing(&[("small", 5, 3)])), []);
        let found = findings(&standing(&[("small", 5, 3), ("big", 50, 1)]));
        assert_eq!((found.len(), found[0].severity, found[0].code.as_str()), (1, Severity::Medium, "pooler_budget"));
        for word in ["plan big says 50", "more than 17", "it admits 27", "max_connections", "pool_size"] {
            assert!(found[0].message.contains(word), "{word}: {}", found[0].message);
        }
        let many = findings(&standing(&[("small", 1, 171)]));
        assert!(many[0].message.contains("171") && many[0].message.contains("oversubscription = 10"), "{many:?}");
        let busy = findings(&Standing { working: 20, room: 15, ..standing(&[("small", 1, 60)]) });
        assert!(busy[0].message.contains("20 pooled databases are at work at once, and there is room for 15"));
        let tight = findings(&Standing { resting: Some(2), ..standing(&[("small", 5, 60)]) });
        assert_eq!((tight.len(), tight[0].severity), (1, Severity::Low));
        assert!(tight[0].message.contains("say 300 connections"), "{tight:?}");
    }

    #[test]
    fn crowded_is_more_databases_than_connections() {
        assert!(!standing(&[("small", 5, 17)]).is_crowded());
        assert!(standing(&[("small", 1, 18)]).is_crowded());
    }
}
