use super::*;
use crate::attr::{Buffer, Messages, Writer};
use crate::conntrack::Family;

fn expr(writer: &mut Writer<'_>, name: &str, data: impl FnOnce(&mut Writer<'_>)) {
    writer.nested(1, |writer| {
        writer.text(NFTA_EXPR_NAME, name);
        writer.nested(NFTA_EXPR_DATA, data);
    });
}

/// What one rule of a table shows.
fn findings(family: u8, table: &str, fill: impl FnOnce(&mut Writer<'_>)) -> Findings {
    let mut buffer = Buffer::new();
    buffer.nfnl(0, 0, 0, family, 0, |writer| {
        writer.text(NFTA_TABLE, table);
        writer.text(NFTA_RULE_CHAIN, "input");
        writer.nested(NFTA_RULE_EXPRESSIONS, |writer| {
            expr(writer, "meta", |_| {});
            fill(writer);
        });
    });
    let bytes = buffer.finish().unwrap();
    let message = Messages::new(&bytes).next().unwrap().unwrap();
    let mut findings = Findings::default();
    note(&message, rule, "notrack-dev", &mut findings).unwrap();
    findings
}

#[test]
fn a_rule_is_evidence_for_its_families() {
    let found = findings(2, "filter", |writer| expr(writer, "ct", |_| {}));
    assert_eq!(found.of(Family::V4).foreign.as_deref(), Some("nftables table ip filter: ct in chain input"));
    assert_eq!(found.of(Family::V6).foreign, None);
    for both in [1, 7] {
        let found = findings(both, "filter", |writer| expr(writer, "masq", |_| {}));
        assert!(found.of(Family::V4).foreign.is_some() && found.of(Family::V6).foreign.is_some());
    }
}

#[test]
fn our_own_table_is_no_evidence_but_is_noticed() {
    let found = findings(1, "notrack-dev", |writer| expr(writer, "ct", |_| {}));
    assert_eq!(found.of(Family::V4).foreign, None);
    assert!(found.of(Family::V4).own && found.of(Family::V6).own);
    let found = findings(2, "notrack-dev", |writer| expr(writer, "ct", |_| {}));
    assert!(found.of(Family::V4).foreign.is_some(), "ours is of family inet");
}

#[test]
fn what_skips_tracking_is_no_evidence() {
    for skip in [
        findings(1, "raw", |writer| expr(writer, "notrack", |_| {})),
        findings(2, "raw", |writer| {
            expr(writer, "target", |writer| {
                writer.text(NFTA_XT_NAME, "CT");
                writer.bytes(NFTA_XT_INFO, &[1, 0, 0, 0]);
            });
        }),
    ] {
        assert_eq!(skip, Findings::default());
    }
}

#[test]
fn extensions_and_nested_expressions_count() {
    let compat = findings(10, "filter", |writer| {
        expr(writer, "match", |writer| writer.text(NFTA_XT_NAME, "conntrack"));
    });
    assert_eq!(
        compat.of(Family::V6).foreign.as_deref(),
        Some("nftables table ip6 filter: match conntrack in chain input")
    );
    let meter = findings(2, "t", |writer| {
        expr(writer, "dynset", |writer| {
            writer.nested(NFTA_DYNSET_EXPR, |writer| {
                writer.text(NFTA_EXPR_NAME, "connlimit");
            });
        });
    });
    assert!(meter.of(Family::V4).foreign.is_some());
}
