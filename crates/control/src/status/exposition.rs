//! Prometheus' text format for what is read at a scrape. Only what is there now is told: a gauge that somebody holds keeps
//! telling of a server that was removed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

#[derive(Default)]
pub struct Scrape {
    families: BTreeMap<&'static str, Family>,
}

struct Family {
    kind: &'static str,
    help: &'static str,
    samples: Vec<(String, f64)>,
}

impl Scrape {
    pub fn gauge(&mut self, name: &'static str, help: &'static str, labels: &[(&str, &str)], value: f64) {
        self.sample("gauge", name, help, labels, value);
    }

    /// One that only rises.
    pub fn counter(&mut self, name: &'static str, help: &'static str, labels: &[(&str, &str)], value: f64) {
        self.sample("counter", name, help, labels, value);
    }

    /// Not known is not told.
    pub fn known(&mut self, name: &'static str, help: &'static str, labels: &[(&str, &str)], value: Option<f64>) {
        if let Some(value) = value {
            self.gauge(name, help, labels, value);
        }
    }

    pub fn render(&self) -> String {
        let mut text = String::new();
        for (name, family) in &self.families {
            let _ = write!(text, "# HELP {name} {}\n# TYPE {name} {}\n", family.help, family.kind);
            for (labels, value) in &family.samples {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
            text.push('\n');
        }
        text
    }

    fn sample(
        &mut self,
        kind: &'static str,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        let family = self.families.entry(name).or_insert(Family { kind, help, samples: Vec::new() });
        family.samples.push((rendered(labels), value));
    }
}

fn rendered(labels: &[(&str, &str)]) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_is_what_prometheus_reads() {
        let mut told = Scrape::default();
        told.gauge("freehold_b", "Second.", &[("server", "a\"b\\c\nd")], 1.5);
        told.counter("freehold_a", "First.", &[], 7.0);
        told.gauge("freehold_b", "Second.", &[("server", "x")], 0.0);
        told.known("freehold_c", "Never told.", &[], None);
        let expected = "# HELP freehold_a First.\n# TYPE freehold_a counter\nfreehold_a 7\n\n\
            # HELP freehold_b Second.\n# TYPE freehold_b gauge\nfreehold_b{server=\"a\\\"b\\\\c\\nd\"} 1.5\nfreehold_b{server=\"x\"} 0\n\n";
        assert_eq!(told.render(), expected);
    }
}
