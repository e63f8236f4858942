use super::*;

/// A listing of one table with a chain of forwarded packets, other chains and rules.
fn listing(table: (&str, &str), chain: (&str, &str), others: &[&str], rules: &[Value]) -> String {
    let (family, table) = table;
    let (name, policy) = chain;
    let mut objects = vec![serde_json::json!({ "chain": {
        "family": family, "table": table, "name": name, "type": "filter", "hook": "forward", "prio": 0,
        "policy": policy,
    } })];
    objects.extend(
        others
            .iter()
            .map(|other| serde_json::json!({ "chain": { "family": family, "table": table, "name": other } })),
    );
    objects.extend(rules.iter().map(|expressions| {
        serde_json::json!({ "rule": { "family": family, "table": table, "chain": name, "expr": expressions } })
    }));
    serde_json::json!({ "nftables": objects }).to_string()
}

fn of_device(name: &str) -> Value {
    serde_json::json!([
        { "match": { "op": "==", "left": { "meta": { "key": "iifname" } }, "right": name } },
        { "accept": null },
    ])
}

#[test]
fn who_drops_is_known_by_names_of_the_rules() {
    let refuses = serde_json::json!([{ "reject": { "type": "icmpx", "expr": "admin-prohibited" } }]);
    for (table, chain, others, rules, expected) in [
        (("ip", "filter"), ("FORWARD", "drop"), &["DOCKER-USER"][..], vec![], Some("docker")),
        (("ip6", "filter"), ("FORWARD", "drop"), &["ufw6-before-forward"], vec![], Some("ufw")),
        (("ip", "filter"), ("FORWARD", "drop"), &[], vec![], Some("iptables")),
        (("inet", "firewalld"), ("filter_FORWARD", "accept"), &[], vec![refuses.clone()], Some("firewalld")),
        (("inet", "corp"), ("fwd", "drop"), &[], vec![], Some("corp")),
        (("inet", "corp"), ("fwd", "drop"), &[], vec![of_device("vmu-lab")], None),
        (("inet", "corp"), ("fwd", "drop"), &[], vec![of_device("vmu*")], None),
        (("inet", "corp"), ("fwd", "drop"), &[], vec![of_device("vmu-other")], Some("corp")),
        (("inet", "corp"), ("fwd", "accept"), &[], vec![], None),
        (("inet", "vmlan_other"), ("forward", "drop"), &[], vec![], None),
        (("bridge", "corp"), ("fwd", "drop"), &[], vec![], None),
    ] {
        let text = listing(table, chain, others, &rules);
        let found = in_nft(&text, "vmu-lab");
        assert_eq!(found.first().map(|it| it.owner.as_str()), expected, "{table:?} {chain:?} {others:?}");
    }
}

#[test]
fn a_cure_names_the_device() {
    let text = listing(("inet", "corp"), ("fwd", "drop"), &[], &[]);
    let note = in_nft(&text, "vmu-lab")[0].note();
    assert!(
        note.starts_with("blocked by corp") && note.contains("insert rule inet corp fwd iifname vmu-lab"),
        "{note}"
    );
}

#[test]
fn what_is_no_listing_blocks_nothing() {
    for text in ["", "{}", "[]", "{\"nftables\": 7}", "{\"nftables\": [{\"chain\": 1}]}"] {
        assert_eq!(in_nft(text, "vmu-lab"), [], "{text}");
    }
}

#[test]
fn legacy_tables_are_told_too() {
    let saved = |policy: &str, rule: &str| {
        format!(
            "*nat\n:FORWARD DROP [0:0]\n*filter\n:INPUT ACCEPT [0:0]\n:FORWARD {policy} [0:0]\n:DOCKER-USER - [0:0]\n{rule}\nCOMMIT\n"
        )
    };
    let found = in_legacy(&saved("DROP", ""), "ip6", "vmu-lab").unwrap();
    assert!(found.legacy && found.v6, "{found:?}");
    assert!(found.owner == "docker" && found.cure.contains("DOCKER-USER -i vmu-lab"), "{found:?}");
    assert_eq!(in_legacy(&saved("ACCEPT", ""), "ip", "vmu-lab"), None);
    assert_eq!(in_legacy(&saved("DROP", "-A DOCKER-USER -i vmu-lab -j ACCEPT"), "ip", "vmu-lab"), None);
}
