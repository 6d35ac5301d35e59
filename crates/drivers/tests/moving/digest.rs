//! What the digests of both sides tell apart, whatever a table's columns are read as.

use freehold_drivers::server::sql::moving::differing;

use crate::glance::twins;

/// Read as values, as bytes, and as text. Each with nothing, with what is special of its type, and with what is not.
const TABLES: &str = r#"create type mood as enum ('sad', 'glad');
    create table "As values" (id bigint primary key, b bool, y bytea, c "char", n name, s smallint, i int, t text, o oid, v varchar(9),
        d date, ti time, ts timestamp, tz timestamptz, u uuid, f char(5));
    insert into "As values" values (1); insert into "As values" values (2, true, '\x00ff', 'x', 'n', -1, 7, 'ünï', 4294967295, '', '-infinity', '24:00', 'infinity', '0044-03-15 BC', '00000000-0000-0000-0000-000000000000', 'a'),
        (3, false, '', '', '', 32767, -7, '', 0, 'v', '2026-02-28', '00:00', '2026-02-28', '2026-02-28 12:00+02', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '');
    alter table "As values" drop column s;
    create table as_bytes (id bigint primary key, n numeric, j json, jb jsonb, tz timetz, iv interval, b3 bit(3), vb varbit, a inet, c cidr,
        m macaddr, m8 macaddr8, mo money, l pg_lsn, f bpchar);
    insert into as_bytes values (1); insert into as_bytes values (2, 'NaN', '{"a": 1,  "a": 2}', '{"a": 1.00, "b": [null]}', '24:00+15', '1 mon -30 days', '101', '', '::1/64', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', 0, '0/0', 'a '),
        (3, 1.00, '[]', '[]', '00:00-15', '24:00', '000', '1', '10.1.2.3', '::/0', 'ff:ff:ff:ff:ff:ff', 'ff:ff:ff:ff:ff:ff:ff:ff', '-1.25', 'FF/0', '');
    create table as_text (id bigint primary key, f float8, a int[], m mood, c regclass, p point, x tsvector);
    insert into as_text values (1); insert into as_text values (2, 'NaN', '[2:3]={1,null}', 'glad', 'as_bytes', '(1,-0)', 'a:1 b:2'), (3, '-0', '{}', 'sad', 'as_text', '(0,0)', '')"#;

/// A change of one value, and the table that is found to differ.
const BENT: [(&str, &str); 12] = [
    ("update \"As values\" set v = 'v ' where id = 3", "\"public\".\"As values\""),
    ("update \"As values\" set y = null where id = 3", "\"public\".\"As values\""),
    ("update \"As values\" set ts = ts + interval '1 microsecond' where id = 3", "\"public\".\"As values\""),
    ("update \"As values\" set tz = 'infinity' where id = 2", "\"public\".\"As values\""),
    ("delete from \"As values\" where id = 1", "\"public\".\"As values\""),
    ("update as_bytes set n = 1.0 where id = 3", "\"public\".\"as_bytes\""),
    ("update as_bytes set j = '{\"a\": 1, \"a\": 2}' where id = 2", "\"public\".\"as_bytes\""),
    ("update as_bytes set iv = '1 mon -720 hours' where id = 2", "\"public\".\"as_bytes\""),
    ("update as_bytes set f = 'a' where id = 2", "\"public\".\"as_bytes\""),
    ("update as_text set f = '0' where id = 3", "\"public\".\"as_text\""),
    ("update as_text set a = '{1,null}' where id = 2", "\"public\".\"as_text\""),
    ("update as_text set m = 'sad' where id = 2", "\"public\".\"as_text\""),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_pg15_to_pg18_tells_values_apart() {
    let world = twins(15, 18, TABLES).await;
    let (from, to) = (world.side(&world.old).await, world.side(&world.new).await);
    let ranges = from.ranges(1000).await.unwrap();
    let forms: Vec<String> = ranges.iter().map(|range| format!("{} {}", range.table, range.form)).collect();
    assert_eq!(
        forms,
        [r#""public"."As values" as values"#, r#""public"."as_bytes" as bytes"#, r#""public"."as_text" as text"#]
    );
    let here = from.digest(&ranges).await.unwrap();
    assert_eq!(differing(&here, &to.digest(&ranges).await.unwrap()), [], "{here:?}");
    // Read by the other side's own list as well.
    let theirs = to.ranges(1000).await.unwrap();
    assert_eq!(theirs, ranges);
    let superuser = world.new.connect(&world.tenant.database).await;
    let mut before = here;
    for (bend, table) in BENT {
        assert_eq!(superuser.execute(bend, &[]).await.unwrap(), 1, "{bend}");
        let now = to.digest(&ranges).await.unwrap();
        let found: Vec<String> = differing(&before, &now).into_iter().map(|range| range.table).collect();
        assert_eq!(found, [table], "{bend}");
        before = now;
    }
}
