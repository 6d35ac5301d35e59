//! Listing and showing tenants with 100 and with 100,000 in the store, taking turns.
//! The rows are put into the store by hand, on servers that are in maintenance, so that no loop looks for them.

use std::path::Path;

use crate::bench::Bench;
use crate::report::{Goal, Report, Row};
use crate::samples::{Samples, timed};
use crate::{Res, Scale, say};

const FEW: usize = 100;
/// The slowest hundredth of one turn is what something else on this machine did meanwhile, if it did anything.
const TURNS: usize = 5;
const GOAL: Option<Goal> = Some(Goal::AtMost(1.5));

/// Every filter, alone and with others.
const LISTS: [(&str, &str); 21] = [
    ("all", ""),
    ("plan", "plan=team"),
    ("state", "state=suspended"),
    ("server", "server=fake-3"),
    ("template", "template=saasodoo"),
    ("movable, most are", "movable=logical"),
    ("movable, few are not", "movable=none"),
    ("label, many have it", "label=tier=gold"),
    ("label, few have it", "label=cohort=c2"),
    ("label, nobody has it", "label=cohort=none"),
    ("q by id, narrow", "q=t00004"),
    ("q by id, broad", "q=t"),
    ("q by name, narrow", "q=Customer%2000004"),
    ("q by name, broad", "q=customer"),
    ("q, nobody has it", "q=nobody"),
    ("plan, state", "plan=team&state=suspended"),
    ("plan, label", "plan=team&label=tier=gold"),
    ("state, two labels", "state=active&label=tier=gold&label=cohort=c2"),
    ("server, q by name", "server=fake-3&q=customer"),
    ("server, movable", "server=fake-3&movable=logical"),
    ("plan, state, server, template", "plan=team&state=active&server=fake-3&template=saasodoo"),
];

/// Of both there are as many as the fleet is large: finding that none has both takes the longer the larger it is, with any
/// index that is not made for just these two. Shown, without a goal.
const NEVER_MEET: &str = "plan=team&label=parity=even";

pub async fn run(binary: &Path, scale: &Scale, report: &mut Report) -> Res<()> {
    say("listing: starting two planes, filling their stores");
    let few = Bench::start(binary, &[]).await?;
    let many = Bench::start(binary, &[]).await?;
    fill(&few, FEW).await?;
    fill(&many, scale.store_tenants).await?;
    let name = |what: &str| format!("{what} with {} tenants in the store", scale.store_tenants);
    say("listing: taking turns");
    for (what, query) in LISTS {
        // What is compared is pages of one length: of some there are fewer among a hundred.
        let page = few.get(&format!("/v1/tenants?limit=20&{query}")).await?;
        let limit = page["items"].as_array().map_or(0, Vec::len);
        let path = format!("/v1/tenants?limit={}&{query}", if limit == 0 { 20 } else { limit });
        compare(report, &name(&format!("list: {what}")), scale, [(&few, &path), (&many, &path)], GOAL).await?;
    }
    let path = format!("/v1/tenants?limit=20&{NEVER_MEET}");
    compare(report, &name("list: two filters that never meet"), scale, [(&few, &path), (&many, &path)], None).await?;
    // The page in the middle.
    let middle = |count: usize| format!("/v1/tenants?limit=20&cursor={}", cursor(&format!("t{:06}", count / 2)));
    let (path_few, path_many) = (middle(FEW), middle(scale.store_tenants));
    compare(report, &name("list: a page in the middle"), scale, [(&few, &path_few), (&many, &path_many)], GOAL).await?;
    let path = "/v1/tenants/t000042".to_owned();
    compare(report, &name("show"), scale, [(&few, &path), (&many, &path)], GOAL).await?;
    Ok(())
}

async fn compare(
    report: &mut Report,
    name: &str,
    scale: &Scale,
    sides: [(&Bench, &String); 2],
    goal: Option<Goal>,
) -> Res<()> {
    let mut samples = [Samples::default(), Samples::default()];
    let mut slowest = Samples::default();
    // Connections, plans and caches first: they count for neither.
    for _ in 0..8 {
        for (bench, path) in sides {
            bench.get(path).await?;
        }
    }
    let mut lengths = [0, 0];
    for _ in 0..TURNS {
        let mut turn = [Samples::default(), Samples::default()];
        for _ in 0..scale.store_samples.div_ceil(TURNS) {
            for (index, (bench, path)) in sides.into_iter().enumerate() {
                let body = timed(&mut turn[index], bench.get(path)).await?;
                lengths[index] = body["items"].as_array().map_or(1, Vec::len);
            }
        }
        slowest.push_ms(turn[1].p99() / turn[0].p99());
        for (all, turn) in samples.iter_mut().zip(turn) {
            all.extend(turn);
        }
    }
    let [few, many] = &samples;
    report.add(
        Row::of(name, many)
            .note(format!("{} and {} rows", lengths[0], lengths[1]))
            .ratio(("p50 many", many.p50()), ("few", few.p50()), goal)
            .ratio_of_turns("p99 many", "few", &slowest, goal),
    );
    Ok(())
}

/// As the API makes them: opaque to callers, but the bench must begin in the middle.
fn cursor(id: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let text = format!("{{\"Id\":\"{id}\"}}");
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            encoded.push(char::from(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize]));
        }
    }
    encoded
}

/// Ten servers, and tenants with a database, two logins and three labels each. What they have is independent, but for one label.
pub async fn fill(bench: &Bench, count: usize) -> Res<()> {
    let store = bench.store().await?;
    let last = count - 1;
    store
        .batch_execute(&format!(
            "BEGIN;
             INSERT INTO server (id, kind, state, capacity, dsn, dsn_sealed, dsn_seal_id, tenant_host, tenant_port, tenant_sslmode)
             SELECT 'fake-' || n, 'shared', 'maintenance', 1000000, 'postgres://nobody@127.0.0.1:1/postgres', '', gen_random_uuid(),
                 '127.0.0.1', 1, 'disable' FROM generate_series(0, 9) n;
             INSERT INTO tenant (id, name, plan, template, template_version, state, server_id)
             SELECT 't' || to_char(n, 'FM000000'), 'Customer ' || to_char(n, 'FM000000'),
                 (array['starter', 'team', 'business', 'enterprise'])[n % 4 + 1],
                 (array['default', 'saasodoo', 'railzway'])[1 + abs(hashint4(n)) % 3], 'v1',
                 CASE WHEN abs(hashint4(n + 1)) % 5 = 1 THEN 'suspended' ELSE 'active' END, 'fake-' || abs(hashint4(n + 2)) % 10
             FROM generate_series(0, {last}) n;
             INSERT INTO tenant_label (tenant_id, key, value)
             SELECT 't' || to_char(n, 'FM000000'), 'tier', (array['gold', 'silver'])[1 + abs(hashint4(n + 3)) % 2] FROM generate_series(0, {last}) n;
             INSERT INTO tenant_label (tenant_id, key, value)
             SELECT 't' || to_char(n, 'FM000000'), 'cohort', 'c' || n / 20 FROM generate_series(0, {last}) n;
             INSERT INTO tenant_label (tenant_id, key, value)
             SELECT 't' || to_char(n, 'FM000000'), 'parity', (array['even', 'odd'])[n % 2 + 1] FROM generate_series(0, {last}) n;
             INSERT INTO tenant_database (id, server_id, template, template_version, plan, state, tenant_id, database, owner,
                 ready_at, claimed_at, noted_at)
             SELECT gen_random_uuid(), server_id, template, template_version, plan, 'claimed', id, 'fh_' || id, 'fh_' || id, now(), now(), now()
             FROM tenant;
             INSERT INTO login (id, database_id, server_id, purpose, role, password, verifier)
             SELECT gen_random_uuid(), d.id, d.server_id, p, d.owner || '_' || left(p, 1), '', 'SCRAM-SHA-256$4096:' || repeat('x', 100)
             FROM tenant_database d, unnest(array['tenant', 'maintenance']) p WHERE d.state = 'claimed';
             INSERT INTO movability (tenant_id, at, score, method, due_at)
             SELECT id, now(), 90, CASE WHEN abs(hashint4(right(id, 6)::int + 4)) % 50 = 0 THEN NULL ELSE 'logical' END, 'infinity' FROM tenant;
             COMMIT;
             ANALYZE"
        ))
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_is_base64_without_padding() {
        assert_eq!(cursor("t000050"), "eyJJZCI6InQwMDAwNTAifQ");
    }
}
