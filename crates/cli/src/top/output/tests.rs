use super::*;
use crate::top::aggregate::{Aggregate, Sort};
use crate::top::{Output, json, render, sample};

fn aggregate() -> Aggregate {
    let mut aggregate = Aggregate::new(&By::ALL);
    sample::entries().iter().for_each(|entry| aggregate.add(entry));
    aggregate
}

fn largest(aggregate: &Aggregate, count: usize) -> Vec<Groups> {
    let groups = By::ALL.iter().filter_map(|by| aggregate.largest(*by, count, Sort::Entries));
    groups.collect()
}

#[test]
fn a_reading_for_people() {
    let aggregate = aggregate();
    let text = |form| render(form, &sample::figures(), &aggregate, &largest(&aggregate, 10)).unwrap();
    insta::assert_snapshot!("table", text(Output::Table));
    insta::assert_snapshot!("wide", text(Output::Wide));
}

#[test]
fn a_reading_for_programs() {
    let aggregate = aggregate();
    let json = json::json(&sample::figures(), 7, &largest(&aggregate, 1)).unwrap();
    insta::assert_snapshot!("json", json);
}

#[test]
fn what_is_left_out_is_said() {
    let mut groups = largest(&aggregate(), 1).remove(1);
    assert_eq!(remark(&groups).as_deref(), Some("(4 more)"));
    groups.too_low_by = 3;
    assert_eq!(remark(&groups).as_deref(), Some("(at least 4 more; a figure may be up to 3 too low)"));
    groups.others = 0;
    assert!(remark(&groups).is_some_and(|remark| remark.contains("3 too low")));
}

#[test]
fn an_unlimited_table_has_no_utilisation() {
    let mut unlimited = sample::figures();
    unlimited.stats.max = 0;
    let text = figures(&unlimited, false);
    assert!(text.contains("unlimited   -"), "{text}");
}

#[test]
fn protocols_have_their_usual_names() {
    assert_eq!(protocol_name(6), "tcp");
    assert_eq!(protocol_name(89), "89");
}
