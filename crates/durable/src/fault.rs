//! Fault points: named places where a test makes a worker fail, stop or die. In release builds they compile to nothing.
//!
//! `FREEHOLD_FAULTS="tenant.create/Database/after=kill,stock.build/Roles/before=fail*2"`: `kind/Step/point=action[*times]`.
//! A part may be `*`. Actions: `kill`, `stop` (SIGSTOP), `fail` (transient), `permanent`, `stuck`, `sleep:MS`.
//! The engine has three points in every step: `before` it runs, `after` its effects and before its record, and `recorded`.

use crate::operation::Failure;

/// Replaces the armed faults, for tests in this process.
pub fn arm(spec: &str) {
    #[cfg(debug_assertions)]
    armed::replace(spec);
    #[cfg(not(debug_assertions))]
    let _ = spec;
}

/// How often a fault point fired in this process.
pub fn fired() -> usize {
    #[cfg(debug_assertions)]
    return armed::fired();
    #[cfg(not(debug_assertions))]
    0
}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn hit(_kind: &str, _step: &str, _point: &str) -> Result<(), Failure> {
    Ok(())
}

#[cfg(debug_assertions)]
pub(crate) use armed::hit;

#[cfg(debug_assertions)]
mod armed {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{LazyLock, Mutex, PoisonError};
    use std::time::Duration;

    use nix::sys::signal::{Signal, kill, raise};
    use nix::unistd::Pid;
    use tokio::runtime::{Handle, RuntimeFlavor};

    use super::Failure;

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Action {
        Kill,
        Stop,
        Fail,
        Permanent,
        Stuck,
        Sleep(Duration),
    }

    #[derive(Debug)]
    struct Rule {
        point: Vec<String>,
        action: Action,
        left: usize,
    }

    static RULES: LazyLock<Mutex<Vec<Rule>>> =
        LazyLock::new(|| Mutex::new(parse(&std::env::var("FREEHOLD_FAULTS").unwrap_or_default())));
    static FIRED: AtomicUsize = AtomicUsize::new(0);

    pub(super) fn replace(spec: &str) {
        *RULES.lock().unwrap_or_else(PoisonError::into_inner) = parse(spec);
    }

    pub(super) fn fired() -> usize {
        FIRED.load(Ordering::Relaxed)
    }

    pub(crate) fn hit(kind: &str, step: &str, point: &str) -> Result<(), Failure> {
        let Some(action) = take(&[kind, step, point]) else {
            return Ok(());
        };
        FIRED.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(kind, step, point, ?action, "fault point fires");
        let message = format!("fault point {kind}/{step}/{point}");
        match action {
            Action::Kill => die(),
            // To this thread, which stops all of them: sent to the process another may take it, and this one goes on meanwhile.
            Action::Stop => drop(raise(Signal::SIGSTOP)),
            Action::Sleep(time) => sleep(time),
            Action::Fail => return Err(Failure::transient("fault", message)),
            Action::Permanent => return Err(Failure::permanent("fault", message)),
            Action::Stuck => return Err(Failure::stuck("fault", message)),
        }
        Ok(())
    }

    fn die() {
        // To the process, not the thread: nothing of it may go on.
        if kill(Pid::this(), Signal::SIGKILL).is_err() {
            let _ = raise(Signal::SIGKILL);
        }
    }

    fn sleep(time: Duration) {
        // A fault point is not async, and the heartbeat must go on meanwhile.
        match Handle::try_current().map(|handle| handle.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(|| std::thread::sleep(time)),
            _ => std::thread::sleep(time),
        }
    }

    fn take(at: &[&str; 3]) -> Option<Action> {
        let mut rules = RULES.lock().unwrap_or_else(PoisonError::into_inner);
        let rule = rules.iter_mut().find(|rule| {
            rule.left > 0
                && rule.point.len() == 3
                && rule.point.iter().zip(at).all(|(part, here)| part == "*" || part == here)
        })?;
        rule.left -= 1;
        Some(rule.action)
    }

    fn parse(spec: &str) -> Vec<Rule> {
        spec.split(',').map(str::trim).filter(|rule| !rule.is_empty()).filter_map(parse_rule).collect()
    }

    fn parse_rule(text: &str) -> Option<Rule> {
        let rule = text.split_once('=').and_then(|(point, action)| {
            let (action, left) = match action.split_once('*') {
                Some((action, times)) => (action, times.parse().ok()?),
                None => (action, usize::MAX),
            };
            let action = match action {
                "kill" => Action::Kill,
                "stop" => Action::Stop,
                "fail" => Action::Fail,
                "permanent" => Action::Permanent,
                "stuck" => Action::Stuck,
                other => Action::Sleep(Duration::from_millis(other.strip_prefix("sleep:")?.parse().ok()?)),
            };
            Some(Rule { point: point.split('/').map(str::to_owned).collect(), action, left })
        });
        if rule.is_none() {
            tracing::error!(rule = text, "not a fault: want kind/Step/point=action[*times]");
        }
        rule
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn rules_are_read() {
            let rules = parse("a.b/Step/before=fail*2, */*/after=sleep:5,nonsense");
            assert_eq!(rules.len(), 2);
            assert_eq!((rules[0].action, rules[0].left), (Action::Fail, 2));
            assert_eq!(rules[1].action, Action::Sleep(Duration::from_millis(5)));
        }
    }
}
