//! What 1,000 policies cost: compile, render for a node, and the difference when one of them changes.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use notrack_core::compile::compile;
use notrack_core::diff::{Observed, ObservedChain, ObservedSet, diff};
use notrack_core::facts::NodeFacts;
use notrack_core::index::Index;
use notrack_core::manifest::parse;
use notrack_core::nf::Table;
use notrack_core::policy::validate;
use notrack_core::rules::render;

const POLICIES: u32 = 1000;

fn text(number: u32, peer: u32) -> String {
    format!(
        "apiVersion: notrack.dev/v1alpha1\nkind: NoTrackPolicy\nmetadata: {{name: p{number}}}\nspec:\n  \
         nodeSelector: {{}}\n  mode: Enforce\n  flows:\n  - name: a\n    action: NoTrack\n    role: Server\n    \
         ports: [{{protocol: UDP, port: {}}}]\n    peers: [{{cidr: 10.{}.{}.0/24}}]\n",
        11000 + number,
        peer / 256,
        peer % 256,
    )
}

fn index(changed: Option<u32>) -> Index {
    let mut index = Index::default();
    for number in 0..POLICIES {
        let peer = if changed == Some(number) { number + POLICIES } else { number };
        let manifests = parse("bench", &text(number, peer)).into_result().unwrap();
        index.apply(validate(&manifests[0].policy).unwrap());
    }
    index
}

/// A table as it would be read back.
fn observed(table: &Table) -> Observed {
    let chain = |chain: &notrack_core::nf::Chain| ObservedChain {
        base: chain.base,
        accepts: true,
        rules: chain.rules.iter().map(notrack_core::nf::Rule::lower).collect(),
    };
    let set = |set: &notrack_core::nf::Set| ObservedSet {
        spec: set.spec.clone(),
        size: None,
        elements: set.elements.clone(),
    };
    Observed {
        counters: table.counters.iter().map(|name| (name.clone(), Default::default())).collect(),
        chains: table.chains.iter().map(|(name, value)| (name.clone(), chain(value))).collect(),
        sets: table.sets.iter().map(|(name, value)| (name.clone(), set(value))).collect(),
        foreign: Vec::new(),
    }
}

fn policies(criterion: &mut Criterion) {
    let (labels, facts) = (BTreeMap::new(), NodeFacts::assumed());
    let all = index(None);
    criterion.bench_function("compile 1,000 policies", |bencher| {
        bencher.iter(|| compile(black_box(&all), &labels, 0));
    });
    let rule_set = compile(&all, &labels, 0);
    criterion.bench_function("render 1,000 policies for a node", |bencher| {
        bencher.iter(|| render(black_box(&rule_set), &facts, None).unwrap());
    });
    let before = observed(&render(&rule_set, &facts, None).unwrap().table);
    let after = render(&compile(&index(Some(500)), &labels, 0), &facts, None).unwrap().table;
    criterion.bench_function("difference of one policy among 1,000", |bencher| {
        bencher.iter(|| diff(black_box(Some(&before)), &after));
    });
    assert!(diff(Some(&before), &after).ops.len() < 60, "one policy of 1,000 must stay a small transaction");
}

criterion_group!(benches, policies);
criterion_main!(benches);
