//! The alert rules are rules, of metrics that there are, and each leads to a page that says what to do.

use std::collections::BTreeSet;
use std::process::Command;

use regex::Regex;

use crate::tables::{firsts, table};
use crate::{pages, read, root};

const RULES: &str = "deploy/alerts/freehold.rules.yml";

fn promtool(args: &[&str]) -> String {
    let output = Command::new("promtool").args(args).current_dir(root()).output();
    let output = output.expect("promtool is not on this machine; run: scripts/needs test (Debian package prometheus)");
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {args:?}: {told}");
    told
}

#[test]
fn alerts_are_rules_and_fire_when_they_should() {
    let told = promtool(&["check", "rules", RULES]);
    assert!(told.contains("SUCCESS") && !told.contains("duplicate"), "{told}");
    promtool(&["test", "rules", "deploy/alerts/freehold.test.yml"]);
}

#[test]
fn alerts_ask_for_metrics_that_there_are() {
    let known = firsts(&table("docs/operate.md", "## Metrics"));
    let named = Regex::new("freehold_[a-z0-9_]+").expect("a pattern");
    let rules = read(RULES);
    let asked: BTreeSet<&str> = named.find_iter(&rules).map(|found| found.as_str()).collect();
    assert!(asked.len() > 15, "{asked:?}");
    let unknown: Vec<_> = asked.iter().filter(|name| !known.contains(**name)).collect();
    assert!(unknown.is_empty(), "no such metrics: {unknown:?}");
    // What is worth a row is worth an alert, or says only how much there is.
    let told_of = named.find_iter(&rules).count();
    assert!(told_of > 25, "{told_of}");
}

#[test]
fn alerts_lead_to_what_to_do() {
    let rules = read(RULES);
    let alerts = rules.matches("- alert: ").count();
    let pattern = Regex::new(r"(?m)^\s+runbook_url: (\S+)#(\S+)$").expect("a pattern");
    let urls: Vec<(String, String)> =
        pattern.captures_iter(&rules).map(|found| (found[1].to_owned(), found[2].to_owned())).collect();
    assert_eq!((urls.len(), alerts > 20), (alerts, true), "each alert has one runbook_url");
    assert_eq!(rules.matches("summary: ").count(), alerts, "each alert says what it means");
    for (page, heading) in &urls {
        assert!(pages().contains(page), "{page} is no page of the documentation");
        assert!(headings(page).contains(heading), "{page} has no heading {heading:?}");
    }
    // And no runbook is there for nothing.
    let wanted: BTreeSet<String> = urls.iter().map(|(page, heading)| format!("{page}#{heading}")).collect();
    for page in pages().into_iter().filter(|page| page.starts_with("docs/runbooks/")) {
        for heading in headings(&page) {
            assert!(wanted.contains(&format!("{page}#{heading}")), "no alert leads to {page}#{heading}");
        }
    }
}

#[test]
fn links_to_headings_lead_there() {
    let links = Regex::new(r"\]\(([^)#\s:]*)#([^)\s]+)\)").expect("a pattern");
    let mut wrong = Vec::new();
    for page in pages() {
        for link in links.captures_iter(&read(&page)) {
            let directory = page.rsplit_once('/').map_or("", |(directory, _)| directory);
            let target = match &link[1] {
                "" => page.clone(),
                path => plain(&format!("{directory}/{path}")),
            };
            if !headings(&target).contains(&link[2]) {
                wrong.push(format!("{page}: ({}#{})", &link[1], &link[2]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `docs/runbooks/../secure.md` is `docs/secure.md`.
fn plain(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

/// As the places where these pages are read call them.
fn headings(page: &str) -> BTreeSet<String> {
    let text = read(page);
    let titles = text.lines().filter_map(|line| line.strip_prefix("## ").or_else(|| line.strip_prefix("### ")));
    let slug = |title: &str| -> String {
        let kept =
            title.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>();
        kept.replace(' ', "-")
    };
    titles.map(slug).collect()
}
