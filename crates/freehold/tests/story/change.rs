//! Issue 2, item 3: PATCH is a merge patch under an ETag; lists filter and page without missing or repeating.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::json;

use crate::common::{create, create_as, dev, expect, ids, problem, walk};

#[tokio::test]
async fn story_a_tenant_is_changed_by_a_merge_patch_under_its_etag() {
    let plane = dev().stock(1).start().await;
    create_as(&plane, json!({"id": "acme", "name": "Acme", "labels": {"a": "1", "b": "2"}})).await;
    let path = "/v1/tenants/acme";
    let first = plane.get(path).await;
    let etag = first.1["etag"].to_str().unwrap().to_owned();

    let answer = plane.patch(path, json!({"labels": {"a": null, "c": "3"}})).await;
    let body = expect(&answer, 200);
    assert_eq!((&body["labels"], &body["name"]), (&json!({"b": "2", "c": "3"}), &json!("Acme")));
    let newer = answer.1["etag"].to_str().unwrap().to_owned();
    assert_ne!(newer, etag);
    assert_eq!(plane.get(path).await.1["etag"].to_str().unwrap(), newer);

    let change = json!({"name": "שלום \u{202e}RTL"});
    let patch = |tag: String| {
        let change = change.clone();
        let plane = &plane;
        async move { plane.request(Method::PATCH, path, &[("if-match", &tag)], Some(change)).await }
    };
    problem(&patch(etag.clone()).await, 412, "precondition_failed");
    assert_eq!(plane.get(path).await.2["name"], "Acme");
    let answer = patch(format!("{etag}, {newer}")).await;
    assert_eq!(expect(&answer, 200)["name"], "שלום \u{202e}RTL");
    expect(&patch("*".into()).await, 200);

    // Of many at once under one tag, one wins.
    let tag = plane.get(path).await.1["etag"].to_str().unwrap().to_owned();
    let one = |n: i32| {
        let (plane, tag) = (&plane, tag.clone());
        async move {
            let body = json!({"labels": {"n": n.to_string()}});
            plane.request(Method::PATCH, path, &[("if-match", &tag)], Some(body)).await.0
        }
    };
    let statuses = futures::future::join_all((0..10).map(one)).await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 9, "{statuses:?}");

    // RFC 7396: null clears. A cleared name falls back to the id, as a create without one.
    let merge = [("content-type", "application/merge-patch+json")];
    let cleared = plane.request(Method::PATCH, path, &merge, Some(json!({"labels": {"n": null}}))).await;
    assert_eq!(expect(&cleared, 200)["labels"], json!({"b": "2", "c": "3"}));
    let empty = plane.patch(path, json!({})).await;
    assert_eq!(expect(&empty, 200)["labels"], json!({"b": "2", "c": "3"}));
    for body in [
        json!({"state": "deleted"}),
        json!({"name": ""}),
        json!({"name": "x".repeat(513)}),
        json!({"labels": {"a=b": "x"}}),
        json!({"labels": {"": "x"}}),
        json!({"labels": {"long": "x".repeat(201)}}),
        json!({"labels": (0..33).map(|n| (format!("k{n}"), "v".into())).collect::<std::collections::BTreeMap<_, String>>()}),
        json!({"deletion_protection": "yes"}),
        json!([]),
        json!("x"),
    ] {
        problem(&plane.patch(path, body).await, 422, "invalid");
    }
    problem(&plane.patch("/v1/tenants/none", json!({})).await, 404, "not_found");
}

#[tokio::test]
async fn story_a_list_is_filtered_and_paged() {
    let plane = dev().stock(8).start().await;
    for (id, name, tier, site) in [
        ("alpha", "Zeta", "gold", "eu"),
        ("alpine", "alp GmbH", "gold", "us"),
        ("beta", "Alpaca_Ltd", "free", "eu"),
        ("delta", "ÄLPLER", "free", "a=b"),
        ("eps", "alp%", "gold", "eu"),
        ("zeta", "alpha", "free", "us"),
    ] {
        create_as(&plane, json!({"id": id, "name": name, "labels": {"tier": tier, "site": site}})).await;
    }
    expect(&plane.post("/v1/tenants/beta/suspend", json!({})).await, 200);

    let all = ids(&walk(&plane, "/v1/tenants", 500).await);
    assert_eq!(all, ["alpha", "alpine", "beta", "delta", "eps", "zeta"]);
    for (filter, expected) in [
        ("label=tier=gold", vec!["alpha", "alpine", "eps"]),
        ("label=tier=gold&label=site=eu", vec!["alpha", "eps"]),
        ("label=site=a=b", vec!["delta"]),
        ("label=tier=none", vec![]),
        ("state=suspended", vec!["beta"]),
        ("state=active&label=tier=free", vec!["delta", "zeta"]),
        ("plan=standard", vec!["alpha", "alpine", "beta", "delta", "eps", "zeta"]),
        ("plan=none", vec![]),
        ("server=local-1&template=default", vec!["alpha", "alpine", "beta", "delta", "eps", "zeta"]),
        ("template=railzway", vec![]),
        // Ids first, in their order; then names, in theirs.
        ("q=alp", vec!["alpha", "alpine", "beta", "eps", "zeta"]),
        ("q=ALP", vec!["alpha", "alpine", "beta", "eps", "zeta"]),
        ("q=alp%25", vec!["eps"]),
        ("q=alpaca_", vec!["beta"]),
        ("q=%C3%A4lp", vec!["delta"]),
        ("q=%5C", vec![]),
        ("q=alp&label=tier=gold", vec!["alpha", "alpine", "eps"]),
    ] {
        let whole = ids(&walk(&plane, &format!("/v1/tenants?{filter}"), 500).await);
        let found: BTreeSet<_> = whole.iter().map(String::as_str).collect();
        assert_eq!(found, expected.iter().copied().collect(), "{filter}");
        // Paging changes neither what is found nor its order.
        for limit in [1, 2, 3] {
            assert_eq!(ids(&walk(&plane, &format!("/v1/tenants?{filter}"), limit).await), whole, "{filter} by {limit}");
        }
    }
    for bad in [
        "limit=0",
        "limit=501",
        "limit=x",
        "cursor=x",
        "cursor=",
        "label=x",
        "label==x",
        "state=dead",
        "q=",
        "colour=red",
        "plan=a&plan=b",
        "q=%00",
        "limit=-1",
        "limit=99999999999999999999",
    ] {
        let answer = plane.get(&format!("/v1/tenants?{bad}")).await;
        assert!((400..500).contains(&answer.0), "{bad}: {} {}", answer.0, answer.2);
    }

    // A list walked while tenants come: nobody who was there is missed or told twice.
    let walker = walk(&plane, "/v1/tenants", 1);
    let maker = async {
        for id in ["a0", "b0", "zz"] {
            create(&plane, id).await;
        }
    };
    let (walked, ()) = tokio::join!(walker, maker);
    let walked = ids(&walked);
    let distinct: BTreeSet<_> = walked.iter().collect();
    assert_eq!(distinct.len(), walked.len(), "{walked:?}");
    assert!(all.iter().all(|id| distinct.contains(id)), "{walked:?}");

    // The other lists, by the same rules.
    for path in ["/v1/operations", "/v1/audit", "/v1/templates", "/v1/servers", "/v1/plans", "/v1/keys"] {
        let whole = walk(&plane, path, 500).await;
        let paged = walk(&plane, path, 2).await;
        let begins_with =
            |items: &[serde_json::Value]| items.iter().map(|item| item.to_string()).collect::<BTreeSet<_>>().len();
        assert_eq!(begins_with(&paged), paged.len(), "{path} tells something twice");
        assert!(paged.len() >= whole.len(), "{path}: {} of {}", paged.len(), whole.len());
    }
}
